package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// promiseScenarios are about what SCHED_DEADLINE tasks were promised.
var promiseScenarios = []Scenario{
	{
		Name: "deadline-taken-back",
		Promise: "what a deadline task was promised is taken back once: when it gets another policy, and a CPU goes offline before its zero-lag time, " +
			"others can go offline after it",
		Source:   "Documentation/scheduler/sched-deadline.rst, Bandwidth reclaiming; kernel/sched/deadline.c: inactive_task_timer(), dl_clear_root_domain()",
		Known:    []Defect{takenBackTwice},
		Needs:    allOf(needsBalanced, needsDeadline, needsTwo, needsStaying, needsFewServers),
		Cycle:    deadlineTakenBack,
		Together: true,
	},
}

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
		Needs:       allOf(needsBalanced, needsDeadline),
		Cycle:       deadlineEnds,
		Together:    true,
	},
}

// promise is the time that a deadline task is promised in each period.
type promise struct{ runtime, period time.Duration }

// A task uses most of it and sleeps then. Its zero-lag time is that at which it
// would have used as much at its rate: four fifths of its period after that
// began.
func (p promise) uses() time.Duration { return p.runtime * 4 / 5 }

// owes returns how far ahead the zero-lag time of a task can be that has had so
// much since it was promised that. The kernel stops a task that has used up what
// it was promised for a period, but later than it should if the machine has not
// come to it, as a virtual one that waits for a processor. Then it takes as many
// periods from the task as that was worth.
func (p promise) owes(used time.Duration) time.Duration {
	return time.Duration(float64(used)*(float64(p.period)/float64(p.runtime))) + p.period
}

var (
	smallPromise = promise{100 * time.Millisecond, 2 * time.Second}
	largePromise = promise{250 * time.Millisecond, 500 * time.Millisecond}
)

// needsFewServers is for a machine whose CPUs together have promised less to the
// kernel's own deadline servers, a twentieth of each since v6.12, than
// largePromise: a total that this is taken from twice is below zero.
func needsFewServers(m *Machine) error {
	const each = 20
	n := m.Online.Count()
	if m.Kernel.Since(Version{6, 12}) && time.Duration(n)*largePromise.period/each >= largePromise.runtime {
		return suite.Unsupportedf("the kernel's own deadline servers on %d CPUs are promised more than a task of this row", n)
	}
	return nil
}

func deadlineEnds(x *Scene, cpu int) error {
	return untilInTime(cpu, func() (try sleeperTry, err error) {
		err = withSleeper(x, cpu, smallPromise, func(task sleeper) (err error) {
			if try.moved = task.ran != cpu; try.moved {
				return nil
			}
			try, err = endSleeper(x, cpu, task, func() error { return nil })
			return err
		})
		return try, err
	})
}

// deadlineTakenBack has the task run on a CPU that stays. The kernel makes a new
// total of what is promised when the other one goes, and again when it comes
// back, so that what is wrong with it does not outlast the row.
func deadlineTakenBack(x *Scene, cpu int) error {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	other := x.Targets()[0]
	return untilInTime(cpu, func() (try sleeperTry, err error) {
		err = withSleeper(x, stays, largePromise, func(task sleeper) (err error) {
			if try.moved = task.ran == cpu; try.moved {
				return nil
			}
			try, err = endSleeper(x, cpu, task, func() error {
				if err := x.Set(other, Offline); err != nil {
					return fmt.Errorf("while cpu%d is offline, and after the zero-lag time of a deadline task that got another policy before that: %w", cpu, err)
				}
				return x.Set(other, Online)
			})
			return err
		})
		return try, err
	})
}

// sleeperTry is what became of a try to take a CPU offline before the zero-lag
// time of a task that has run on it.
type sleeperTry struct {
	moved   bool          // somebody has moved the task, and nothing was done
	offline time.Duration // when the CPU was offline, from when the task got its policy
	zeroLag time.Duration // the earliest that the zero-lag time can be
}

// inTime reports whether the CPU was offline at the zero-lag time.
func (t sleeperTry) inTime() bool { return !t.moved && t.offline < t.zeroLag }

// untilInTime makes tries until one is in time: one that is not shows nothing.
func untilInTime(cpu int, try func() (sleeperTry, error)) error {
	const tries = 5
	moved := 0
	var late []string
	for range tries {
		t, err := try()
		switch {
		case err != nil || t.inTime():
			return err
		case t.moved:
			moved++
		default:
			late = append(late, fmt.Sprintf("%v of %v", t.offline.Round(time.Millisecond), t.zeroLag.Round(time.Millisecond)))
		}
	}
	if len(late) == 0 {
		return suite.Unsupportedf("a deadline task was moved to another CPU, in %d of %d tries", moved, tries)
	}
	text := fmt.Sprintf("cpu%d was not offline before a deadline task's zero-lag time: after %s", cpu, strings.Join(late, ", "))
	if moved > 0 {
		text += fmt.Sprintf("; in %d of %d tries, the task was moved to another CPU", moved, tries)
	}
	return suite.Unsupportedf("%s", text)
}

// endSleeper gives the task another policy, takes the CPU offline, and if that
// was in time, leaves it offline until the kernel's timer has expired, and calls
// then.
func endSleeper(x *Scene, cpu int, task sleeper, then func() error) (sleeperTry, error) {
	ordinary := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if err := unix.SchedSetAttr(task.tid, &ordinary, 0); err != nil {
		return sleeperTry{}, os.NewSyscallError("sched_setattr(SCHED_NORMAL)", err)
	}
	if err := x.Set(cpu, Offline); err != nil {
		return sleeperTry{}, err
	}
	try := sleeperTry{offline: time.Since(task.began), zeroLag: task.zeroLag()}
	var err error
	if try.inTime() {
		// The first period began after task.began, and the task has done little
		// since it had used that much.
		until := max(2*task.promised.period, task.promised.owes(task.used))
		if err = takenBack(x.Machine, task.began.Add(until)); err == nil {
			err = then()
		}
	}
	return try, errors.Join(err, x.Set(cpu, Online))
}

// sleeper is a deadline task that sleeps.
type sleeper struct {
	tid      int
	promised promise
	ran      int           // CPU that it has run on
	began    time.Time     // right before it got its policy, and so its first period began
	used     time.Duration // CPU time that it has had since then, at least
}

// zeroLag returns the earliest that its zero-lag time can be, from when it
// began: when it would have used as much at its rate. What it has used since
// then makes it later. A CPU that runs slower than it can makes it earlier: the
// kernel counts less.
func (s sleeper) zeroLag() time.Duration { return s.used * (s.promised.period / s.promised.runtime) }

// withSleeper calls f while a deadline task sleeps that has run on cpu, if nobody
// has moved it, and used most of what it was promised.
func withSleeper(x *Scene, cpu int, promised promise, f func(task sleeper) error) error {
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
	var task atomic.Pointer[sleeper]
	act := func() error {
		// A deadline task may not be pinned, so it is before it is one.
		if err := affinity.Set(0, shared); err != nil {
			return err
		}
		attr := unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_DEADLINE, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
			Runtime: uint64(promised.runtime), Deadline: uint64(promised.period), Period: uint64(promised.period),
		}
		s := sleeper{tid: unix.Gettid(), promised: promised, began: time.Now()}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return os.NewSyscallError("sched_setattr(SCHED_DEADLINE)", err)
		}
		s.used = compute(promised.uses())
		var err error
		if s.ran, _, err = affinity.Current(); err != nil {
			return err
		}
		task.Store(&s)
		_, err = read(in, make([]byte, 1))
		return err
	}
	return withTask(x, affinity.Of(cpu), act, func(int) { w.Close() }, func(tid int) error {
		if err := asleep(tid, in); err != nil {
			return fmt.Errorf("a deadline task: %w", err)
		}
		return f(*task.Load())
	})
}

// compute takes CPU time, as much as it returns, without Go's scheduler: that
// calls sched_yield(2), by which a deadline task gives up the rest of its period.
func compute(least time.Duration) (used time.Duration) {
	begin := threadTime()
	var had unix.Timespec
	for used < least {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&had)), 0)
		used = time.Duration(had.Nano()) - begin
	}
	return used
}

// threadTime returns the CPU time that the calling thread has had.
func threadTime() time.Duration {
	var had unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &had) // the clock is there
	return time.Duration(had.Nano())
}
