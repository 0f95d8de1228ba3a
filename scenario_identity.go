package hotplugtest

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/suite"
)

// identityScenarios are about what a program is told of CPUs while some of them
// are offline.
var identityScenarios = []Scenario{
	{
		Name:    "identity",
		Promise: "a thread is told where it runs by getcpu(2), its rseq area and the vDSO alike, also when the CPU that it was pinned to goes offline",
		Source:  "rseq(2): cpu_id; getcpu(2); " + docHotplug + ": all processes are migrated away from the outgoing CPU",
		Actors:  []Actor{identities},
	},
	{
		Name: "cpu-numbers",
		Promise: "while a CPU is offline, sched_getaffinity(2) fills as many bytes as before and has no bit of a CPU that is not possible, " +
			"and membarrier(2) for the CPU succeeds",
		Source: `sched_getaffinity(2): the size of the kernel's mask; 6015b1aca1a2 ("sched_getaffinity: don't assume 'cpumask_size()' is fully initialized", v6.3); membarrier(2): MEMBARRIER_CMD_FLAG_CPU, since v5.10`,
		Cycle:  cpuNumbers,
	},
	{
		Name: "mask-of-all",
		Promise: "a task that has asked for all CPUs has all CPUs of its cpuset: also after it was moved to another cpuset, " +
			"and after a CPU was offline",
		Source: `sched_setaffinity(2); 8f9ea86fdf99 ("sched: Always preserve the user requested cpumask", v6.2)`,
		Needs:  allOf(suite.NeedsChild, needsStaying),
		Cycle:  maskOfAll,
	},
}

// identities ask where they run, again and again: one pinned to each of the
// CPUs that come and go, and one that may run anywhere.
var identities = Actor{
	Name:  "thread that asks where it is",
	Count: func(x *Scene) int { return len(x.Targets()) + 1 },
	Begin: func(a *Act) (func() error, error) {
		r, err := registerRseq()
		if r != nil {
			a.Cleanup(r.unregister)
		} else if !suite.IsUnsupported(err) {
			return nil, err
		}
		pin := func() error { return nil }
		if targets := a.Scene.Targets(); a.N < len(targets) {
			pin = func() error { return affinity.Set(0, affinity.Of(targets[a.N])) }
		}
		return func() error {
			if err := pin(); errors.Is(err, unix.EINVAL) {
				time.Sleep(time.Millisecond) // the CPU is offline
				return nil
			} else if err != nil {
				return err
			}
			return agree(r)
		}, a.Scene.Enter()
	},
}

// agree asks for a while. The thread may be moved between one way to ask and
// the next, but not each time.
func agree(r *rseq) error {
	const rounds, most = 200, 20
	inRow := 0
	for range rounds {
		t, err := ask(r)
		switch {
		case err != nil:
			return err
		case t == told{t.byCall, t.byCall, t.byCall}:
			inRow = 0
		default:
			if inRow++; inRow == most {
				return fmt.Errorf("%d times in a row, and at last: %v", most, t)
			}
		}
	}
	return nil
}

// cpuNumbers checks what is told of CPUs by number, before the CPU goes
// offline, while it is, and when it is back.
func cpuNumbers(x *Scene, cpu int) error {
	possible, err := x.Machine.CPUs.Possible()
	if err != nil {
		return err
	}
	barrier, err := newBarrier()
	if err != nil {
		return err
	}
	size := 0
	look := func(when string) error {
		n, err := maskBytes(possible)
		if err == nil && size != 0 && n != size {
			err = fmt.Errorf("sched_getaffinity fills %d bytes, and filled %d with all CPUs online", n, size)
		}
		size = max(size, n)
		if err = errors.Join(err, barrier(cpu)); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		return nil
	}
	if err := look("with all CPUs online"); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = look(fmt.Sprintf("with cpu%d offline", cpu))
	return errors.Join(err, x.Set(cpu, Online), look(fmt.Sprintf("when cpu%d is back", cpu)))
}

// maskBytes makes sched_getaffinity(2) of a thread that may run anywhere, with
// a mask that has room for the possible CPUs, and with one that has more. It
// returns the number of bytes that the kernel fills.
func maskBytes(possible affinity.CPUSet) (n int, err error) {
	last, _ := possible.Last()
	enough := (last/64 + 1) * 8
	for _, length := range []int{enough, enough + 1024} {
		mask := make([]byte, length)
		for i := range mask {
			mask[i] = 0xff // for what the kernel leaves as it was
		}
		filled, _, errno := unix.Syscall(unix.SYS_SCHED_GETAFFINITY, 0, uintptr(length), uintptr(unsafe.Pointer(&mask[0])))
		if errno != 0 {
			return 0, fmt.Errorf("sched_getaffinity to %d bytes, with CPUs %v possible: %s", length, possible, unix.ErrnoName(errno))
		}
		n = int(filled)
		for cpu := range 8 * n {
			// Words of the mask are as long as the kernel's, and CPUs are
			// numbered from the low bit of each.
			word := *(*uint64)(unsafe.Pointer(&mask[cpu/64*8]))
			if word>>(cpu%64)&1 != 0 && !possible.Has(cpu) {
				return n, fmt.Errorf("sched_getaffinity fills %d bytes and has CPU %d, and the possible CPUs are %v", n, cpu, possible)
			}
		}
	}
	return n, nil
}

// newBarrier returns a function that calls membarrier(2) for a CPU: threads of
// this process that run there restart their restartable sequences. The error is
// an [*Unsupported] if the kernel cannot do so.
func newBarrier() (func(cpu int) error, error) {
	const (
		expedited = 1 << 7 // MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, since v5.10
		register  = 1 << 8
		flagCPU   = 1 // MEMBARRIER_CMD_FLAG_CPU
	)
	call := func(cmd, flags, cpu uintptr) error {
		_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmd, flags, cpu)
		if errno != 0 {
			return fmt.Errorf("membarrier(%#x, %d, %d): %s", cmd, flags, cpu, unix.ErrnoName(errno))
		}
		return nil
	}
	if err := call(register, 0, 0); err != nil {
		return nil, suite.Unsupportedf("%v (is there no CONFIG_MEMBARRIER or CONFIG_RSEQ?)", err)
	}
	return func(cpu int) error { return call(expedited, flagCPU, uintptr(cpu)) }, nil
}

// maskOfAll moves a task that has asked for all CPUs from a cpuset that has one
// of them to one that has the CPU as well.
func maskOfAll(x *Scene, cpu int) (err error) {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	two, one := affinity.Of(stays, cpu), affinity.Of(stays)
	narrow, err := newCpuset(x, "narrow", one)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, narrow.Remove()) }()
	wide, err := newCpuset(x, "wide", two)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wide.Remove()) }()
	present, err := x.Machine.CPUs.Present()
	if err != nil {
		return err
	}
	last, _ := present.Last()
	all := affinity.CPUSet{}
	for cpu := range last/64*64 + 64 {
		all = all.With(cpu) // more than there are, as in a mask of ones
	}
	return withSleepingTask(x, all, func(tid int) error {
		for _, to := range []struct {
			group *cpuset.Group
			want  affinity.CPUSet
		}{{narrow, one}, {wide, two}, {narrow, one}, {wide, two}} {
			if err := to.group.AttachThread(tid); err != nil {
				return err
			}
			if err := mayRun(tid, to.want, "in the cpuset of CPUs "+to.want.String()); err != nil {
				return err
			}
		}
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
		err := mayRun(tid, one, fmt.Sprintf("in the cpuset of CPUs %v, of which cpu%d has gone offline", two, cpu))
		err = errors.Join(err, x.Set(cpu, Online), mayRun(tid, two, fmt.Sprintf("in the cpuset of CPUs %v, of which cpu%d is back", two, cpu)))
		return errors.Join(err, x.Machine.Child.Group.AttachThread(tid))
	})
}

// newCpuset makes a cpuset of the CPUs beside the child.
func newCpuset(x *Scene, name string, cpus affinity.CPUSet) (*cpuset.Group, error) {
	c, err := x.Machine.Child.Parent.Create(name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.MakeThreaded(), c.SetCPUs(cpus)); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}
