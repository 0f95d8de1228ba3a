package hotplugtest

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// withTask calls f while another thread does act. That thread is in the child
// cpuset and may run on the CPUs in mask. end must make act return; it is
// called until act has.
func withTask(x *Scene, mask affinity.CPUSet, act func() error, end func(tid int), f func(tid int) error) error {
	ready := make(chan error, 1)
	ended := make(chan error)
	tid := 0
	go func() {
		ended <- affinity.Thread(func() error {
			tid = unix.Gettid()
			err := errors.Join(x.Enter(), affinity.Set(0, mask))
			if ready <- err; err != nil {
				return nil
			}
			return act()
		})
	}()
	err := <-ready
	if err == nil {
		err = f(tid)
	}
	for {
		end(tid)
		if x.Hangs() {
			return err
		}
		select {
		case failed := <-ended:
			return errors.Join(err, failed)
		case <-time.After(time.Millisecond):
		}
	}
}

// withSleepingTask calls f while a thread that may run on the CPUs in mask
// sleeps.
func withSleepingTask(x *Scene, mask affinity.CPUSet, f func(tid int) error) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// Fd makes the pipe blocking, so that the thread sleeps in the kernel.
	in := int(r.Fd())
	return withTask(x, mask, func() error {
		_, err := read(in, make([]byte, 1))
		return err
	}, func(int) { w.Close() }, func(tid int) error {
		if err := asleep(tid, in); err != nil {
			return err
		}
		return f(tid)
	})
}

// withRunningTask calls f while a thread that may run on the CPUs in mask
// computes. It does so in one long system call: the runtime would preempt Go
// code from time to time, and put the thread to sleep.
func withRunningTask(x *Scene, mask affinity.CPUSet, f func(tid int) error) error {
	const file = "/dev/urandom"
	random, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(random)
	bufs := slices.Repeat([][]byte{make([]byte, 1<<20)}, 1024)
	var over atomic.Bool
	return withTask(x, mask, func() error {
		for !over.Load() {
			if _, err := unix.Readv(random, bufs); err != nil && err != unix.EINTR {
				return &os.PathError{Op: "readv", Path: file, Err: err}
			}
		}
		return nil
	}, func(tid int) {
		over.Store(true)
		// Go ignores this signal, but it ends the system call. ESRCH: the
		// thread has ended.
		_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
	}, f)
}

// asleep waits for a thread of this process to sleep in a read(2) of a file. It
// may sleep before that in the Go runtime, which wakes it again.
func asleep(tid, fd int) (err error) {
	file := fmt.Sprintf("/proc/self/task/%d/syscall", tid)
	reads := fmt.Sprintf("%d %#x ", unix.SYS_READ, fd)
	inRead := func() bool {
		var call string
		call, err = sysfs.ReadFile(file)
		return err != nil || strings.HasPrefix(call, reads)
	}
	if !suite.WaitFor(suite.TaskTimeout, inRead) {
		return fmt.Errorf("thread %d has not gone to sleep for %v", tid, suite.TaskTimeout)
	}
	return err
}

// mayRun checks which CPUs a task may run on.
func mayRun(tid int, want affinity.CPUSet, when string) error {
	cpus, err := affinity.Get(tid)
	if err == nil && !cpus.Equal(want) {
		err = fmt.Errorf("%s, sched_getaffinity of it gives %v, want %v", when, cpus, want)
	}
	return err
}

func maskOfTwo(x *Scene, cpu int) error {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	return withSleepingTask(x, affinity.Of(stays, cpu), func(tid int) error {
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
		err := mayRun(tid, affinity.Of(stays), fmt.Sprintf("when cpu%d has gone offline", cpu))
		return errors.Join(err, x.Set(cpu, Online), mayRun(tid, affinity.Of(stays, cpu), fmt.Sprintf("when cpu%d is back", cpu)))
	})
}

func maskOfOneRunning(x *Scene, cpu int) error {
	shared, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	const tries = 20
	for range tries {
		slept := false
		err := withRunningTask(x, affinity.Of(cpu), func(tid int) error {
			before, err := sleeps(tid)
			if err != nil {
				return err
			}
			if err := x.Set(cpu, Offline); err != nil {
				return err
			}
			// A task that sleeps when the CPU goes offline keeps its mask.
			after, err := sleeps(tid)
			if slept = before != after; slept || err != nil {
				return errors.Join(err, x.Set(cpu, Online))
			}
			err = mayRun(tid, shared.Without(cpu), fmt.Sprintf("when cpu%d has gone offline", cpu))
			return errors.Join(err, x.Set(cpu, Online), mayRun(tid, shared, fmt.Sprintf("when cpu%d is back", cpu)))
		})
		if err != nil || !slept {
			return err
		}
	}
	return fmt.Errorf("the task that was to run all the time has slept while cpu%d went offline, %d times", cpu, tries)
}

// sleeps returns how often a thread of this process has gone to sleep.
func sleeps(tid int) (int, error) {
	const name = "voluntary_ctxt_switches:\t"
	file := fmt.Sprintf("/proc/self/task/%d/status", tid)
	status, err := sysfs.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(status) {
		if n, ok := strings.CutPrefix(line, name); ok {
			return strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return 0, fmt.Errorf("%s: it has no %s", file, strings.TrimSpace(name))
}

func maskOfOneSleeping(x *Scene, cpu int) error {
	return withSleepingTask(x, affinity.Of(cpu), func(tid int) error {
		if err := x.OffAndOn(cpu); err != nil {
			return err
		}
		return mayRun(tid, affinity.Of(cpu), fmt.Sprintf("when cpu%d is back", cpu))
	})
}

// maskHalfOffline moves a thread from one online CPU to another, with masks
// that also have an offline CPU.
func maskHalfOffline(x *Scene, cpu int) error {
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	shared, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	err = x.Do("sched_setaffinity", func() error {
		if err := x.Enter(); err != nil {
			return err
		}
		for range 20 {
			for other := range shared.All() {
				mask := affinity.Of(other, cpu)
				if err := affinity.Set(0, mask); err != nil {
					return err
				}
				if on, _, err := affinity.Current(); err != nil || on != other {
					return errors.Join(err, fmt.Errorf("the thread was told to run on CPUs %v, of which cpu%d is offline, and runs on cpu%d", mask, cpu, on))
				}
			}
		}
		return nil
	})
	return errors.Join(err, x.Set(cpu, Online))
}

func needsTwo(m *Machine) error {
	if len(m.Targets) < 2 {
		return suite.Unsupportedf("only one CPU can be taken offline, or may be: %v", m.Usable)
	}
	return nil
}

// twoWriters takes two CPUs offline and online, each from a thread of its own.
func twoWriters(x *Scene, _ int) error {
	errs := make(chan error)
	cpus := []int{x.Targets()[0], x.Targets()[len(x.Targets())-1]}
	for _, cpu := range cpus {
		go func() {
			for range 3 {
				if err := x.OffAndOn(cpu); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	return errors.Join(<-errs, <-errs)
}

// spacings are the pauses before the next mask. After some of them, work that
// the last mask has started may still be going on.
var spacings = []time.Duration{0, 0, 10 * time.Millisecond, 0, 50 * time.Millisecond, 0, 2 * time.Millisecond, 200 * time.Millisecond}

// allMasks goes through all sets of online CPUs that up to four CPUs can make.
func allMasks(x *Scene, _ int) error {
	free, err := freeCPUs(x)
	if err != nil {
		return err
	}
	shared, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	for i, want := range masks(shared, free) {
		want = want.Union(x.Machine.Partitioned)
		now, err := x.Machine.CPUs.Online()
		if err != nil {
			return err
		}
		for cpu := range want.Difference(now).All() {
			err = errors.Join(err, x.Set(cpu, Online))
		}
		for cpu := range now.Difference(want).All() {
			err = errors.Join(err, x.Do(fmt.Sprintf("taking cpu%d offline", cpu), func() error { return x.Machine.TakeOffline(affinity.Of(cpu)) }))
		}
		if err != nil {
			return fmt.Errorf("from online CPUs %v to %v: %w", now, want, err)
		}
		if err := x.Do("sched_setaffinity", func() error { return checkMask(x, want, shared) }); err != nil {
			return fmt.Errorf("after going from online CPUs %v to %v: %w", now, want, err)
		}
		time.Sleep(spacings[i%len(spacings)])
	}
	return nil
}

// freeCPUs returns up to four CPUs that can be offline in any combination, as
// long as one CPU stays online. One that is not isolated stays: without it
// there is none that tasks may run on.
func freeCPUs(x *Scene) ([]int, error) {
	isolated, err := x.Machine.CPUs.Isolated()
	if err != nil {
		return nil, err
	}
	usable := x.Machine.Usable
	if !isolated.Empty() {
		online, err := x.Machine.CPUs.Online()
		if err != nil {
			return nil, err
		}
		first, _ := online.Difference(isolated).First()
		usable = usable.Without(first)
	}
	cpus := slices.Collect(usable.All())
	return cpus[max(0, len(cpus)-4):], nil
}

// masks returns online without some of the CPUs in free, for all choices except
// those that leave no CPU. Each mask differs from the one before by one CPU.
// The first and the last mask are online itself.
func masks(online affinity.CPUSet, free []int) []affinity.CPUSet {
	list := []affinity.CPUSet{}
	for i := range 1 << len(free) {
		mask := online
		for gray := uint(i ^ i>>1); gray != 0; gray &= gray - 1 {
			mask = mask.Without(free[bits.TrailingZeros(gray)])
		}
		if !mask.Empty() {
			list = append(list, mask)
		}
	}
	return append(list, online)
}

// checkMask checks the CPUs from a thread in the child cpuset: those in want
// are online, and the others in before are not.
func checkMask(x *Scene, want, before affinity.CPUSet) error {
	if online, err := x.Machine.CPUs.Online(); err != nil || !online.Equal(want) {
		return errors.Join(err, fmt.Errorf("the online mask is %v", online))
	}
	if err := x.Enter(); err != nil {
		return err
	}
	if err := mayRun(0, want.Difference(x.Machine.Partitioned), "of a task that may run anywhere"); err != nil {
		return err
	}
	for cpu := range before.All() {
		err := affinity.Set(0, affinity.Of(cpu))
		if !want.Has(cpu) {
			if !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("sched_setaffinity to cpu%d, which is offline: %v, want EINVAL", cpu, err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if on, _, err := affinity.Current(); err != nil || on != cpu {
			return errors.Join(err, fmt.Errorf("the thread is pinned to cpu%d and runs on cpu%d", cpu, on))
		}
	}
	return nil
}
