package hotplugtest

import (
	"errors"
	"slices"
)

// hotAdded picks the CPU that the machine has got for this run.
func hotAdded(m *Machine) (Prepared, error) {
	if err := addedByHand(m); err != nil {
		return Prepared{}, err
	}
	return Prepared{CPUs: slices.Collect(m.Added.All())}, nil
}

// addAgain has the machine lose the CPU and get it again, offline.
func addAgain(m *Machine, cpu int) error {
	if err := errors.Join(m.RemoveCPU(cpu), addSame(m, cpu)); err != nil {
		return err
	}
	// It is offline, and the write waits for the lock of what adds the device,
	// which sends "bind" after "add".
	return m.CPUs.SetOnline(cpu, false)
}
