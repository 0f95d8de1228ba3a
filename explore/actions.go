package explore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Default returns the actions and the laws of this package. The caller may
// change them.
func Default() Tables {
	return Tables{Actions: slices.Concat(cpuActions, cpusetActions, v1Actions, taskActions), Laws: slices.Clone(laws)}
}

var cpuActions = []Action{
	{Name: "offline", Weight: 4, Draw: drawOffline},
	{Name: "online", Weight: 4, Draw: drawOnline},
	{Name: "same-value", Draw: func(d *Drawer) string {
		cpu := d.CPU(d.Pluggable)
		return plug(cpu, !d.Offline().Has(cpu))
	}},
	{Name: "nonsense", Draw: func(d *Drawer) string {
		cpu := fmt.Sprintf(cpuDir+"cpu%d/", d.CPU(d.Pluggable))
		return "echo " + Pick(d, []string{"2", "-1", "maybe"}) + " > " + cpu + "online"
	}},
	{Name: "fail", Needs: func(f *Facts) string {
		if !f.Exists(failFile) || !f.Version.Since(Version{5, 13}) {
			return "the kernel cannot call off a failure that was injected"
		}
		return ""
	}, Draw: drawFail},
	{Name: "smt", Alone: true, Needs: NeedsFile(smtControl, "the kernel has no SMT control"), Draw: func(d *Drawer) string {
		return "echo " + Pick(d, []string{"on", "off"}) + " > " + smtControl
	}},
	{Name: "suspend", Alone: true, Needs: func(f *Facts) string {
		if len(f.Levels) == 0 || !f.Exists("/sys/power/state") {
			return "the kernel has no pm_test"
		}
		return ""
	}, Draw: func(d *Drawer) string {
		// In one line: without the first command the second puts the machine to
		// sleep for good.
		return "echo " + Pick(d, d.Levels) + " > /sys/power/pm_test; echo mem > /sys/power/state"
	}},
	{Name: "hotplug-race", Draw: func(d *Drawer) string {
		cpu := d.CPU(d.Pluggable)
		other := d.withGroup(func(g string) string { return fmt.Sprintf("echo %s > %s/cpuset.cpus", d.Subset(), g) })
		if other == "" {
			return ""
		}
		return plug(cpu, d.Offline().Has(cpu)) + " & " + other + " & wait"
	}},
	{Name: "partition-race", Needs: needsCgroup(2), Draw: func(d *Drawer) string {
		cpu := d.CPU(d.Pluggable)
		other := d.withGroup(func(g string) string {
			return "echo " + Pick(d, []string{"root", "isolated", "member"}) + " > " + g + "/cpuset.cpus.partition"
		})
		if other == "" {
			return ""
		}
		return plug(cpu, d.Offline().Has(cpu)) + " & " + other + " & wait"
	}},
	{Name: "workqueues", Alone: true, Needs: NeedsFile(workqueueDir+"cpumask", "the workqueues have no cpumask"), Draw: func(d *Drawer) string {
		return "echo " + d.Subset().Mask() + " > " + workqueueDir + "cpumask"
	}},
	{Name: "irq", Alone: true, Needs: func(f *Facts) string {
		if len(f.IRQs) == 0 {
			return "there is no interrupt whose mask can be changed"
		}
		return ""
	}, Draw: func(d *Drawer) string {
		return fmt.Sprintf("echo %s > /proc/irq/%d/smp_affinity", d.Subset().Mask(), Pick(d, d.IRQs))
	}},
}

// failFile is there if failures of hotplug can be injected.
const failFile = cpuDir + "cpu0/hotplug/fail"

// plug returns the line that takes a CPU online or offline.
func plug(cpu int, online bool) string {
	value := 0
	if online {
		value = 1
	}
	return fmt.Sprintf("echo %d > "+cpuDir+"cpu%d/online", value, cpu)
}

func drawOffline(d *Drawer) string {
	cpu := d.CPU(d.Pluggable.Difference(d.Offline()))
	if cpu < 0 {
		return ""
	}
	return plug(cpu, false)
}

func drawOnline(d *Drawer) string {
	cpu := d.CPU(d.Offline())
	if cpu < 0 {
		return ""
	}
	return plug(cpu, true)
}

func drawFail(d *Drawer) string {
	cpu := d.CPU(d.Pluggable)
	// Whether the operation comes to the state depends on the kernel: what is left
	// is called off.
	fail := fmt.Sprintf(cpuDir+"cpu%d/hotplug/fail", cpu)
	return fmt.Sprintf("echo %d > %s; %s; echo -1 > %s", Pick(d, d.FailStates), fail, plug(cpu, d.Offline().Has(cpu)), fail)
}

var cpusetActions = []Action{
	{Name: "mkdir", Weight: 4, Draw: drawMkdir},
	{Name: "cpus", Weight: 4, Draw: func(d *Drawer) string {
		return d.withGroup(func(g string) string {
			return Command{Op: Write, Path: g + "/cpuset.cpus", Value: d.listFor(g)}.String()
		})
	}},
	{Name: "exclusive", Weight: 2, Needs: needsAll(needsCgroup(2), since(Version{6, 7}, "there is no cpuset.cpus.exclusive before v6.7")), Draw: func(d *Drawer) string {
		return d.set("cpuset.cpus.exclusive", d.List())
	}},
	{Name: "mems", Draw: func(d *Drawer) string { return d.set("cpuset.mems", Pick(d, []string{"0", "", "0", "1", "none"})) }},
	{Name: "partition", Weight: 4, Needs: needsCgroup(2), Draw: func(d *Drawer) string {
		return d.set("cpuset.cpus.partition", Pick(d, []string{"root", "root", "root", "isolated", "isolated", "isolated", "member", "member", "Root"}))
	}},
	{Name: "nest", Weight: 2, Needs: needsCgroup(2), Draw: func(d *Drawer) string {
		return d.set("cgroup.subtree_control", Pick(d, []string{"+cpuset", "+cpuset", "+cpuset", "+cpuset", "-cpuset"}))
	}},
	{Name: "threaded", Needs: needsCgroup(2), Draw: func(d *Drawer) string { return d.set("cgroup.type", "threaded") }},
	{Name: "cpu-max", Alone: true, Needs: needsAll(needsCgroup(2), NeedsFile("/proc/sys/kernel/sched_cfs_bandwidth_slice_us", "the kernel has no cpu.max")), Draw: func(d *Drawer) string {
		switch {
		case !d.limits:
			return "echo +cpu > " + limitControl
		case d.IntN(4) == 0:
			return d.set("cgroup.subtree_control", "+cpu")
		}
		return d.set("cpu.max", Pick(d, []string{"max", "1000 100000", "20000 100000", "100000 20000", "5 10"}))
	}},
	{Name: "rmdir", Weight: 2, Draw: func(d *Drawer) string { return d.withGroup(func(g string) string { return "rmdir " + g }) }},
}

// limitControl is the file that has the cgroups below the root get a cpu.max.
const limitControl = rootGroup + "/cgroup.subtree_control"

var taskActions = []Action{
	{Name: "move", Weight: 2, Draw: func(d *Drawer) string {
		task := "$" + Pick(d, taskNames)
		if d.IntN(4) == 0 {
			return "echo " + task + " > " + rootGroup + "/cgroup.procs"
		}
		threads := "cgroup.threads"
		if d.Cgroup == 1 {
			threads = "tasks"
		}
		return d.set(Pick(d, []string{"cgroup.procs", "cgroup.procs", "cgroup.procs", threads}), task)
	}},
	{Name: "taskset", Weight: 2, Draw: func(d *Drawer) string {
		set := d.Subset()
		if d.IntN(12) == 0 {
			last, _ := d.CPUs.Last()
			set = affinity.Of(last + 1)
		}
		return "taskset -p " + hex(set) + " $" + Pick(d, taskNames)
	}},
	{Name: "class", Draw: drawClass},
	{Name: "taskset-race", Draw: func(d *Drawer) string {
		cpu := d.CPU(d.Pluggable)
		return plug(cpu, d.Offline().Has(cpu)) + " & taskset -p " + hex(d.Subset()) + " $" + Pick(d, taskNames) + " & wait"
	}},
	{Name: "move-race", Draw: func(d *Drawer) string {
		move := d.set("cgroup.procs", "$"+Pick(d, taskNames))
		if move == "" {
			return ""
		}
		cpu := d.CPU(d.Pluggable)
		return plug(cpu, d.Offline().Has(cpu)) + " & " + move + " & wait"
	}},
}

// since returns an [Action.Needs] that asks for a version of the kernel.
func since(v Version, lacks string) func(*Facts) string {
	return func(f *Facts) string {
		if f.Version.Since(v) {
			return ""
		}
		return lacks
	}
}

// drawMkdir makes a cgroup. One of cgroup v1 takes no task until it was given
// CPUs and memory nodes, which it mostly is at once.
func drawMkdir(d *Drawer) string {
	for range 4 {
		name := d.newGroup()
		if slices.Contains(d.Groups(), name) {
			continue
		}
		if d.Cgroup == 1 && d.IntN(4) > 0 {
			return fmt.Sprintf("mkdir %s; echo %s > %s/cpuset.cpus; echo 0 > %s/cpuset.mems", name, d.listFor(name), name, name)
		}
		return "mkdir " + name
	}
	return ""
}

// newGroup returns the path of a cgroup that there may be: at the top, or one
// or two levels below it.
func (d *Drawer) newGroup() string {
	var parents []string
	for _, g := range d.Groups() {
		if (d.Cgroup == 1 || d.nested[g]) && strings.Count(g, "/") < 2 {
			parents = append(parents, g)
		}
	}
	if len(parents) > 0 && d.IntN(3) > 0 {
		return Pick(d, parents) + "/" + Pick(d, []string{"x", "y"})
	}
	return "$" + Pick(d, topGroups)
}

// withGroup returns what f returns for one of the cgroups, or "" if there is
// none.
func (d *Drawer) withGroup(f func(group string) string) string {
	if g := d.Group(); g != "" {
		return f(g)
	}
	return ""
}

// set returns the line that writes to a file of one of the cgroups, or "" if
// there is none.
func (d *Drawer) set(file, value string) string {
	return d.withGroup(func(g string) string {
		return Command{Op: Write, Path: g + "/" + file, Value: value}.String()
	})
}
