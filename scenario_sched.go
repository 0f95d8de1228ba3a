package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/bpf"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// schedScenarios are about schedulers that are written in BPF. Theirs are the
// threads of the scenario alone: all others stay with the kernel's scheduler.
// An operation that hangs keeps the hotplug lock, so these come last.
var schedScenarios = []Scenario{
	{
		Name: "sched-ext-ended",
		Promise: "a BPF scheduler that has no callbacks for CPU hotplug is ended when a CPU goes offline, and when one comes online, with SCX_ECODE_ACT_RESTART and SCX_ECODE_RSN_HOTPLUG; " +
			"its tasks go on, and another one can be started",
		Source:      "kernel/sched/ext.c: handle_hotplug(); tools/testing/selftests/sched_ext/hotplug.c",
		Known:       []Defect{endedSchedulerHangs},
		Destructive: true,
		Needs:       needsSchedExt,
		Cycle:       schedulerEnded,
		// Which of the CPUs goes makes no difference.
		Together: true,
	},
	{
		Name: "sched-ext-queue",
		Promise: "a BPF scheduler that has callbacks for CPU hotplug goes on and is told once of each CPU that goes offline or has come online; " +
			"the CPU goes offline though tasks that may run only there wait in a queue of the scheduler, and they go on elsewhere",
		Source:      `kernel/sched/ext.c: struct sched_ext_ops, cpu_online and cpu_offline; d35a535d3e3e ("sched_ext: Fix CPU hotplug hang when a dying CPU's tasks sit in the BPF scheduler", v7.3, 7.2.12)`,
		Destructive: true,
		Needs:       needsSchedExt,
		Cycle:       schedulerGoesOn,
		Together:    true,
	},
}

// schedExtState is whether there is a BPF scheduler, since v6.12.
const schedExtState = "/sys/kernel/sched_ext/state"

// needsSchedExt is for a kernel that takes BPF schedulers, and has none.
func needsSchedExt(m *Machine) error {
	isolated, err := m.CPUs.Isolated()
	if err != nil {
		return err
	}
	if isolated = isolated.Union(m.Isolated); !isolated.Empty() {
		return suite.Unsupportedf("the kernel takes no BPF scheduler while CPUs are isolated, %v", isolated)
	}
	if err := fileMissing(schedExtState, "CONFIG_SCHED_CLASS_EXT"); err != nil {
		return err
	}
	state, err := sysfs.ReadFile(schedExtState)
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(state); state != "disabled" {
		return suite.Unsupportedf("there is a BPF scheduler already: %s is %s", schedExtState, state)
	}
	if err := needsSoundPatching(); err != nil {
		return err
	}
	_, err = bpfKernel()
	return unsupportedBPF(err)
}

// bpfKernel reads the kernel's types once, as that takes up to two seconds in QEMU.
var bpfKernel = sync.OnceValues(bpf.NewKernel)

// needsSoundPatching is for rows that have the kernel change code that all CPUs
// run all the time. The virtual machine of profile sched-ext has a word for the
// kernel's command line.
func needsSoundPatching() error {
	cpus, err := sysfs.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	line, err := sysfs.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if strings.Contains(cpus, "QEMU TCG CPU") && !slices.Contains(strings.Fields(line), "guest.emulation=one-thread") {
		return suite.Unsupportedf("QEMU does not emulate code that changes while other CPUs run it: this runs with KVM, and in the boot profile sched-ext")
	}
	return nil
}

// withScheduler calls f while there is a BPF scheduler.
func withScheduler(x *Scene, k *bpf.Kernel, queue bool, f func(s *bpf.Scheduler) error) error {
	s, err := k.StartScheduler(queue)
	if errors.Is(err, unix.EBUSY) {
		return suite.Unsupportedf("somebody has started a BPF scheduler meanwhile: %v", err)
	}
	if err != nil {
		return unsupportedBPF(err)
	}
	if err = f(s); x.Hangs() {
		return err // to end it takes the lock that an operation holds which hangs
	}
	return errors.Join(err, s.Close())
}

// withExtTasks calls f while several threads compute that may run on the CPUs in
// mask, and that a BPF scheduler gets, if there is one.
func withExtTasks(x *Scene, mask affinity.CPUSet, count int, f func(tids []int) error, tids ...int) error {
	if len(tids) == count {
		return f(tids)
	}
	return withRunningTask(x, mask, func(tid int) error {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_EXT}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
			return os.NewSyscallError("sched_setattr(SCHED_EXT)", err)
		}
		return withExtTasks(x, mask, count, f, append(tids, tid)...)
	})
}

// computes checks that each of the threads gets some time. They run when no
// thread of the kernel's scheduler would, such as one that spins to look.
func computes(tids []int, when string) error {
	const enough = time.Millisecond
	for _, tid := range tids {
		var err error
		begin := time.Duration(-1)
		var had time.Duration
		ok := suite.WaitAsleep(suite.TaskTimeout, func() bool {
			had, err = cpuTime(tid)
			if begin < 0 {
				begin = had
			}
			return err != nil || had-begin >= enough
		})
		if err == nil && !ok {
			err = fmt.Errorf("%s, a thread that computes, with the policy SCHED_EXT, has got %v in %v", when, had-begin, suite.TaskTimeout)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cpuTime returns how long a thread of this process has run.
func cpuTime(tid int) (time.Duration, error) {
	const perThread, sched = 4, 2 // of the kernel's posix-timers.h
	var t unix.Timespec
	err := unix.ClockGettime(int32(^tid<<3|perThread|sched), &t)
	return time.Duration(t.Nano()), os.NewSyscallError("clock_gettime", err)
}

// schedulerEnded has a scheduler ended by an offline and one by an online.
func schedulerEnded(x *Scene, cpu int) error {
	k, err := bpfKernel()
	if err != nil {
		return err
	}
	shared, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	return withExtTasks(x, shared, 2, func(tids []int) (err error) {
		for _, state := range []State{Offline, Online} {
			when := fmt.Sprintf("when cpu%d has gone offline", cpu)
			if state == Online {
				when = fmt.Sprintf("when cpu%d has come online", cpu)
			}
			err = withScheduler(x, k, false, func(s *bpf.Scheduler) error {
				if err := computes(tids, "with a BPF scheduler"); err != nil {
					return err
				}
				if err := x.Set(cpu, state); err != nil {
					return err
				}
				return errors.Join(ended(s, when), computes(tids, when))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ended checks that the kernel has ended the scheduler because of CPU hotplug.
// It does so in a thread of its own, and nobody waits for that.
func ended(s *bpf.Scheduler, when string) (err error) {
	state := ""
	ok := suite.WaitAsleep(suite.TaskTimeout, func() bool {
		state, err = sysfs.ReadFile(schedExtState)
		state = strings.TrimSpace(state)
		return err != nil || state == "disabled"
	})
	if err == nil && !ok {
		err = fmt.Errorf("%s, a BPF scheduler without callbacks for that is %s after %v, want disabled", when, state, suite.TaskTimeout)
	}
	if err != nil {
		return err
	}
	seen, err := s.Seen(0)
	if err == nil && (seen.Kind != bpf.EndedByKernel || seen.Code != bpf.Hotplug) {
		err = fmt.Errorf("%s, a BPF scheduler without callbacks for that is ended with kind %d and code %#x, want %d and %#x", when, seen.Kind, seen.Code, bpf.EndedByKernel, int64(bpf.Hotplug))
	}
	return err
}

// schedulerGoesOn has more tasks on the CPU than can run there, all of which may
// run on no other one.
func schedulerGoesOn(x *Scene, cpu int) error {
	k, err := bpfKernel()
	if err != nil {
		return err
	}
	return withScheduler(x, k, true, func(s *bpf.Scheduler) error {
		return withExtTasks(x, affinity.Of(cpu), 3, func(tids []int) error {
			if err := computes(tids, fmt.Sprintf("with a BPF scheduler, on cpu%d", cpu)); err != nil {
				return err
			}
			if err := x.Set(cpu, Offline); err != nil {
				return err
			}
			when := fmt.Sprintf("when cpu%d has gone offline", cpu)
			err := errors.Join(goesOn(s, cpu, 0, when), computes(tids, when))
			if err = errors.Join(err, x.Set(cpu, Online)); err != nil {
				return err
			}
			when = fmt.Sprintf("when cpu%d is back", cpu)
			return errors.Join(computes(tids, when), goesOn(s, cpu, 1, when))
		})
	})
}

// goesOn checks that the scheduler has not been ended, and what it was told of
// the CPU: it has gone offline once, and come online so often.
func goesOn(s *bpf.Scheduler, cpu int, online uint64, when string) error {
	seen, err := s.Seen(cpu)
	switch {
	case err != nil:
		return err
	case seen.Kind != 0:
		return fmt.Errorf("%s, a BPF scheduler with callbacks for that is ended with kind %d and code %#x", when, seen.Kind, seen.Code)
	case seen.Offline != 1 || seen.Online != online:
		return fmt.Errorf("%s, a BPF scheduler was told %d times that it goes offline and %d times that it has come online, want 1 and %d", when, seen.Offline, seen.Online, online)
	case seen.Queued == 0:
		return errors.New("no task has come to the queue of a BPF scheduler")
	}
	return nil
}
