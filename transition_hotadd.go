package hotplugtest

import (
	"slices"

	"github.com/hotplugtest/hotplugtest/suite"
)

// hotAdded picks the CPU that the machine has got for this run.
func hotAdded(m *Machine) (Prepared, error) {
	if err := m.NotGiven(m.Added); err != nil {
		return Prepared{}, err
	}
	return Prepared{CPUs: slices.Collect(m.Added.All())}, nil
}

// addAgain has the machine lose the CPU and get it again, offline.
func addAgain(m *Machine, cpu int) error {
	if err := removeAndAdd(m, cpu); err != nil {
		return err
	}
	if online, err := m.CPUs.IsOnline(cpu); err != nil || online {
		return suite.Unsupportedf("somebody, such as a udev rule, brings a CPU online that was added")
	}
	// It is offline, and the write waits for the lock of what adds the device,
	// which sends "bind" after "add".
	return m.CPUs.SetOnline(cpu, false)
}
