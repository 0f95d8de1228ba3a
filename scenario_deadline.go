package hotplugtest

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// sleeperScenarios are about SCHED_DEADLINE tasks that sleep while the CPU is
// offline that they ran on last.
var sleeperScenarios = []Scenario{
	{
		Name: "deadline-ended",
		Promise: "a deadline task can sleep, get another policy, and have its CPU go offline before the zero-lag time at which the kernel " +
			"takes back what it was promised",
		Source:      "Documentation/scheduler/sched-deadline.rst, Bandwidth reclaiming; kernel/sched/deadline.c: inactive_task_timer(), dl_bw_cpus()",
		Known:       []Defect{offlineDivides},
		Destructive: true,
		Needs:       both(needsBalanced, needsDeadline),
		Cycle:       deadlineEnds,
		Together:    true,
	},
}

// The task uses most of what it is promised and sleeps then: its zero-lag time
// is as far off as what it has used takes at its rate, more than a second.
const (
	sleeperPeriod  = 2 * time.Second
	sleeperRuntime = sleeperPeriod / 20
	sleeperUses    = sleeperRuntime * 4 / 5
)

func deadlineEnds(x *Scene, cpu int) error {
	const tries = 5
	for range tries {
		begin, stayed := time.Now(), false
		err := withSleeper(x, cpu, func(tid, ran int) error {
			if stayed = ran == cpu; !stayed {
				return nil // somebody has moved it
			}
			ordinary := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
			if err := unix.SchedSetAttr(tid, &ordinary, 0); err != nil {
				return os.NewSyscallError("sched_setattr(SCHED_NORMAL)", err)
			}
			if err := x.Set(cpu, Offline); err != nil {
				return err
			}
			// Nothing tells when the kernel's timer has expired. It has when
			// the period is over.
			time.Sleep(time.Until(begin.Add(2 * sleeperPeriod)))
			return x.Set(cpu, Online)
		})
		if err != nil || stayed {
			return err
		}
	}
	return suite.Unsupportedf("a deadline task that is to run on cpu%d was moved to another CPU, %d times", cpu, tries)
}

// withSleeper calls f while a deadline task sleeps, with the CPU that it has run
// on: cpu, if nobody has moved it.
func withSleeper(x *Scene, cpu int, f func(tid, ran int) error) error {
	shared, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	in := int(r.Fd()) // blocking: it sleeps in the kernel
	var ran atomic.Int64
	act := func() error {
		// A deadline task may not be pinned, so it is before it is one.
		if err := affinity.Set(0, shared); err != nil {
			return err
		}
		attr := unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_DEADLINE, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
			Runtime: uint64(sleeperRuntime), Deadline: uint64(sleeperPeriod), Period: uint64(sleeperPeriod),
		}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return os.NewSyscallError("sched_setattr(SCHED_DEADLINE)", err)
		}
		for begin := threadTime(); threadTime()-begin < sleeperUses; {
		}
		on, _, err := affinity.Current()
		if err != nil {
			return err
		}
		ran.Store(int64(on))
		_, err = read(in, make([]byte, 1))
		return err
	}
	return withTask(x, affinity.Of(cpu), act, func(int) { w.Close() }, func(tid int) error {
		if err := asleep(tid, in); err != nil {
			return fmt.Errorf("a deadline task: %w", err)
		}
		return f(tid, int(ran.Load()))
	})
}

// threadTime returns the CPU time that the calling thread has had.
func threadTime() time.Duration {
	var had unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &had) // the clock is there
	return time.Duration(had.Nano())
}
