package hotplugtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Scenario is something that goes on while CPUs come and go, and what must hold then: a row of the table [Scenarios]. It is
// for promises that are not about one CPU at one moment, which are an [Invariant].
type Scenario struct {
	Name    string // as in a test's name
	Promise string // what holds
	Source  string // where that is promised, or the commit that mended it when it was broken
	Since   [2]int // the first kernel that promises it, {6, 2} for v6.2; {}: all do

	// Needs returns why this machine cannot show the promise, or "". nil: every machine can.
	Needs func(s *Suite) string

	// Setup prepares the scene before the actors begin. nil: nothing is to prepare.
	Setup func(x *Scene) error

	Actors []Actor

	// Cycle is what a CPU does. It is called for each of the CPUs in turn, as often as [Options.Cycles] says. nil: it goes
	// offline and comes back.
	Cycle func(x *Scene, cpu int) error

	// Together makes Cycle be called for the last of the CPUs alone, as it takes more of them along.
	Together bool

	// Hold is what is checked when the CPUs have all come back, while the actors still act. nil: nothing more.
	Hold func(x *Scene) error
}

// RunScenarios runs each of the [Scenarios] as a subtest of t.
func (s *Suite) RunScenarios(t *testing.T) {
	for i := range Scenarios {
		sc := &Scenarios[i]
		t.Run(sc.Name, func(t *testing.T) { s.scenario(t, sc) })
	}
}

func (s *Suite) scenario(t *testing.T, sc *Scenario) {
	counted.test(t)
	for _, f := range s.facts {
		t.Attr(f[0], f[1])
	}
	if err := s.hung.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	if major, minor := sc.Since[0], sc.Since[1]; !s.kernel.since(major, minor) {
		s.skip(t, fmt.Sprintf("this is promised since v%d.%d, and the kernel is %d.%d", major, minor, s.kernel.major, s.kernel.minor))
	}
	if sc.Needs != nil {
		if missing := sc.Needs(s); missing != "" {
			s.skip(t, missing)
		}
	}
	s.said.watch(t)
	// What happens does not depend on how soon it is looked at.
	if err := s.crowd.set(false); err != nil {
		t.Fatal(err)
	}
	x := s.newScene()
	cycles, err := x.play(sc, s.opts.Cycles)
	t.Attr("cycles", strconv.Itoa(cycles))
	t.Attr("time-per-cycle", ms(time.Since(x.begin)/time.Duration(max(cycles, 1))))
	for _, name := range slices.Sorted(maps.Keys(x.notes)) {
		t.Attr(name, ms(x.notes[name]))
	}
	if err != nil {
		t.Error(sc.describe(err))
	}
}

// play is a scenario from the beginning to the end.
func (x *Scene) play(sc *Scenario, repeat int) (cycles int, err error) {
	if sc.Setup != nil {
		err = sc.Setup(x)
	}
	if err == nil {
		err = x.start(sc.Actors)
	}
	cycle, cpus := sc.Cycle, x.Targets()
	if cycle == nil {
		cycle = (*Scene).thereAndBack
	}
	if sc.Together {
		cpus = cpus[len(cpus)-1:]
	}
	for range repeat {
		for _, cpu := range cpus {
			if err == nil {
				cycles++
				if err = cycle(x, cpu); err != nil {
					err = fmt.Errorf("cycle %d: %w", cycles, err)
				}
			}
		}
	}
	if err == nil && sc.Hold != nil {
		err = sc.Hold(x)
	}
	err = errors.Join(err, x.stop())
	if !x.suite.hung.any() {
		// Whatever went wrong, the CPUs come back.
		err = errors.Join(err, x.suite.bounded("bringing all CPUs online", func() (err error) {
			for cpu := range x.suite.usable.All() {
				err = errors.Join(err, x.suite.put(cpu, Online))
			}
			return err
		}))
	}
	// Nobody is to take the uevents of a scene for their own.
	return cycles, errors.Join(err, x.suite.events.Drain())
}

// describe says what a kernel developer wants to know of a scenario that went wrong.
func (sc *Scenario) describe(err error) string {
	return fmt.Sprintf("%s\n    promised: %s\n    seen:     %s\n    source:   %s", sc.Name, sc.Promise,
		strings.ReplaceAll(err.Error(), "\n", "\n              "), sc.Source)
}

// needsChild is for promises about a task in a cpuset that is not the root.
func needsChild(s *Suite) string {
	if s.places[1].losing {
		return "cgroup v1: a child cpuset loses a CPU that goes offline for good, by design"
	}
	return s.places[1].missing
}

// needsBalanced is for promises about tasks that come to a CPU by themselves, or count on it. An isolated CPU is in no domain
// of those that have the others.
func needsBalanced(s *Suite) string {
	if isolated := affinity.Of(s.targets...).Intersect(s.isolated); !isolated.Empty() {
		return fmt.Sprintf("CPU %v is isolated: only what is pinned runs there", isolated)
	}
	return ""
}

// needsStaying is for scenarios that need a CPU beside those that go.
func needsStaying(s *Suite) string {
	shared, err := s.shared()
	if err != nil {
		return err.Error()
	}
	if shared.Difference(affinity.Of(s.targets...)).Empty() {
		return fmt.Sprintf("all of the online CPUs, %v, come and go; a CPU that stays is needed", shared)
	}
	return ""
}

// both joins two Needs.
func both(a, b func(*Suite) string) func(*Suite) string {
	return func(s *Suite) string {
		if missing := a(s); missing != "" {
			return missing
		}
		return b(s)
	}
}

// Scenarios are what must hold while CPUs come and go. Whoever embeds the suite may append.
var Scenarios = []Scenario{
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
		Needs:   both(needsIRQ, needsStaying),
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
		Since:   [2]int{6, 2},
		Needs:   both(needsChild, needsStaying),
		Cycle:   maskOfTwo,
	},
	{
		Name:    "mask-of-one-running",
		Promise: "a running task that may run just on a CPU that goes may run anywhere then, also when the CPU is back",
		Source:  `sched_setaffinity(2), select_fallback_rq(); 851a723e45d1 ("sched: Always clear user_cpus_ptr in do_set_cpus_allowed()", v6.2)`,
		Needs:   needsChild,
		Cycle:   maskOfOneRunning,
	},
	{
		Name:    "mask-of-one-sleeping",
		Promise: "a task that may run just on a CPU which goes and comes back while it sleeps has its mask as it was",
		Source:  `8f9ea86fdf99 ("sched: Always preserve the user requested cpumask", v6.2)`,
		Since:   [2]int{6, 2},
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
		Needs:   needsChild,
		Actors:  []Actor{cgroupChurn},
	},
	{
		Name:     "two-writers",
		Promise:  "two CPUs can be taken offline and online from two sides at once",
		Source:   docHotplug + ": the operations are serialised",
		Needs:    both(needsTwo, needsStaying),
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
		Needs: func(*Suite) string {
			return needsFile("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS")(nil)
		},
		Cycle: perfCounts,
	},
	{
		Name:     "deadline",
		Promise:  "a CPU whose going would leave SCHED_DEADLINE tasks with less than they were promised does not go, EBUSY, until they are none",
		Source:   `Documentation/scheduler/sched-deadline.rst; 53916d5fd3c0 ("sched/deadline: Check bandwidth overflow earlier for hotplug", v6.14)`,
		Needs:    both(needsBalanced, needsDeadline),
		Setup:    deadlinesOver,
		Actors:   []Actor{deadlines},
		Cycle:    deadlineRefuses,
		Together: true,
	},
	{
		Name:    "idle-counters",
		Promise: "the idle time of a CPU in /proc/stat, iowait included, goes on from where it was when the CPU is back",
		Source:  `proc_stat(5); 71fee48fb772 ("tick-sched: Fix idle and iowait sleeptime accounting vs CPU hotplug", v6.8)`,
		// Before that, and before 620a30fa0bd1 (v6.3), a reader on another CPU may see it go back without a fault of hotplug's.
		Since: [2]int{6, 8},
		Cycle: idleGoesOn,
	},
}
