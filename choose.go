package hotplugtest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/machine"
)

// choose picks the CPUs to probe.
func (s *Suite) choose() error {
	online, err := s.cpus.Online()
	if err != nil {
		return err
	}
	s.online = online
	hotpluggable, why, err := s.cpus.Hotpluggable()
	if err != nil {
		return err
	}
	if err := s.learnBoot(online, hotpluggable); err != nil {
		return err
	}
	for cpu := range s.stay.Intersect(hotpluggable).All() {
		why[cpu] = "the others need it, which are isolated by isolcpus= or have no tick by nohz_full="
	}
	usable := hotpluggable.Intersect(online).Difference(s.stay)
	// Whoever has made a partition has its CPUs for themselves: no task of the root's may be pinned there.
	if h, err := cpuset.Find("/"); err == nil {
		shared, err := h.Root().Effective()
		if err != nil {
			return err
		}
		s.owned = online.Difference(shared)
		for cpu := range s.owned.All() {
			why[cpu] = fmt.Sprintf("it belongs to a cpuset partition (it is not effective in %s)", h.Root().Path())
		}
		usable = usable.Difference(s.owned)
	}
	if s.opts.CPUs != "" {
		allowed, err := affinity.ParseList(s.opts.CPUs)
		if err != nil {
			return fmt.Errorf("-cpus: %w", err)
		}
		for cpu := range allowed.Difference(usable).All() {
			reason := "it is not online"
			if online.Has(cpu) {
				reason = why[cpu]
			}
			return fmt.Errorf("-cpus %s: cpu%d cannot be used: %s", s.opts.CPUs, cpu, reason)
		}
		usable = allowed
	} else if occupied := machine.OccupiedV1Cpusets("/"); len(occupied) > 0 {
		return &Unsupported{fmt.Sprintf("%s is a cpuset of cgroup v1 that has tasks, which would lose each CPU that goes offline until the end: give CPUs that may with -cpus", occupied[0])}
	}
	if online.Count() < 2 {
		return &Unsupported{fmt.Sprintf("only CPU %v is online: there is none that could be taken offline", online)}
	}
	if rest := online.Difference(s.owned); rest.Count() < 2 {
		return &Unsupported{fmt.Sprintf("of the online CPUs %v only %v is in no cpuset partition: without it those lose theirs", online, rest)}
	}
	if usable.Empty() && !s.stay.Empty() {
		return &Unsupported{fmt.Sprintf("of the online CPUs %v none can be taken offline but %v, which the others need", online, s.stay)}
	}
	if usable.Empty() {
		first, _ := online.Without(0).First()
		return &Unsupported{fmt.Sprintf("of the online CPUs %v none can be taken offline; cpu%d: %s", online, first, why[first])}
	}
	s.usable = usable
	if s.opts.AllCPUs {
		s.targets = slices.Collect(usable.All())
	} else {
		s.targets = differing(s.cpus, usable)
	}
	return nil
}

// unwritable tells why no CPU can be taken offline by this process, or "".
func (s *Suite) unwritable() string {
	hotpluggable, _, err := s.cpus.Hotpluggable()
	cpu, ok := hotpluggable.First()
	if err != nil || !ok {
		return "" // choose tells why
	}
	path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", cpu)
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Sprintf("%s cannot be written: %v (is this a container with a read-only /sys?)", path, err)
	}
	return ""
}

// shared are the CPUs that are online, without those of somebody's partition: a task outside that may not run there.
func (s *Suite) shared() (affinity.CPUSet, error) {
	online, err := s.cpus.Online()
	return online.Difference(s.owned), err
}

// offLimits tells which CPUs are somebody's, or not given by the machine's owner, or "".
func (s *Suite) offLimits(cpus affinity.CPUSet) string {
	if owned := cpus.Intersect(s.owned); !owned.Empty() {
		return fmt.Sprintf("CPU %v belongs to a cpuset partition", owned)
	}
	return s.notGiven(cpus)
}

// notGiven tells which CPUs the machine's owner has not given, or "".
func (s *Suite) notGiven(cpus affinity.CPUSet) string {
	if rest := cpus.Difference(s.usable); s.opts.CPUs != "" && !rest.Empty() {
		return fmt.Sprintf("CPU %v is not among those to be used, %s", rest, s.opts.CPUs)
	}
	return ""
}

// differing picks CPUs that the kernel may treat differently: the first and the last, a second thread of the first one's
// core, and one of another NUMA node. What a machine does not tell of its topology, it does not differ in.
func differing(fs CPUs, usable affinity.CPUSet) []int {
	first, _ := usable.First()
	last, _ := usable.Last()
	picked := affinity.Of(first, last)
	if siblings, err := fs.ThreadSiblings(first); err == nil {
		if sibling, ok := siblings.Without(first).Intersect(usable).First(); ok {
			picked = picked.With(sibling)
		}
	}
	if home, err := fs.Node(first); err == nil {
		for cpu := range usable.All() {
			if node, err := fs.Node(cpu); err == nil && node != home {
				picked = picked.With(cpu)
				break
			}
		}
	}
	return slices.Collect(picked.All())
}
