package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// A group of two tasks may run for quotaTime in each quotaPeriod. Without the
// quota they would use two CPUs. They compute for one turn at a time.
const (
	quotaTime   = 5 * time.Millisecond
	quotaPeriod = 20 * time.Millisecond
	quotaTurn   = 100 * time.Microsecond
)

func needsQuota(m *Machine) error {
	root := m.Root.Group
	if root == nil {
		return m.Root.Missing
	}
	if err := suite.NeedsChild(m); err != nil {
		return err
	}
	controllers, err := sysfs.ReadFile(filepath.Join(root.Path(), "cgroup.controllers"))
	if err != nil {
		return suite.Unsupportedf("%v", err)
	}
	if !slices.Contains(strings.Fields(controllers), "cpu") {
		return suite.Unsupportedf("no cpu controller in %s: it has %s", root.Path(), controllers)
	}
	return nil
}

// quotaGroup returns the cgroup that makeQuota made.
func quotaGroup(x *Scene) *cpuset.Group { return x.Data.(*cpuset.Group) }

// makeQuota makes a cgroup with a quota.
func makeQuota(x *Scene) error {
	h, err := cpuset.New("/")
	if err != nil {
		return err
	}
	disable, err := h.Enable("cpu")
	if errors.Is(err, unix.EINVAL) {
		return suite.Unsupportedf("%v: with CONFIG_RT_GROUP_SCHED, real-time tasks must be in the root cgroup", err)
	}
	if err != nil {
		return err
	}
	x.Cleanup(disable)
	group, err := x.Machine.NewGroup("-quota")
	if err != nil {
		return err
	}
	x.Data = group
	x.Cleanup(group.Remove)
	quota := fmt.Sprintf("%d %d", quotaTime.Microseconds(), quotaPeriod.Microseconds())
	return sysfs.WriteFile(filepath.Join(group.Path(), "cpu.max"), quota)
}

// throttled computes all the time that the quota allows.
var throttled = Actor{
	Name:  "throttled hog",
	Count: func(*Scene) int { return 2 },
	Begin: func(a *Act) (func() error, error) {
		x := a.Scene
		a.Cleanup(func() error { return x.Machine.Root.Group.AttachThread(0) })
		return func() error { spin(quotaTurn); return nil }, quotaGroup(x).AttachThread(0)
	},
}

// cycleFromWithin takes a CPU offline and online from a task that is throttled
// itself.
func cycleFromWithin(x *Scene, cpu int) error {
	return x.Do(fmt.Sprintf("taking cpu%d offline and online with a quota", cpu), func() error {
		if err := quotaGroup(x).AttachThread(0); err != nil {
			return err
		}
		err := errors.Join(x.Machine.CPUs.SetOnline(cpu, false), x.Machine.CPUs.SetOnline(cpu, true))
		return errors.Join(err, x.Machine.Root.Group.AttachThread(0))
	})
}

// quotaHeld checks that the group is still throttled, and has not computed for
// longer than twice its quota. The kernel is not more exact: it hands each CPU
// a slice of the quota at a time (kernel.sched_cfs_bandwidth_slice_us), and a
// CPU that goes offline does not pay back what it was over.
//
// The usage in cpu.stat is no measure: it includes the time that the host of a
// virtual machine took from the tasks. Without the fix of v6.14 it has been
// more than twice the quota.
func quotaHeld(x *Scene) error {
	before, err := timesThrottled(quotaGroup(x))
	if err != nil {
		return err
	}
	throttled := suite.WaitFor(suite.TaskTimeout, func() bool {
		var now int
		now, err = timesThrottled(quotaGroup(x))
		return err != nil || now > before
	})
	if err != nil {
		return err
	} else if !throttled {
		return fmt.Errorf("tasks that compute all the time have not been throttled in the %v since all CPUs are back, by a quota of %v in %v (nr_throttled of cpu.stat is %d)",
			suite.TaskTimeout, quotaTime, quotaPeriod, before)
	}
	computed := time.Duration(x.Turns()) * quotaTurn
	took := x.Elapsed()
	x.Note("quota-computed", computed)
	if computed > quotaLimit(took) {
		return fmt.Errorf("tasks with a quota of %v in %v have computed for %v in %v", quotaTime, quotaPeriod, computed, took)
	}
	return nil
}

// quotaLimit is for how long the group may compute in a time: twice its quota,
// and two periods that have just begun and not quite ended.
func quotaLimit(took time.Duration) time.Duration {
	return 2*(took/(quotaPeriod/quotaTime)) + 2*quotaPeriod
}

// timesThrottled returns the number of periods in which a cgroup's tasks were
// throttled: nr_throttled of cpu.stat.
func timesThrottled(c *cpuset.Group) (int, error) {
	return sysfs.Read(filepath.Join(c.Path(), "cpu.stat"), func(text string) (int, error) {
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "nr_throttled "); ok {
				return strconv.Atoi(strings.TrimSpace(value))
			}
		}
		return 0, errors.New("no nr_throttled")
	})
}

// Each deadline task is promised two fifths of a CPU. A few more, which come
// last, take a twentieth each: what is left then is less than any CPU brings.
// A CPU may be as slow as a third of the fastest, and on x86 nothing in sysfs
// tells, though the kernel knows since v6.12 (arch_scale_cpu_capacity()).
const (
	deadlinePeriod  = 100 * time.Millisecond
	deadlineRuntime = deadlinePeriod * 2 / 5
	deadlineRest    = deadlinePeriod / 20
	deadlinesOfRest = int(deadlineRuntime / deadlineRest)
)

// deadlineShare returns what the n-th of the threads is promised.
func deadlineShare(n, threads int) time.Duration {
	if n >= threads-deadlinesOfRest {
		return deadlineRest
	}
	return deadlineRuntime
}

// needsDeadline returns an [*Unsupported] if deadline tasks cannot use up what
// they are allowed of the CPUs, 95 % by default, or a CPU is so slow that it may
// be less than what one of them takes.
func needsDeadline(m *Machine) error {
	const limitFile, ofFile = "/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_period_us"
	limit, err := sysfs.Read(limitFile, strconv.Atoi)
	if err != nil {
		return suite.Unsupportedf("%v", err)
	}
	if limit == -1 {
		return suite.Unsupportedf("%s is -1: there is no limit to what may be promised", limitFile)
	}
	of, err := sysfs.Read(ofFile, strconv.Atoi)
	if err != nil {
		return suite.Unsupportedf("%v", err)
	}
	if limit < of/2 {
		return suite.Unsupportedf("%s is %d of %d: too little is allowed for it to matter whether a CPU is missing", limitFile, limit, of)
	}
	for _, cpu := range m.Targets {
		file := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/cpu_capacity", cpu)
		capacity, err := sysfs.Read(file, strconv.Atoi)
		if err == nil && capacity < of/2*fullCapacity/limit {
			return suite.Unsupportedf("%s is %d of %d: without the CPU there may be room for all tasks", file, capacity, fullCapacity)
		}
	}
	return nil
}

// fullCapacity is the cpu_capacity of a machine's fastest CPUs:
// SCHED_CAPACITY_SCALE.
const fullCapacity = 1024

// deadlines are tasks that reserve all time of the CPUs, and don't use it. The
// rest is too small for one more task, so no CPU can be spared.
var deadlines = Actor{
	Name: "deadline task",
	Count: func(x *Scene) int {
		online, err := x.Machine.CPUs.Online()
		if err != nil {
			return 0
		}
		// There cannot be room for three of the larger ones on a CPU.
		return 3*online.Count() + deadlinesOfRest
	},
	Begin: func(a *Act) (func() error, error) {
		attr := unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_DEADLINE,
			// Go may make a thread from any other, and a deadline task cannot
			// be cloned.
			Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
			Runtime:  uint64(deadlineShare(a.N, a.Scene.Threads())),
			Deadline: uint64(deadlinePeriod), Period: uint64(deadlinePeriod),
		}
		idle := func() error { <-a.Scene.Done(); return nil }
		promised, had := promise{time.Duration(attr.Runtime), deadlinePeriod}, threadTime()
		switch err := unix.SchedSetAttr(0, &attr, 0); {
		case errors.Is(err, unix.EBUSY) && a.N > 0:
			return idle, nil // there is no room for more
		case err != nil:
			return nil, os.NewSyscallError("sched_setattr(SCHED_DEADLINE)", err)
		}
		a.Cleanup(func() error {
			err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
			a.Scene.Data.(*latest).note(time.Now().Add(promised.owes(threadTime() - had)))
			return os.NewSyscallError("sched_setattr", err)
		})
		return idle, nil
	},
}

// deadlinesOver checks that the CPU can go offline when the deadline tasks have
// ended.
func deadlinesOver(x *Scene) error {
	end := &latest{}
	x.Data = end
	x.Cleanup(func() error {
		if err := takenBack(x.Machine, end.time); err != nil {
			return err
		}
		cpu := x.Targets()[len(x.Targets())-1]
		err := x.Set(cpu, Offline)
		if err != nil {
			err = fmt.Errorf("when there are no deadline tasks any more: %w", err)
		}
		return errors.Join(err, x.Set(cpu, Online))
	})
	return nil
}

// latest is the latest of some times.
type latest struct {
	mu   sync.Mutex
	time time.Time
}

func (l *latest) note(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.After(l.time) {
		l.time = t
	}
}

// takenBack waits until the kernel has taken back what tasks were promised that
// are no deadline tasks any more: before a time that [promise.owes] tells, by a
// timer on one of the CPUs. A timer that is set there for that time expires
// after that one, however late. A CPU that goes before may find the total wrong
// for good: see takenBackTwice.
func takenBack(m *Machine, end time.Time) error {
	cpus, err := m.Shared()
	if err != nil {
		return err
	}
	rest := func() error {
		for rest := unix.NsecToTimespec(max(0, time.Until(end)).Nanoseconds()); unix.Nanosleep(&rest, &rest) == unix.EINTR; {
		}
		return nil
	}
	waits := make(chan error)
	for cpu := range cpus.All() {
		go func() { waits <- affinity.Run(affinity.Of(cpu), rest) }()
	}
	var errs []error
	for range cpus.Count() {
		errs = append(errs, <-waits)
	}
	return errors.Join(errs...)
}

func deadlineRefuses(x *Scene, cpu int) error {
	if err := x.Set(cpu, Offline); !errors.Is(err, unix.EBUSY) {
		return errors.Join(fmt.Errorf("taking cpu%d offline: %v, want EBUSY", cpu, err), x.Set(cpu, Online))
	}
	return nil
}

// loadArrives waits for a task to run on the CPU after it is back online. The
// kernel does not promise how soon; a CPU that gets no task for so long has
// been forgotten.
func loadArrives(x *Scene, cpu int) error {
	if err := x.OffAndOn(cpu); err != nil {
		return err
	}
	back, from := time.Now(), x.HaveRun(cpu)
	arrived := suite.WaitFor(suite.TaskTimeout, func() bool { return x.HaveRun(cpu) > from })
	x.Note("load-arrives-after", time.Since(back))
	if !arrived {
		return fmt.Errorf("none of %d tasks that compute all the time has run on cpu%d in the %v since it is back", x.Threads(), cpu, suite.TaskTimeout)
	}
	return nil
}
