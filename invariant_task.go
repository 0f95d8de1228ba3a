package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// armAffinity checks that the thread can be pinned to the CPU while it is
// online, and only then.
func armAffinity(p *Probe) (Check, error) {
	only := affinity.Of(p.CPU)
	if p.State == Online {
		return func() error { return affinity.Set(0, only) }, nil
	}
	return func() error {
		switch err := affinity.Set(0, only); {
		case errors.Is(err, unix.EINVAL):
			return nil
		case err == nil:
			return fmt.Errorf("sched_setaffinity to {%v} succeeded, want EINVAL", only)
		default:
			return fmt.Errorf("%w, want EINVAL", err)
		}
	}, nil
}

// armRuns checks that a thread is where it was pinned to.
func armRuns(p *Probe) (Check, error) {
	only := affinity.Of(p.CPU)
	return func() error {
		if err := affinity.Set(0, only); err != nil {
			return err
		}
		cpu, _, err := affinity.Current()
		if err == nil && cpu != p.CPU {
			err = fmt.Errorf("the thread is pinned to cpu%d and runs on cpu%d", p.CPU, cpu)
		}
		return err
	}, nil
}

// armRunningTask has a task run on the CPU, and checks that it goes on. The
// task begins to run right before the operation, and ends when it has been seen
// where it must be: under software emulation, each CPU that computes takes time
// from all others.
func armRunningTask(p *Probe) (Check, error) {
	task := &runningTask{begun: make(chan struct{})}
	if err := p.Spawn(task.run, task.end); err != nil {
		return nil, err
	}
	var before atomic.Pointer[error]
	p.BeforeOperation(func() {
		task.begin()
		if err := task.runs(); err != nil {
			before.Store(&err)
		}
	})
	return func() error {
		if err := before.Load(); err != nil {
			return fmt.Errorf("before the operation: %w", *err)
		}
		if err := task.runs(); err != nil {
			return err
		}
		err := taskOn(p, int(task.on.Load()))
		if err == nil {
			task.stop.Store(true)
		}
		return err
	}, nil
}

// A runningTask computes from its beginning to its end.
type runningTask struct {
	once  sync.Once
	begun chan struct{} // closed when it must begin
	stop  atomic.Bool
	laps  atomic.Uint64
	on    atomic.Int64 // the CPU that it was on in its last lap
}

func (r *runningTask) begin() { r.once.Do(func() { close(r.begun) }) }

// end ends it, also if it has not begun.
func (r *runningTask) end() {
	r.stop.Store(true)
	r.begin()
}

func (r *runningTask) run() error {
	<-r.begun
	for !r.stop.Load() {
		cpu, _, err := affinity.Current()
		if err != nil {
			return err
		}
		r.on.Store(int64(cpu))
		r.laps.Add(1)
	}
	return nil
}

// runs returns an error if the task does not run.
func (r *runningTask) runs() error {
	// The second lap from now began after now.
	for from, end := r.laps.Load(), time.Now().Add(suite.TaskTimeout); r.laps.Load() < from+2; {
		if time.Now().After(end) {
			return fmt.Errorf("it has not run for %v", suite.TaskTimeout)
		}
		runtime.Gosched()
	}
	return nil
}

// armSleepingTask has a task sleep on the CPU, and checks that it can be woken.
func armSleepingTask(p *Probe) (Check, error) {
	wake, sleep, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// Fd makes the pipe blocking, so that the task sleeps in the kernel, on its
	// own thread.
	in, out := int(wake.Fd()), int(sleep.Fd())
	type answer struct {
		cpu int
		err error
	}
	answers := make(chan answer, 1) // for one that comes late, too
	err = p.Spawn(func() error {
		defer wake.Close()
		for buf := make([]byte, 1); ; {
			if n, err := unix.Read(in, buf); n == 0 || (err != nil && err != unix.EINTR) {
				return err
			}
			cpu, _, err := affinity.Current()
			answers <- answer{cpu, err}
		}
	}, func() { sleep.Close() })
	return func() error {
		if _, err := unix.Write(out, []byte{0}); err != nil {
			return os.NewSyscallError("write", err)
		}
		select {
		case a := <-answers:
			if a.err != nil {
				return a.err
			}
			return taskOn(p, a.cpu)
		case <-time.After(suite.TaskTimeout):
			return fmt.Errorf("it has not run for %v", suite.TaskTimeout)
		}
	}, err
}

// armGetaffinity lets the thread run anywhere, and checks which CPUs it has.
func armGetaffinity(p *Probe) (Check, error) {
	// While the CPU is offline, this leaves a mask without it, which the cpuset
	// must mend when the CPU is back. A thread that just comes into the cpuset
	// may keep the mask that it had. The root cpuset mends none, but before
	// v6.2 a thread that comes to it may run anywhere.
	m := p.Machine
	if p.From.Enters {
		present, err := m.CPUs.Present()
		if err := errors.Join(err, affinity.Set(0, present)); err != nil {
			return nil, err
		}
	} else if m.Rebound && !m.Kernel.Since(Version{6, 2}) && m.Child.Group != nil {
		if m.Child.DropsOffline {
			if err := m.GiveBack(m.Child, nil); err != nil { // or it may have none
				return nil, err
			}
		}
		if err := errors.Join(m.Child.Group.AttachThread(0), p.From.Group.AttachThread(0)); err != nil {
			return nil, err
		}
	}
	return func() error {
		cpus, err := affinity.Get(0)
		if err != nil {
			return err
		}
		return p.Listed(cpus.Has(p.CPU), "sched_getaffinity gives %v", cpus)
	}, nil
}

// taskOn checks where a task that was pinned to the CPU runs after the
// transition. An operation that was rolled back may have moved it away before
// that, and nothing is promised to bring it back.
func taskOn(p *Probe, cpu int) error {
	if p.Transition.RolledBack && p.State == Online {
		return nil
	}
	if (cpu == p.CPU) == (p.State == Online) {
		return inCpuset(p, cpu)
	}
	return fmt.Errorf("it runs on cpu%d, but cpu%d, which it was pinned to, is %v", cpu, p.CPU, p.State)
}

// inCpuset checks that a task may be on a CPU as far as its cpuset is
// concerned.
func inCpuset(p *Probe, cpu int) error {
	if p.From.Missing != nil {
		return nil
	}
	cpus, err := p.From.Group.Effective()
	if err == nil && !cpus.Has(cpu) {
		err = fmt.Errorf("it runs on cpu%d, but its cpuset %s has only CPUs %v", cpu, p.From.Group.Path(), cpus)
	}
	return err
}
