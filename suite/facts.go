package suite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/machine"
)

// Facts are about the machine, as it was when it was opened.
type Facts struct {
	// Options are what the run was asked for.
	Options Options

	// Kernel is the running one.
	Kernel Version
	// Boots is how the machine is booted.
	Boots []Boot

	// Online are the CPUs that were online.
	Online affinity.CPUSet
	// Isolated are the CPUs in no scheduler domain, by isolcpus=.
	Isolated affinity.CPUSet
	// NeverOnline are the CPUs that had never been online, and can be brought
	// online.
	NeverOnline affinity.CPUSet
	// Away are the other CPUs that were offline, and not because SMT is off.
	Away affinity.CPUSet
	// Added is the CPU that the machine has got for this run. Empty: none.
	Added affinity.CPUSet
	// AddedGoesOnline says that somebody else, such as a udev rule, brings a CPU
	// online that is added.
	AddedGoesOnline bool
	// KeepOnline are the CPUs that must not go offline, except in a row that
	// is about this.
	KeepOnline affinity.CPUSet
	// Partitioned are the CPUs of somebody's partition.
	Partitioned affinity.CPUSet
	// Stateless are the CPUs that have no directory cpuN/hotplug: the kernel
	// makes it for those alone that are present at boot (cpuhp_sysfs_init()).
	Stateless affinity.CPUSet
	// Caches are the CPUs that have a cache directory in sysfs when they are
	// online.
	Caches affinity.CPUSet
	// Usable are the CPUs that may be taken offline.
	Usable affinity.CPUSet
	// Targets are those of Usable to look at, in order: at least one.
	Targets []int
	// Primary is the CPU that stays online in a suspend.
	Primary int
	// Rebound says that the process was not free to run on all of them.
	Rebound bool
}

// Booted reports whether rows that need a boot are about this machine.
func (f *Facts) Booted(b Boot) bool { return b == "" || slices.Contains(f.Boots, b) }

// StillNeverOnline returns the CPUs of NeverOnline that nobody has brought
// online since.
func (f *Facts) StillNeverOnline() affinity.CPUSet { return neverOnline("/proc", f.NeverOnline) }

// learn reads the facts, and picks the CPUs to look at. root is where the
// machine's /proc and cgroups are, "/" but for tests.
func (f *Facts) learn(cpus CPUs, root string) error {
	online, err := cpus.Online()
	if err != nil {
		return err
	}
	f.Online = online
	hotpluggable, why, err := cpus.Hotpluggable()
	if err != nil {
		return err
	}
	if err := f.learnBoot(cpus, hotpluggable, root); err != nil {
		return err
	}
	for cpu := range f.KeepOnline.Intersect(hotpluggable).All() {
		why[cpu] = "the others need it, which are isolated by isolcpus= or have no tick by nohz_full="
	}
	present, err := cpus.Present()
	if err != nil {
		return err
	}
	for cpu := range present.All() {
		if _, _, err := cpus.State(cpu); errors.Is(err, fs.ErrNotExist) {
			f.Stateless = f.Stateless.With(cpu)
		}
	}
	usable := hotpluggable.Intersect(online).Difference(f.KeepOnline)
	// Whoever has made a partition has its CPUs for themselves: no task of the
	// root's may be pinned there.
	if h, err := cpuset.New(root); err == nil {
		shared, err := h.Root().Effective()
		if err != nil {
			return err
		}
		f.Partitioned = online.Difference(shared)
		for cpu := range f.Partitioned.All() {
			why[cpu] = fmt.Sprintf("it belongs to a cpuset partition (it is not effective in %s)", h.Root().Path())
		}
		usable = usable.Difference(f.Partitioned)
	}
	if usable, err = f.given(usable, why, root); err != nil {
		return err
	}
	if err := f.suffice(usable, why); err != nil {
		return err
	}
	f.Usable = usable
	if f.Options.AllCPUs {
		f.Targets = slices.Collect(usable.All())
	} else {
		f.Targets = differing(cpus, usable)
	}
	return nil
}

// given returns those of the usable CPUs that the machine's owner has given;
// why has the reasons of the others.
func (f *Facts) given(usable affinity.CPUSet, why map[int]string, root string) (affinity.CPUSet, error) {
	if f.Options.CPUs == "" {
		if occupied := machine.OccupiedV1Cpusets(root); len(occupied) > 0 {
			return usable, Unsupportedf("%s is a cpuset of cgroup v1 that has tasks, which would lose each CPU that goes offline until the end: give CPUs that may with -cpus", occupied[0])
		}
		return usable, nil
	}
	allowed, err := affinity.ParseList(f.Options.CPUs)
	if err != nil {
		return usable, &wrongOption{fmt.Sprintf("-cpus: %v", err)}
	}
	for cpu := range allowed.Difference(usable).All() {
		reason := "it is not online"
		if f.Online.Has(cpu) {
			reason = why[cpu]
		}
		return usable, &wrongOption{fmt.Sprintf("-cpus %s: cpu%d cannot be used: %s", f.Options.CPUs, cpu, reason)}
	}
	return allowed, nil
}

// suffice returns an [*Unsupported] if there are too few CPUs.
func (f *Facts) suffice(usable affinity.CPUSet, why map[int]string) error {
	rest := f.Online.Difference(f.Partitioned)
	switch {
	case f.Online.Count() < 2:
		return Unsupportedf("only CPU %v is online: there is none that could be taken offline", f.Online)
	case rest.Count() < 2:
		return Unsupportedf("of the online CPUs %v only %v is in no cpuset partition: without it those lose theirs", f.Online, rest)
	case usable.Empty() && !f.KeepOnline.Empty():
		return Unsupportedf("of the online CPUs %v none can be taken offline but %v, which the others need", f.Online, f.KeepOnline)
	case usable.Empty():
		first, _ := f.Online.Without(0).First()
		return Unsupportedf("of the online CPUs %v none can be taken offline; cpu%d: %s", f.Online, first, why[first])
	}
	return nil
}

// learnBoot finds out how the machine is booted, and which CPUs must stay
// online because of that.
func (f *Facts) learnBoot(cpus CPUs, hotpluggable affinity.CPUSet, root string) error {
	cmdline, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return err
	}
	if f.Isolated, err = cpus.Isolated(); err != nil {
		return err
	}
	nohzFull, err := cpus.NohzFull()
	if err != nil {
		return err
	}
	present, err := cpus.Present()
	if err != nil {
		return err
	}
	// On arm64 all CPUs are present that firmware could ever enable. Those that
	// it has not enabled have no directory in sysfs, and cannot come online
	// (Documentation/arch/arm64/cpu-hotplug.rst).
	offline := present.Intersect(hotpluggable).Difference(f.Online)
	f.NeverOnline = neverOnline(filepath.Join(root, "proc"), offline)
	control, _, _ := cpus.SMT() // a machine without SMT control is not booted with nosmt
	smtOff := control == "off" || control == "forceoff"
	if !smtOff {
		f.Away = offline.Difference(f.NeverOnline)
	}
	hierarchy, _ := cpuset.New(root)
	nodes := make(map[int]bool)
	for cpu := range f.Online.All() {
		if node, err := cpus.Node(cpu); err == nil {
			nodes[node] = true
		}
	}
	isolcpus := hasParameter(string(cmdline), "isolcpus") && !f.Isolated.Empty()
	// freeze_secondary_cpus() leaves the first CPU that has a tick.
	f.Primary, _ = f.Online.Difference(nohzFull).First()
	for _, b := range []struct {
		boot Boot
		is   bool
	}{
		{Isolcpus, isolcpus},
		{IsolcpusFirst, isolcpus && f.Isolated.Has(f.Primary)},
		{NohzFull, !nohzFull.Empty()},
		{SMT, cpuhp.SMTEnabled(control) || smtOff},
		{NoSMT, control == "off"},
		{MaxCPUs, !f.NeverOnline.Empty()},
		{NUMA, len(nodes) > 1},
		{HotAdd, !f.Added.Empty()},
		{CgroupV1, hierarchy != nil && dropsOffline(hierarchy)},
	} {
		if b.is {
			f.Boots = append(f.Boots, b.boot)
		}
	}
	f.KeepOnline = keepOnline(f.Online, hotpluggable, f.Isolated, nohzFull)
	return nil
}

// hasParameter reports whether the kernel was booted with a parameter that has
// a value.
func hasParameter(cmdline, name string) bool {
	return slices.ContainsFunc(strings.Fields(cmdline), func(word string) bool { return strings.HasPrefix(word, name+"=") })
}

// neverOnline returns those CPUs that have not been online since the kernel was
// booted: its threads for a CPU are made when it first comes online, and stay.
// A CPU that nosmt keeps offline has been up for a moment.
func neverOnline(proc string, cpus affinity.CPUSet) affinity.CPUSet {
	if cpus.Empty() {
		return cpus
	}
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/comm"))
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if number, ok := strings.CutPrefix(strings.TrimSpace(string(comm)), "cpuhp/"); ok {
			if cpu, err := strconv.Atoi(number); err == nil {
				cpus = cpus.Without(cpu)
			}
		}
	}
	return cpus
}

// keepOnline returns the CPUs that must not go offline, except in a row that is
// about this: the one that keeps the time for those of nohz_full, which is
// refused; and one of those that are not isolated, as without them a kernel may
// crash.
func keepOnline(online, hotpluggable, isolated, nohzFull affinity.CPUSet) (keep affinity.CPUSet) {
	if ticking := online.Difference(nohzFull); !nohzFull.Empty() && !ticking.Empty() {
		keeper, _ := ticking.First()
		keep = keep.With(keeper)
	}
	housekeeping := online.Difference(isolated)
	safe := housekeeping.Difference(hotpluggable).Union(housekeeping.Intersect(keep))
	if !isolated.Empty() && !housekeeping.Empty() && safe.Empty() {
		first, _ := housekeeping.First()
		keep = keep.With(first)
	}
	return keep
}

// differing picks CPUs that the kernel may treat differently: the first and the
// last, a second thread of the first one's core, and one of another NUMA node.
// A part of the topology that the machine does not tell of is left out.
func differing(cpus CPUs, usable affinity.CPUSet) []int {
	first, _ := usable.First()
	last, _ := usable.Last()
	picked := affinity.Of(first, last)
	if siblings, err := cpus.ThreadSiblings(first); err == nil {
		if sibling, ok := siblings.Without(first).Intersect(usable).First(); ok {
			picked = picked.With(sibling)
		}
	}
	if home, err := cpus.Node(first); err == nil {
		for cpu := range usable.All() {
			if node, err := cpus.Node(cpu); err == nil && node != home {
				picked = picked.With(cpu)
				break
			}
		}
	}
	return slices.Collect(picked.All())
}
