package cpuset_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// Put one thread of this process into a cpuset that has just CPU 1. On cgroup
// v2, the process must be in the root cgroup: threads of one process can be in
// different cgroups only if these are threaded and below the process's own.
func Example() {
	h, err := cpuset.New("/")
	if err != nil {
		log.Fatal(err)
	}
	if err := inChild(h); err != nil {
		log.Fatal(err)
	}
}

func inChild(h *cpuset.Hierarchy) (err error) {
	if err := h.Root().AttachProcess(0); err != nil {
		return err
	}
	restore, err := h.EnableController()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	child, err := h.Root().Create("example")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.Remove()) }()
	if err := child.SetCPUs(affinity.Of(1)); err != nil {
		return err
	}
	if err := child.MakeThreaded(); err != nil {
		return err
	}
	return affinity.Thread(func() error {
		if err := child.AttachThread(0); err != nil {
			return err
		}
		mine, err := affinity.Get(0)
		fmt.Println("this thread may run on", mine)
		// The thread must be gone before the cpuset is removed.
		return errors.Join(err, h.Root().AttachThread(0))
	})
}
