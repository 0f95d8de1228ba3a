package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// workloads are what the soak goes through, again and again.
var workloads = []Workload{
	{Name: "idle"},
	{Name: "cpu-hogs", Actors: []Actor{hogs}},
	{Name: "fork-storm", Actors: []Actor{forks}},
	{Name: "cgroup-churn", Actors: []Actor{cgroupChurn}},
	{Name: "memory-pressure", Actors: []Actor{memory}},
	{Name: "io", Actors: []Actor{files, pipes}},
	{Name: "rt-hogs", Actors: []Actor{rtHogs}},
	{Name: "timers", Actors: []Actor{timerfds, nanosleeps}},
	{Name: "affinity-storm", Actors: []Actor{affinities, policies}},
	{Name: "readers", Actors: []Actor{readers}},
	{Name: "hotplug-lock", Actors: []Actor{lockReaders, cgroupBursts}},
}

// perCPU counts one thread for each CPU that is online.
func perCPU(x *Scene) int { return x.Machine.Online.Count() }

// hogs compute, wherever they are put, and note where that is.
var hogs = Actor{
	Name:  "CPU hog",
	Count: func(x *Scene) int { return perCPU(x) + 1 },
	Begin: func(a *Act) (func() error, error) {
		return func() error {
			spin(time.Millisecond)
			cpu, _, err := affinity.Current()
			a.Scene.Ran(cpu)
			return err
		}, a.Scene.Enter()
	},
}

// spin computes for a time.
func spin(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; {
	}
}

// rtHogs take half of each CPU's time. They keep away everything that is not
// real-time, including the kernel's threads that bring CPUs up and down. If
// they took all of it, they would be throttled (kernel.sched_rt_runtime_us).
var rtHogs = Actor{
	Name:  "RT hog",
	Count: perCPU,
	Begin: func(a *Act) (func() error, error) {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 10}
		err := enterRealTime(a.Scene)
		if err == nil {
			err = os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
		}
		return func() error {
			spin(5 * time.Millisecond)
			time.Sleep(5 * time.Millisecond)
			return nil
		}, err
	},
}

// realTime makes the calling thread one of the lowest real-time priority.
func realTime() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
}

// needsRealTime is for threads that must be real-time. They are from the root
// cpuset, where the process is.
func needsRealTime(*Machine) error {
	if err := affinity.Thread(realTime); err != nil {
		return suite.Unsupportedf("no thread can be real-time: %v (is this a cgroup without real-time bandwidth, with CONFIG_RT_GROUP_SCHED?)", err)
	}
	return nil
}

// enterRealTime is [Scene.Enter] for a thread that becomes real-time. With
// CONFIG_RT_GROUP_SCHED no thread can in a cgroup that has no real-time
// bandwidth, which in cgroup v2 only the root has. The thread stays there then.
func enterRealTime(x *Scene) error {
	if err := x.Enter(); err != nil {
		return err
	}
	err := realTime()
	if root := x.Machine.Root.Group; errors.Is(err, unix.EPERM) && root != nil {
		return root.AttachThread(0)
	}
	return err
}

// forks makes processes. Their program does not exist, so that each ends at
// once.
var forks = Actor{
	Name:  "fork storm",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		return func() error {
			_, err := syscall.ForkExec("/proc/self/no-such-program", nil, nil)
			if err == syscall.ENOENT {
				return nil
			}
			return fmt.Errorf("the process was not made, or not ended: %v, want ENOENT", err)
		}, a.Scene.Enter()
	},
}

// cgroupChurn makes, rewrites, enters and removes cpusets.
var cgroupChurn = Actor{
	Name: "cgroup churn",
	Begin: func(a *Act) (func() error, error) {
		x := a.Scene
		if suite.NeedsChild(x.Machine) != nil {
			// Without cpusets of its own it has nothing to do.
			return func() error { time.Sleep(10 * time.Millisecond); return nil }, nil
		}
		stays, err := x.Staying()
		if err != nil {
			return nil, err
		}
		parent := x.Machine.Child.Parent
		return func() (err error) {
			c, err := parent.Create("churn")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Enter(), c.Remove()) }()
			if err := c.MakeThreaded(); err != nil {
				return err
			}
			if stays >= 0 {
				if err := c.SetCPUs(affinity.Of(x.Targets()...).With(stays)); err != nil {
					return err
				}
			}
			if err := c.AttachThread(0); err != nil {
				return err
			}
			if stays >= 0 {
				return c.SetCPUs(affinity.Of(stays))
			}
			return nil
		}, x.Enter()
	},
}

// memory takes memory and gives it back.
var memory = Actor{
	Name:  "memory",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return nil, os.NewSyscallError("sysinfo", err)
		}
		// Two threads take a quarter of the free memory each: pressure, but
		// nobody gets killed.
		free := (uint64(info.Freeram) * uint64(info.Unit)) / 4
		size := int(min(free, 256<<20))
		return func() error {
			block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				return os.NewSyscallError("mmap", err)
			}
			for i := 0; i < len(block) && !a.Scene.Over(); i += os.Getpagesize() {
				block[i] = 1
			}
			return os.NewSyscallError("munmap", unix.Munmap(block))
		}, a.Scene.Enter()
	},
}

// files writes a file to the disk, if /tmp is on one, and has it dropped from
// the page cache.
var files = Actor{
	Name: "file I/O",
	Begin: func(a *Act) (func() error, error) {
		file, err := os.CreateTemp("", "hotplugtest-")
		if err != nil {
			return nil, err
		}
		a.Cleanup(file.Close)
		// Without a name it goes with the process, however that ends.
		if err := os.Remove(file.Name()); err != nil {
			return nil, err
		}
		data := make([]byte, 1<<20)
		return func() error {
			if err := file.Truncate(0); err != nil {
				return err
			}
			_, err := file.WriteAt(data, 0)
			return errors.Join(err, file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED))
		}, a.Scene.Enter()
	},
}

// pipes have threads wake each other in turns.
var pipes = Actor{
	Name:  "pipe",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		var there, back [2]int
		if err := errors.Join(unix.Pipe2(there[:], unix.O_CLOEXEC), unix.Pipe2(back[:], unix.O_CLOEXEC)); err != nil {
			return nil, os.NewSyscallError("pipe2", err)
		}
		echo := make(chan error, 1)
		go func() {
			for buf := make([]byte, 1); ; {
				switch n, err := read(there[0], buf); {
				case err != nil || n == 0:
					echo <- err
					return
				default:
					_, _ = unix.Write(back[1], buf)
				}
			}
		}()
		a.Cleanup(func() error {
			err := unix.Close(there[1])
			err = errors.Join(err, <-echo)
			return errors.Join(err, unix.Close(there[0]), unix.Close(back[0]), unix.Close(back[1]))
		})
		buf := make([]byte, 1)
		return func() error {
			if _, err := unix.Write(there[1], buf); err != nil {
				return os.NewSyscallError("write", err)
			}
			_, err := read(back[0], buf)
			return err
		}, a.Scene.Enter()
	},
}

// read is read(2), whatever signals come.
func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return n, os.NewSyscallError("read", err)
		}
	}
}

// timerLate is by how much a timer may be late that was armed on a CPU which
// went offline. The kernel moves such timers to another CPU, older kernels only
// when the CPU is dead, which may take 10 s. A timer that was lost never
// expires.
const timerLate = suite.TaskTimeout

// timerSteps are the times after which timers expire. Some are longer than an
// operation, so that the timer is armed when the CPU dies: a task whose timer
// expires before that is moved away, and arms the next one elsewhere.
var timerSteps = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond, 320 * time.Millisecond}

// timerActor arms a timer on each CPU that comes and goes, over and over, and
// waits for it.
func timerActor(name string, arm func(a *Act) (wait func(until time.Duration) error, err error)) Actor {
	return Actor{
		Name:  name,
		Count: func(x *Scene) int { return len(x.Targets()) * len(timerSteps) },
		Begin: func(a *Act) (func() error, error) {
			cpu := affinity.Of(a.Scene.Targets()[a.N/len(timerSteps)])
			step := timerSteps[a.N%len(timerSteps)]
			wait, err := arm(a)
			if err != nil {
				return nil, err
			}
			return func() error {
				if err := affinity.Set(0, cpu); errors.Is(err, unix.EINVAL) {
					// The CPU is offline.
					time.Sleep(timerSteps[0])
					return nil
				} else if err != nil {
					return err
				}
				now, err := monotonic()
				if err != nil {
					return err
				}
				until := now + step
				if err := wait(until); err != nil {
					return err
				}
				if now, err = monotonic(); err != nil {
					return err
				}
				late := now - until
				a.Scene.Note("worst-timer-lateness", late)
				switch {
				case late < 0:
					return fmt.Errorf("a timer on cpu%v expired %s early", cpu, suite.Milliseconds(-late))
				case late > timerLate:
					return fmt.Errorf("a timer on cpu%v expired %s late, and may be %v late at most", cpu, suite.Milliseconds(late), timerLate)
				}
				return nil
			}, a.Scene.Enter()
		},
	}
}

// monotonic is the time of CLOCK_MONOTONIC.
func monotonic() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano()), os.NewSyscallError("clock_gettime", err)
}

// timerfds wait for a timerfd(2).
var timerfds = timerActor("timerfd", func(a *Act) (func(time.Duration) error, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	a.Cleanup(func() error { return unix.Close(fd) })
	expirations := make([]byte, 8)
	return func(until time.Duration) error {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(until.Nanoseconds())}
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
			return os.NewSyscallError("timerfd_settime", err)
		}
		_, err := read(fd, expirations)
		return err
	}, nil
})

// nanosleeps wait by clock_nanosleep(2).
var nanosleeps = timerActor("clock_nanosleep", func(*Act) (func(time.Duration) error, error) {
	return func(until time.Duration) error {
		at := unix.NsecToTimespec(until.Nanoseconds())
		for {
			if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil); err != unix.EINTR {
				return os.NewSyscallError("clock_nanosleep", err)
			}
		}
	}, nil
})

// affinities pin themselves here and there.
var affinities = Actor{
	Name:  "affinity storm",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		all, err := a.Scene.Machine.Shared()
		if err != nil {
			return nil, err
		}
		targets := affinity.Of(a.Scene.Targets()...)
		masks := []affinity.CPUSet{all}
		if rest := all.Difference(targets); !rest.Empty() {
			masks = append(masks, rest)
		}
		for cpu := range targets.All() {
			masks = append(masks, affinity.Of(cpu), all.Without(cpu))
		}
		turn := a.N
		return func() error {
			turn++
			mask := masks[turn%len(masks)]
			err := affinity.Set(0, mask)
			// It is EINVAL if all of the CPUs are offline, and since v6.2 also
			// if a CPU of the mask leaves the cpuset during the call.
			if errors.Is(err, unix.EINVAL) && !mask.Intersect(targets).Empty() {
				return nil
			}
			return err
		}, a.Scene.Enter()
	},
}

// policies change their scheduling class.
var policies = Actor{
	Name:  "scheduling class storm",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		turn := a.N
		classes := []unix.SchedAttr{
			{Policy: unix.SCHED_NORMAL}, {Policy: unix.SCHED_FIFO, Priority: 1}, {Policy: unix.SCHED_BATCH, Nice: 5},
			{Policy: unix.SCHED_RR, Priority: 2}, {Policy: unix.SCHED_IDLE},
		}
		return func() error {
			turn++
			attr := classes[turn%len(classes)]
			attr.Size = unix.SizeofSchedAttr
			return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
		}, enterRealTime(a.Scene)
	},
}
