// Package outside is somebody else's module: rows of each kind, written with
// what hotplugtest exports. ci/test runs it in a virtual machine.
package outside

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

var options = func() *hotplugtest.Options {
	o := &hotplugtest.Options{MustTest: true, Soak: 3 * time.Second, Cpusets: 100}
	o.Flags(flag.CommandLine)
	return o
}()

// What the rows have done.
var setups, undos, armed, acted, worked atomic.Int64
var placements = make(map[string]int)

// offlineBeside takes a CPU offline while another one is offline already.
var offlineBeside = hotplugtest.Transition{
	Name:   "Beside/offline",
	Source: "a document of ours",
	Before: hotplugtest.Online, After: hotplugtest.Offline, Uevent: "offline",
	Op: func(o *hotplugtest.Operation) error { return o.Machine.CPUs.SetOnline(o.CPU, false) },
	Setup: func(m *hotplugtest.Machine) (hotplugtest.Prepared, error) {
		setups.Add(1)
		if len(m.Targets) < 2 || m.Usable.Count() < 3 {
			return hotplugtest.Prepared{}, suite.Unsupportedf("of CPUs %v too few may be taken offline", m.Usable)
		}
		beside := affinity.Of(m.Targets[0])
		undo := func() error { undos.Add(1); return m.SetAll(beside, hotplugtest.Online) }
		return hotplugtest.Prepared{CPUs: m.Targets[1:], Undo: undo}, m.TakeOffline(beside)
	},
}

// threadStays is armed before the transition: it must know the thread.
var threadStays = hotplugtest.Invariant{
	Name:    "thread-stays",
	Promise: "the CPU's thread ksoftirqd/N is the same before and after",
	Source:  "kernel/smpboot.c: the threads are parked, not ended",
	Arm: func(p *hotplugtest.Probe) (hotplugtest.Check, error) {
		armed.Add(1)
		name := fmt.Sprintf("ksoftirqd/%d", p.CPU)
		files, err := filepath.Glob("/proc/[0-9]*/comm")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			comm, _ := os.ReadFile(file)
			if strings.TrimSpace(string(comm)) != name {
				continue
			}
			return func() error {
				comm, err := os.ReadFile(file)
				if err == nil && strings.TrimSpace(string(comm)) != name {
					err = fmt.Errorf("%s is %q", file, comm)
				}
				return err
			}, nil
		}
		return nil, fmt.Errorf("no thread %s", name)
	},
}

// pinnable is looked at from each cpuset.
var pinnable = hotplugtest.Invariant{
	Name:    "pinnable",
	Promise: "a thread can be pinned to the CPU while it is online",
	Source:  "sched_setaffinity(2)",
	After:   hotplugtest.Online,
	Placed:  true,
	Needs: func(v hotplugtest.View) error {
		if !v.Machine.Kernel.Since(hotplugtest.Version{2, 6}) {
			return suite.Unsupportedf("there is no sched_setaffinity(2)")
		}
		return nil
	},
	Arm: func(p *hotplugtest.Probe) (hotplugtest.Check, error) {
		placements[p.From.Name]++
		mask := affinity.Of(p.CPU)
		return func() error { return affinity.Set(0, mask) }, nil
	},
}

// yields is an actor that only makes system calls.
func yields(count *atomic.Int64) hotplugtest.Actor {
	return hotplugtest.Actor{
		Name:  "yields",
		Count: func(x *hotplugtest.Scene) int { return len(x.Targets()) },
		Begin: func(a *hotplugtest.Act) (func() error, error) {
			a.Cleanup(func() error { count.Add(1); return nil })
			return func() error {
				cpu, _, err := affinity.Current()
				a.Scene.Ran(cpu)
				return err
			}, a.Scene.Enter()
		},
	}
}

func tables() *hotplugtest.Tables {
	t := hotplugtest.Default()
	// The soak needs some; the other rows have their own tests.
	t.Transitions = slices.DeleteFunc(t.Transitions, func(t hotplugtest.Transition) bool { return !t.Soak })
	t.Invariants = slices.DeleteFunc(t.Invariants, func(i hotplugtest.Invariant) bool { return !i.Soak })
	t.Transitions = append(t.Transitions, offlineBeside)
	t.Invariants = append(t.Invariants, threadStays, pinnable)
	t.Scenarios = []hotplugtest.Scenario{{
		Name:    "yields",
		Promise: "system calls return while CPUs go offline and online",
		Source:  "a document of ours",
		Actors:  []hotplugtest.Actor{yields(&acted)},
		Cycle: func(x *hotplugtest.Scene, cpu int) error {
			return x.OffAndOn(cpu)
		},
		Hold: func(x *hotplugtest.Scene) error {
			if !suite.WaitFor(suite.TaskTimeout, func() bool { return x.Turns() > 0 }) {
				return fmt.Errorf("%d threads have had no turn", x.Threads())
			}
			x.Note("held-after", x.Elapsed())
			return nil
		},
	}}
	t.Workloads = []hotplugtest.Workload{{Name: "yields", Actors: []hotplugtest.Actor{yields(&worked)}}}
	return &t
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(options.Conclude(m.Run()))
}

func TestOutside(t *testing.T) {
	options.Tables = tables()
	hotplugtest.Run(t, *options)
	if t.Failed() {
		return
	}
	for name, n := range map[string]int64{
		"the set-up": setups.Load(), "its undoing": undos.Load(), "the check that is armed": armed.Load(),
		"the look from the root": int64(placements["root-cpuset"]), "the look from the child": int64(placements["child-cpuset"]),
		"the actor": acted.Load(), "the workload": worked.Load(),
	} {
		if n == 0 {
			t.Errorf("%s was never run", name)
		}
	}
}
