package hotplugtest

import (
	"fmt"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// makeLast takes all CPUs offline but one. If one must stay online it is that
// one.
func makeLast(m *Machine) (Prepared, error) {
	last := m.Targets[len(m.Targets)-1]
	if keep, ok := m.KeepOnline.Last(); ok {
		last = keep
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return Prepared{}, err
	}
	return offlineAllBut(m, last, online.Without(last), "the last one")
}

// lastHousekeeping takes all CPUs offline that are not isolated, but one.
func lastHousekeeping(m *Machine) (Prepared, error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return Prepared{}, err
	}
	housekeeping := online.Difference(m.Isolated)
	last, ok := housekeeping.Last()
	if !ok {
		return Prepared{}, suite.Unsupportedf("all CPUs that are online, %v, are isolated", online)
	}
	return offlineAllBut(m, last, housekeeping.Without(last), "the last one that is not isolated")
}

// timekeeper picks the CPU that keeps the time for those of nohz_full.
func timekeeper(m *Machine) (Prepared, error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return Prepared{}, err
	}
	nohzFull, err := m.CPUs.NohzFull()
	if err != nil {
		return Prepared{}, err
	}
	keeper, ok := online.Difference(nohzFull).First()
	if !ok {
		return Prepared{}, suite.Unsupportedf("no CPU outside of nohz_full is online")
	}
	return offlineAllBut(m, keeper, affinity.CPUSet{}, "refused for keeping the time")
}

// offlineAllBut picks a CPU and takes others offline, so that it is what role
// says, if it could go offline itself, and the others can.
func offlineAllBut(m *Machine, cpu int, others affinity.CPUSet, role string) (Prepared, error) {
	cannot := func(why error) (Prepared, error) {
		return Prepared{}, fmt.Errorf("cpu%d cannot be %s: %w", cpu, role, why)
	}
	hotpluggable, _, err := m.CPUs.Hotpluggable()
	if err != nil {
		return Prepared{}, err
	}
	touched := others.With(cpu)
	if fixed := touched.Difference(hotpluggable); !fixed.Empty() {
		return cannot(suite.Unsupportedf("CPU %v cannot be taken offline on this machine", fixed))
	}
	if keep := others.Intersect(m.KeepOnline); !keep.Empty() {
		return cannot(suite.Unsupportedf("CPU %v has to stay online", keep))
	}
	if err := m.OffLimits(touched); err != nil {
		return cannot(err)
	}
	prepared := Prepared{CPUs: []int{cpu}, Undo: func() error { return m.SetAll(others, Online) }}
	if err := m.TakeOffline(others); err != nil {
		return prepared, fmt.Errorf("cpu%d cannot be %s: %w", cpu, role, err)
	}
	return prepared, nil
}
