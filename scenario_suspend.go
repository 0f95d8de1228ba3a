package hotplugtest

import (
	"errors"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/suite"
)

// suspendScenarios are about suspends in states that the transitions are not
// in.
var suspendScenarios = []Scenario{
	{
		Name:        "suspend-isolated",
		Promise:     "the system suspends and resumes while the CPU that stays online is in an isolated partition",
		Source:      docCgroup + ": cpuset.cpus.partition; " + docSleep + "; kernel/cgroup/cpuset.c: cpuset_reset_sched_domains()",
		Known:       []Defect{isolatedPartition},
		Destructive: true,
		Needs:       suite.NeedsChild,
		Cycle:       suspendIsolated,
		Together:    true,
	},
}

// suspendIsolated suspends as far as to take all CPUs offline that can go.
func suspendIsolated(x *Scene, _ int) error {
	m := x.Machine
	prepared, err := allButOne(pmTest("mem", "processors"))(m)
	if err == nil {
		err = withPartition(x, "-isolated", "isolated", affinity.Of(m.Primary), func(*cpuset.Group) error {
			return x.Do("suspending", func() error { return m.Power.Enter("mem") })
		})
	}
	if prepared.Undo != nil {
		err = errors.Join(err, prepared.Undo())
	}
	return err
}
