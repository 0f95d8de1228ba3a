package explore

import "path"

// v1Actions are what cgroup v1 has instead of partitions.
var v1Actions = []Action{
	{Name: "balance", Weight: 2, Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return d.set(balanceFile, Pick(d, []string{"0", "1"}))
	}},
	// While the root cpuset balances all CPUs, it does not matter what the
	// others say.
	{Name: "balance-root", Weight: 2, Alone: true, Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return "echo " + Pick(d, []string{"0", "0", "1"}) + " > " + rootGroup + "/" + balanceFile
	}},
	{Name: "cpu-exclusive", Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return d.set("cpuset.cpu_exclusive", Pick(d, []string{"0", "1", "1"}))
	}},
	{Name: "mem-exclusive", Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return d.set("cpuset.mem_exclusive", Pick(d, []string{"0", "1"}))
	}},
	{Name: "memory-migrate", Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return d.set("cpuset.memory_migrate", Pick(d, []string{"0", "1"}))
	}},
	{Name: "clone-children", Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		return d.set("cgroup.clone_children", Pick(d, []string{"0", "1", "1"}))
	}},
	{Name: "balance-race", Needs: needsCgroup(1), Draw: func(d *Drawer) string {
		cpu := d.CPU(d.Pluggable)
		other := d.set(balanceFile, Pick(d, []string{"0", "1"}))
		if other == "" {
			return ""
		}
		return plug(cpu, d.Offline().Has(cpu)) + " & " + other + " & wait"
	}},
}

// listFor returns a CPU list to write to a cpuset, which there may not be yet.
// On cgroup v1, where all but CPUs of the parent's are refused, it mostly has
// none but those.
func (d *Drawer) listFor(group string) string {
	switch {
	case d.Cgroup != 1 || d.IntN(4) == 0:
		return d.List()
	case d.IntN(12) == 0:
		return ""
	}
	if has, ok := d.cpus[path.Dir(group)]; ok && !has.Empty() {
		return d.some(has).String()
	}
	return d.Subset().String()
}
