package hotplugtest

import (
	"slices"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// scenarios are what must hold while CPUs go offline and online.
var scenarios = slices.Concat(taskScenarios, lockScenarios, sysctlScenarios, traceScenarios, bpfScenarios, storageScenarios, hotAddScenarios)

// taskScenarios are about tasks, timers and interrupts.
var taskScenarios = []Scenario{
	{
		Name:    "timers",
		Promise: "a timer that was armed on a CPU which goes offline expires, and not before its time",
		Source:  `5c0930ccaad5 ("hrtimers: Push pending hrtimers away from outgoing CPU earlier", v6.7); 2f8dea1692ee ("hrtimers: Handle CPU state correctly on hotplug", v6.13)`,
		Actors:  []Actor{timerfds, nanosleeps},
	},
	{
		Name:    "irqs",
		Promise: "an IRQ can be moved to a CPU, at every time that it is online, and is elsewhere when the CPU has gone",
		Source:  `/proc/irq/N/effective_affinity_list; a6c11c0a5235 ("genirq/cpuhotplug, x86/vector: Prevent vector leak during CPU offline", v6.10)`,
		Needs:   allOf(needsIRQ, needsStaying),
		Cycle:   moveIRQs,
	},
	{
		Name:    "quota",
		Promise: "a task that a cpu.max quota throttles can take CPUs offline and online, and the quota holds meanwhile and after that",
		Source:  `2b8272ff4a70 ("cpu/hotplug: Prevent self deadlock on CPU hot-unplug", v6.6); af98d8a36a96 ("sched/fair: Fix CPU bandwidth limit bypass during CPU hotplug", v6.14)`,
		Needs:   needsQuota,
		Setup:   makeQuota,
		Actors:  []Actor{throttled},
		Cycle:   cycleFromWithin,
		Hold:    quotaHeld,
	},
	{
		Name:    "load",
		Promise: "tasks that may run anywhere come to run on a CPU that came online",
		Source:  `Documentation/scheduler/sched-domains.rst; 50e76632339d ("sched/cpuset/pm: Fix cpuset vs. suspend-resume bugs", v4.13)`,
		Needs:   needsBalanced,
		Actors:  []Actor{hogs},
		Cycle:   loadArrives,
	},
	{
		Name:    "mask-of-two",
		Promise: "a task that may run on two CPUs has the one that is left when one goes, and both when it is back",
		Source:  `8f9ea86fdf99 ("sched: Always preserve the user requested cpumask", v6.2)`,
		Since:   Version{6, 2},
		Needs:   allOf(suite.NeedsChild, needsStaying),
		Cycle:   maskOfTwo,
	},
	{
		Name:    "mask-of-one-running",
		Promise: "a running task that may only run on a CPU that goes offline may run anywhere from then on, also when the CPU is back",
		Source:  `sched_setaffinity(2), select_fallback_rq(); 851a723e45d1 ("sched: Always clear user_cpus_ptr in do_set_cpus_allowed()", v6.2)`,
		Needs:   suite.NeedsChild,
		Cycle:   maskOfOneRunning,
	},
	{
		Name:    "mask-of-one-sleeping",
		Promise: "a sleeping task that may only run on a CPU that goes offline and comes back keeps its mask",
		Source:  `8f9ea86fdf99 ("sched: Always preserve the user requested cpumask", v6.2)`,
		Since:   Version{6, 2},
		Cycle:   maskOfOneSleeping,
	},
	{
		Name:    "mask-half-offline",
		Promise: "sched_setaffinity(2) to an online CPU and an offline one returns with the task on the online one",
		Source:  `sched_setaffinity(2); 475ea6c60279 ("sched: Don't defer CPU pick to migration_cpu_stop()", v5.14)`,
		Needs:   needsStaying,
		Cycle:   maskHalfOffline,
	},
	{
		Name:    "affinity-storm",
		Promise: "sched_setaffinity(2) works and returns while CPUs come and go",
		Source:  `f0498d2a54e7 ("sched: Fix stop_one_cpu_nowait() vs hotplug", v6.7); 04193d590b39 ("sched: Fix balance_push() vs __sched_setscheduler()", v5.19)`,
		Actors:  []Actor{affinities},
	},
	{
		Name:    "scheduler-storm",
		Promise: "sched_setattr(2) works and returns while CPUs come and go",
		Source:  `04193d590b39 ("sched: Fix balance_push() vs __sched_setscheduler()", v5.19)`,
		Needs:   needsRealTime,
		Actors:  []Actor{policies},
	},
	{
		Name:    "fork-storm",
		Promise: "processes are made and end while CPUs come and go",
		Source:  "clone(2)",
		Actors:  []Actor{forks},
	},
	{
		Name:    "cgroup-churn",
		Promise: "cpusets are made, rewritten, entered and removed while CPUs come and go",
		Source:  `4f7e7236435c ("cgroup: Fix threadgroup_rwsem <-> cpus_read_lock() deadlock", v6.0); 959ab6350add ("cgroup/cpuset: fix panic caused by partcmd_update", v6.11)`,
		Needs:   suite.NeedsChild,
		Actors:  []Actor{cgroupChurn},
	},
	{
		Name:     "two-writers",
		Promise:  "two CPUs can be taken offline and online from two sides at once",
		Source:   docHotplug + ": the operations are serialised",
		Needs:    allOf(needsTwo, needsStaying),
		Cycle:    twoWriters,
		Together: true,
	},
	{
		Name:     "online-masks",
		Promise:  "each set of CPUs can be the online one, however soon after the one before, and tasks can be pinned to all of them",
		Source:   docHotplug + "; ca174c705db5 (v7.0): spurious EBUSY and stale scheduling domains",
		Cycle:    allMasks,
		Together: true,
	},
	{
		Name:    "perf-counts",
		Promise: "an event on a CPU that goes can still be read, and a new one counts when the CPU is back",
		Source:  "perf_event_open(2); kernel/events/core.c: perf_event_init_cpu(), perf_event_exit_cpu()",
		Needs:   func(*Machine) error { return fileMissing("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS") },
		Cycle:   perfCounts,
	},
	{
		Name:     "deadline",
		Promise:  "a CPU whose going would leave SCHED_DEADLINE tasks with less than they were promised does not go, EBUSY, until they are none",
		Source:   `Documentation/scheduler/sched-deadline.rst; 53916d5fd3c0 ("sched/deadline: Check bandwidth overflow earlier for hotplug", v6.14)`,
		Needs:    allOf(needsBalanced, needsDeadline),
		Setup:    deadlinesOver,
		Actors:   []Actor{deadlines},
		Cycle:    deadlineRefuses,
		Together: true,
	},
	{
		Name:    "idle-counters",
		Promise: "the idle time of a CPU in /proc/stat, iowait included, goes on from where it was when the CPU is back",
		Source:  `proc_stat(5); 71fee48fb772 ("tick-sched: Fix idle and iowait sleeptime accounting vs CPU hotplug", v6.8)`,
		// Before that, and before 620a30fa0bd1 (v6.3), a reader on another CPU
		// may see it go back, and hotplug is not to blame.
		Since: Version{6, 8},
		Cycle: idleGoesOn,
	},
}

// needsBalanced is for promises about tasks that come to a CPU by themselves,
// or count on it. An isolated CPU is in no domain with the others, and some
// machines have none.
func needsBalanced(m *Machine) error {
	if isolated := affinity.Of(m.Targets...).Intersect(m.Isolated); !isolated.Empty() {
		return suite.Unsupportedf("CPU %v is isolated: only what is pinned runs there", isolated)
	}
	return rootBalanced(m)
}

// needsStaying is for scenarios that need a CPU beside those that go offline.
func needsStaying(m *Machine) error {
	shared, err := m.Shared()
	if err != nil {
		return err
	}
	if shared.Difference(affinity.Of(m.Targets...)).Empty() {
		return suite.Unsupportedf("all of the online CPUs, %v, come and go; a CPU that stays is needed", shared)
	}
	return nil
}

// allOf is for scenarios that need all of it.
func allOf(needs ...func(*Machine) error) func(*Machine) error {
	return func(m *Machine) error {
		for _, need := range needs {
			if err := need(m); err != nil {
				return err
			}
		}
		return nil
	}
}
