package hotplugtest

import (
	"fmt"
	"os"
	"strings"
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

// The task uses most of what it is promised and sleeps then. Its zero-lag time
// is that at which it would have used as much at its rate: more than a second
// after its period began.
const (
	sleeperPeriod  = 2 * time.Second
	sleeperRuntime = sleeperPeriod / 20
	sleeperUses    = sleeperRuntime * 4 / 5
)

func deadlineEnds(x *Scene, cpu int) error {
	return untilInTime(cpu, func() (try sleeperTry, err error) {
		err = withSleeper(x, cpu, func(task sleeper) (err error) {
			try, err = endSleeper(x, cpu, task)
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
		return suite.Unsupportedf("a deadline task that is to run on cpu%d was moved to another CPU, in %d of %d tries", cpu, moved, tries)
	}
	text := fmt.Sprintf("cpu%d was not offline before a deadline task's zero-lag time: after %s", cpu, strings.Join(late, ", "))
	if moved > 0 {
		text += fmt.Sprintf("; in %d of %d tries, the task was moved to another CPU", moved, tries)
	}
	return suite.Unsupportedf("%s", text)
}

// endSleeper gives the task another policy, takes the CPU offline, and if that
// was in time, leaves it offline until the kernel's timer has expired.
func endSleeper(x *Scene, cpu int, task sleeper) (sleeperTry, error) {
	if task.ran != cpu {
		return sleeperTry{moved: true}, nil
	}
	ordinary := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if err := unix.SchedSetAttr(task.tid, &ordinary, 0); err != nil {
		return sleeperTry{}, os.NewSyscallError("sched_setattr(SCHED_NORMAL)", err)
	}
	if err := x.Set(cpu, Offline); err != nil {
		return sleeperTry{}, err
	}
	try := sleeperTry{offline: time.Since(task.began), zeroLag: task.zeroLag()}
	if try.inTime() {
		// Nothing but the kernel's tracing, which need not be built in, tells user
		// space that the timer has expired. Its time is known: before the period
		// is over.
		time.Sleep(time.Until(task.began.Add(2 * sleeperPeriod)))
	}
	return try, x.Set(cpu, Online)
}

// sleeper is a deadline task that sleeps.
type sleeper struct {
	tid   int
	ran   int           // CPU that it has run on
	began time.Time     // right before it got its policy, and so its first period began
	used  time.Duration // CPU time that it has had since then, at least
}

// zeroLag returns the earliest that its zero-lag time can be, from when it
// began: when it would have used as much at its rate. What it has used since
// then makes it later. A CPU that runs slower than it can makes it earlier: the
// kernel counts less.
func (s sleeper) zeroLag() time.Duration { return s.used * (sleeperPeriod / sleeperRuntime) }

// withSleeper calls f while a deadline task sleeps that has run on cpu, if nobody
// has moved it.
func withSleeper(x *Scene, cpu int, f func(task sleeper) error) error {
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
			Runtime: uint64(sleeperRuntime), Deadline: uint64(sleeperPeriod), Period: uint64(sleeperPeriod),
		}
		s := sleeper{tid: unix.Gettid(), began: time.Now()}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return os.NewSyscallError("sched_setattr(SCHED_DEADLINE)", err)
		}
		for begin := threadTime(); s.used < sleeperUses; s.used = threadTime() - begin {
		}
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

// threadTime returns the CPU time that the calling thread has had.
func threadTime() time.Duration {
	var had unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &had) // the clock is there
	return time.Duration(had.Nano())
}
