package suite

import (
	"errors"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// Partition is a cpuset with CPUs of its own, which the cpusets outside do not
// get (cpuset.cpus.partition of cgroup v2). It has the CPU that the transition
// is done to.
type Partition struct {
	// Kind is "root", or "isolated": without load balancing.
	Kind string
	// Single says that it has no other CPU, so that it is not valid while that
	// one is offline.
	Single bool
}

// partition makes a cpuset that is a partition of the last target, and returns
// the CPU and the placement in it. The error is an [*Unsupported] if this
// machine cannot have one.
func (m *Machine) partition(want *Partition) (place *Placement, prepared Prepared, err error) {
	if err := NeedsChild(m); err != nil {
		return nil, prepared, err
	}
	cpu := m.Targets[len(m.Targets)-1]
	cpus, err := m.partitionCPUs(want, cpu)
	if err != nil {
		return nil, prepared, err
	}
	c, err := m.NewGroup("-partition")
	if err != nil {
		return nil, prepared, err
	}
	if err := m.makePartition(c, want, cpu, cpus); err != nil {
		return nil, prepared, errors.Join(err, c.Remove())
	}
	undo := func() error {
		// Before v6.2 the tasks outside get back what is online, and what comes
		// online later is lost to them. And the kernel takes its time to end a
		// partition that is removed: it may then end the next one of these
		// CPUs.
		return errors.Join(m.Ensure(cpu, Online), c.SetPartition("member"), c.Remove())
	}
	place = &Placement{
		Name: want.Kind + "-partition", Group: c, Enters: true, Partition: want, detects: "no: there are no cpusets before it",
	}
	return place, Prepared{[]int{cpu}, undo}, nil
}

// partitionCPUs picks the CPUs of a partition that has cpu.
func (m *Machine) partitionCPUs(want *Partition, cpu int) (affinity.CPUSet, error) {
	cpus := affinity.Of(cpu)
	if !want.Single {
		// Not the first: that is where the kernel puts a task that it knows no
		// CPU for.
		companion, ok := m.Usable.Without(cpu).Last()
		if !ok {
			return cpus, Unsupportedf("a partition needs another CPU beside cpu%d that may be used", cpu)
		}
		cpus = cpus.With(companion)
	}
	shared, err := m.Shared()
	if err == nil && shared.Difference(cpus).Empty() {
		err = Unsupportedf("a partition of CPUs %v would leave no CPU to all others", cpus)
	}
	return cpus, err
}

// makePartition makes a cpuset a partition of the CPUs.
func (m *Machine) makePartition(c *cpuset.Group, want *Partition, cpu int, cpus affinity.CPUSet) error {
	if err := errors.Join(m.Ensure(cpu, Online), c.SetCPUs(cpus)); err != nil {
		return err
	}
	if err := c.SetPartition(want.Kind); err != nil {
		return Unsupportedf("no partition can be made: %v", err)
	}
	kind, reason, err := c.Partition()
	if err == nil && kind != want.Kind {
		err = Unsupportedf("no partition of CPUs %v can be made: it is %s, %s", cpus, kind, reason)
	}
	return err
}
