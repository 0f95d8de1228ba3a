package hotplugtest

import (
	"errors"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// relativePolicy has a thread of this process in the child cpuset, to which
// nobody has ever given nodes, and binds memory to a node by its place among
// the cpuset's nodes.
func relativePolicy(m *Machine) (Prepared, error) {
	if err := suite.NeedsChild(m); err != nil {
		return Prepared{}, err
	}
	if err := needsPolicy(m); err != nil {
		return Prepared{}, err
	}
	node, err := memoryNode()
	if err != nil {
		return Prepared{}, err
	}
	ready, ended := make(chan error, 1), make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		_ = affinity.Thread(func() error {
			err := m.Child.Group.AttachThread(0)
			if ready <- err; err == nil {
				<-stop
			}
			return err
		})
	}()
	prepared := Prepared{CPUs: m.Targets[len(m.Targets)-1:], Undo: func() error { close(stop); <-ended; return nil }}
	_, unmap, err := boundMemory(node, mpolRelative)
	if err := errors.Join(err, <-ready); err != nil {
		return prepared, err
	}
	end := prepared.Undo
	prepared.Undo = func() error { return errors.Join(end(), unmap()) }
	return prepared, nil
}
