package hotplugtest

import (
	"errors"
	"fmt"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// A Partition is a cpuset with CPUs of its own, which those outside do not get (cpuset.cpus.partition of cgroup v2). It
// has the CPU that the transition is done to.
type Partition struct {
	Kind  string // "root", or "isolated", without load balancing
	Alone bool   // it has no other CPU, so that it is not valid while that one is offline
}

// partition makes a cpuset that is a partition of the last CPU, and the placement in it. missing tells why this machine
// cannot have one, or "".
func (s *Suite) partition(want *Partition) (place *placement, cpu int, undo func() error, missing string, err error) {
	if missing := needsChild(s); missing != "" {
		return nil, 0, nil, missing, nil
	}
	if !s.kernel.since(6, 0) {
		return nil, 0, nil, "before v6.0 a partition also takes its CPUs from the kernel's own threads that are bound to them", nil
	}
	cpu = s.targets[len(s.targets)-1]
	cpus := affinity.Of(cpu)
	// Not the first: that is where the kernel puts a task that it knows no CPU for.
	if companion, ok := s.usable.Without(cpu).Last(); want.Alone {
	} else if ok {
		cpus = cpus.With(companion)
	} else {
		return nil, 0, nil, fmt.Sprintf("a partition needs another CPU beside cpu%d that may be used", cpu), nil
	}
	shared, err := s.shared()
	if err != nil {
		return nil, 0, nil, "", err
	}
	if shared.Difference(cpus).Empty() {
		return nil, 0, nil, fmt.Sprintf("a partition of CPUs %v would leave no CPU to all others", cpus), nil
	}
	c, err := s.ownCpuset("-partition")
	if err != nil {
		return nil, 0, nil, "", err
	}
	fail := func(missing string, err error) (*placement, int, func() error, string, error) {
		return nil, 0, nil, missing, errors.Join(err, c.Remove())
	}
	if err := errors.Join(s.put(cpu, Online), c.SetCPUs(cpus)); err != nil {
		return fail("", err)
	}
	if err := c.SetPartition(want.Kind); err != nil {
		return fail(fmt.Sprintf("no partition can be made: %v", err), nil)
	}
	if kind, reason, err := c.Partition(); err != nil {
		return fail("", err)
	} else if kind != want.Kind {
		return fail(fmt.Sprintf("no partition of CPUs %v can be made: it is %s, %s", cpus, kind, reason), nil)
	}
	place = &placement{name: want.Kind + "-partition", cpuset: c, enter: true, partition: want, detects: "no: there are no cpusets before it"}
	undo = func() error {
		// Before v6.2 the tasks outside get back what is online, and what comes online later is lost to them. And the kernel
		// takes its time to end a partition that is removed: it may then end the next one of these CPUs.
		return errors.Join(s.put(cpu, Online), c.SetPartition("member"), c.Remove())
	}
	return place, cpu, undo, "", nil
}

// emptiable tells why a partition may not lose its last CPU.
func emptiable(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	if s.kernel.between(6, 12, 6, 14) {
		missing = "v6.12 and v6.13 refuse to empty a partition, as the bandwidth of the CPU's deadline server would not fit: EBUSY, until 53916d5fd3c0 (v6.14)"
	}
	return s.targets, nil, missing, nil
}

// armPartition checks that a partition is one while it has a CPU, and only then.
func armPartition(p *Probe) (Check, error) {
	want := p.placement.partition
	kind := want.Kind
	if want.Alone && p.State == Offline {
		kind += " invalid"
	}
	return func() error {
		is, reason, err := p.placement.cpuset.Partition()
		if err == nil && is != kind {
			err = fmt.Errorf("the partition is %q, want %q", is, kind)
			if reason != "" {
				err = fmt.Errorf("%w: %s", err, reason)
			}
		}
		return err
	}, nil
}
