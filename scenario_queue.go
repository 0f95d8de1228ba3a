package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// queueScenarios are about what is queued on a CPU that goes offline.
var queueScenarios = []Scenario{
	{
		Name:    "grace-period",
		Promise: "a task on the CPU that waits for an RCU grace period goes on, though the CPU goes offline meanwhile and stays so",
		Source:  "membarrier(2): MEMBARRIER_CMD_GLOBAL; kernel/rcu/tree.c: rcutree_migrate_callbacks()",
		Needs:   needsMembarrier,
		Setup:   func(x *Scene) error { x.Data = make([]waits, len(x.Targets())); return nil },
		Actors:  []Actor{gracePeriods},
		Cycle:   gracePeriodEnds,
	},
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL, which waits for a grace period.
const membarrierGlobal = 1

func membarrier(cmd int) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, uintptr(cmd), 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("membarrier", errno)
	}
	return int(n), nil
}

// needsMembarrier is for rows that wait for grace periods. With nohz_full=
// the kernel does not offer it.
func needsMembarrier(*Machine) error {
	commands, err := membarrier(0)
	if err != nil || commands&membarrierGlobal == 0 {
		return suite.Unsupportedf("membarrier(2) has no MEMBARRIER_CMD_GLOBAL here (%v): it is not there with nohz_full=", err)
	}
	return nil
}

// onTarget pins the calling thread to the CPU of an actor's thread, if that is
// online.
func onTarget(cpu int) (on bool, err error) {
	err = affinity.Set(0, affinity.Of(cpu))
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

// waits are how often a task has begun to wait for a grace period, and has gone
// on.
type waits struct{ begun, ended atomic.Uint64 }

// gracePeriods wait for grace periods on each of the CPUs that come and go.
var gracePeriods = Actor{
	Name:  "grace period",
	Count: func(x *Scene) int { return len(x.Targets()) },
	Begin: func(a *Act) (func() error, error) {
		cpu := a.Scene.Targets()[a.N]
		w := &a.Scene.Data.([]waits)[a.N]
		return func() error {
			if on, err := onTarget(cpu); !on {
				time.Sleep(time.Millisecond)
				return err
			}
			w.begun.Add(1)
			_, err := membarrier(membarrierGlobal)
			w.ended.Add(1)
			return err
		}, a.Scene.Enter()
	},
}

// gracePeriodEnds takes the CPU offline, and waits there for the task that had
// begun to wait on it.
func gracePeriodEnds(x *Scene, cpu int) error {
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	w := &x.Data.([]waits)[slices.Index(x.Targets(), cpu)]
	offline, begun := time.Now(), w.begun.Load()
	var err error
	if !suite.WaitFor(suite.TaskTimeout, func() bool { return w.ended.Load() >= begun }) {
		err = fmt.Errorf("a task that was on cpu%d waits for a grace period for %v since that has gone offline", cpu, suite.TaskTimeout)
	}
	x.Note("grace-period-ends-after", time.Since(offline))
	return errors.Join(err, x.Set(cpu, Online))
}
