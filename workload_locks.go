package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// lockPause is between two calls that take the hotplug lock for reading.
// Without it some of them keep all CPUs busy with changes of the kernel's text.
const lockPause = 2 * time.Millisecond

// lockReaders make system calls that take the hotplug lock for reading
// (cpus_read_lock()), each on a thread of its own: they wait for the operation
// and the operation waits for them.
var lockReaders = Actor{
	Name:  "hotplug lock reader",
	Count: func(*Scene) int { return len(lockCalls) },
	Begin: func(a *Act) (func() error, error) {
		turn, err := lockCalls[a.N](a)
		return func() error {
			time.Sleep(lockPause)
			return turn()
		}, errors.Join(err, a.Scene.Enter())
	},
}

// lockCalls return what a thread does in a turn.
var lockCalls = []func(a *Act) (turn func() error, err error){
	// Static keys are left out, such as kernel.sched_schedstats: under software
	// emulation a processor may run an old instruction of what is changed so
	// often, and the kernel is blamed for it.
	// The watchdog's threads stop and start on all CPUs.
	flipped("/proc/sys/kernel/watchdog_thresh", otherThresh),
	refreshStat,
	perfOpens,
	attaches,
}

// otherThresh is another watchdog_thresh, which is a minute at most. 0 is off,
// and stays.
func otherThresh(was int) int {
	if was == 60 {
		return was - 1
	}
	return was + min(was, 1)
}

// flipped writes another value into a sysctl and the old one, over and over. The
// file is one of [machine.Sysctls], so it is restored, whatever happens.
func flipped(path string, other func(was int) int) func(a *Act) (func() error, error) {
	return func(a *Act) (func() error, error) {
		if unix.Access(path, unix.W_OK) != nil {
			return idle, nil
		}
		text, err := sysfs.ReadFile(path)
		if err != nil {
			return nil, err
		}
		was, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		a.Cleanup(func() error { return writeNumber(path, was) })
		return func() error {
			// A value that does not change is a write that takes no lock.
			return errors.Join(writeNumber(path, other(was)), writeNumber(path, was))
		}, nil
	}
}

// idle is the turn of a thread that has nothing to do on this machine.
func idle() error {
	time.Sleep(10 * time.Millisecond)
	return nil
}

func writeNumber(path string, n int) error { return os.WriteFile(path, []byte(strconv.Itoa(n)), 0) }

// refreshStat has each CPU's statistics of memory folded, by work on each.
func refreshStat(*Act) (func() error, error) {
	const path = "/proc/sys/vm/stat_refresh"
	if unix.Access(path, unix.W_OK) != nil {
		return idle, nil
	}
	return func() error {
		err := writeNumber(path, 1)
		// EINVAL says that a sum is less than nothing, which is no row's affair.
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		return err
	}, nil
}

// perfOpens opens and closes an event, of a clock: those that count in other
// places of the kernel turn a static key on and off each time.
func perfOpens(*Act) (func() error, error) {
	if fileMissing("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS") != nil {
		return idle, nil
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: uint32(unix.PERF_ATTR_SIZE_VER1)}
	return func() error {
		fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("perf_event_open", err)
		}
		return os.NewSyscallError("close", unix.Close(fd))
	}, nil
}

// attaches moves its thread from one cpuset to another.
func attaches(a *Act) (func() error, error) {
	if suite.NeedsChild(a.Scene.Machine) != nil {
		return idle, nil
	}
	child := a.Scene.Machine.Child.Group
	parent := a.Scene.Machine.Child.Parent
	return func() error { return errors.Join(parent.AttachThread(0), child.AttachThread(0)) }, nil
}

// burst is how many cgroups are removed at once. As many works of a workqueue
// can run at a time on kernels before v6.18: 256.
const burst = 300

// cgroupBursts makes many cpusets at once, and removes them at once. The kernel
// frees them by work, which takes the hotplug lock for reading.
var cgroupBursts = Actor{
	Name: "burst of cgroups",
	Begin: func(a *Act) (func() error, error) {
		x := a.Scene
		if suite.NeedsChild(x.Machine) != nil {
			return idle, nil
		}
		parent := x.Machine.Child.Parent
		// What frees them is queued on the CPU that removed them.
		stays, err := x.Staying()
		if err == nil && stays >= 0 {
			err = affinity.Set(0, affinity.Of(stays))
		}
		return func() (err error) {
			groups := make([]*cpuset.Group, 0, burst)
			for i := 0; i < burst && err == nil && !x.Over(); i++ {
				var g *cpuset.Group
				if g, err = parent.Create(fmt.Sprintf("burst-%d", i)); err == nil {
					groups = append(groups, g)
				}
			}
			for _, g := range groups {
				err = errors.Join(err, g.Remove())
			}
			return err
		}, err
	},
}
