package hotplugtest

import (
	"fmt"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// makeLast takes all CPUs offline but one. Where one has to stay it is that one.
func makeLast(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	last := s.targets[len(s.targets)-1]
	if stay, ok := s.stay.Last(); ok {
		last = stay
	}
	online, err := s.cpus.Online()
	if err != nil {
		return nil, nil, "", err
	}
	return s.only(last, online.Without(last), "the last one")
}

// lastHousekeeping takes all CPUs offline that are not isolated, but one.
func lastHousekeeping(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	online, err := s.cpus.Online()
	if err != nil {
		return nil, nil, "", err
	}
	housekeeping := online.Difference(s.isolated)
	last, ok := housekeeping.Last()
	if !ok {
		return nil, nil, fmt.Sprintf("all CPUs that are online, %v, are isolated", online), nil
	}
	return s.only(last, housekeeping.Without(last), "the last one that is not isolated")
}

// timekeeper picks the CPU that keeps the time for those of nohz_full.
func timekeeper(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	online, err := s.cpus.Online()
	if err != nil {
		return nil, nil, "", err
	}
	nohzFull, err := s.cpus.NohzFull()
	if err != nil {
		return nil, nil, "", err
	}
	keeper, ok := online.Difference(nohzFull).First()
	if !ok {
		return nil, nil, "no CPU outside of nohz_full is online", nil
	}
	return s.only(keeper, affinity.CPUSet{}, "refused for keeping the time")
}

// only picks a CPU and takes others offline, so that it is what role says, if it can go itself, as can they.
func (s *Suite) only(cpu int, others affinity.CPUSet, role string) (cpus []int, undo func() error, missing string, err error) {
	hotpluggable, _, err := s.cpus.Hotpluggable()
	if err != nil {
		return nil, nil, "", err
	}
	touched := others.With(cpu)
	if fixed := touched.Difference(hotpluggable); !fixed.Empty() {
		return nil, nil, fmt.Sprintf("cpu%d cannot be %s: CPU %v cannot be taken offline on this machine", cpu, role, fixed), nil
	}
	if stay := others.Intersect(s.stay); !stay.Empty() {
		return nil, nil, fmt.Sprintf("cpu%d cannot be %s: CPU %v has to stay online", cpu, role, stay), nil
	}
	if why := s.offLimits(touched); why != "" {
		return nil, nil, fmt.Sprintf("cpu%d cannot be %s: %s", cpu, role, why), nil
	}
	undo = func() error { return s.setAll(others, true) }
	if missing, err = s.takeOffline(others); missing != "" {
		missing = fmt.Sprintf("cpu%d cannot be %s: %s", cpu, role, missing)
	}
	return []int{cpu}, undo, missing, err
}

// firstOnline picks the CPUs that have never been online.
func firstOnline(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	if s.opts.CPUs != "" {
		return nil, nil, fmt.Sprintf("CPU %v, never online, is not among those to be used, %s", s.fresh, s.opts.CPUs), nil
	}
	// Those that a run before this one, or anybody, has brought up meanwhile are not such any more.
	fresh := neverOnline("/proc", s.fresh)
	for cpu := range fresh.All() {
		cpus = append(cpus, cpu)
	}
	return cpus, nil, "", nil
}

// lastOfNode takes all CPUs of a NUMA node offline but one. It is the last node, as the first has the boot CPU.
func lastOfNode(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	online, err := s.cpus.Online()
	if err != nil {
		return nil, nil, "", err
	}
	nodes := make(map[int]affinity.CPUSet)
	last := 0
	for cpu := range online.All() {
		node, err := s.cpus.Node(cpu)
		if err != nil {
			return nil, nil, "", err
		}
		nodes[node] = nodes[node].With(cpu)
		last = max(last, node)
	}
	cpu, _ := nodes[last].Last()
	return s.only(cpu, nodes[last].Without(cpu), fmt.Sprintf("the last one of node %d", last))
}
