// Package bpf loads the little of BPF that the tests need: a program that
// counts in per-CPU maps, and a scheduler of sched_ext.
//
// Descriptors of this process hold all of it, and nothing is pinned in bpffs.
// If the process is killed, the kernel frees the maps and programs and ends the
// scheduler: there is nothing to restore.
//
// The programs are assembled here, since a compiler for BPF is not to be had
// everywhere. See Documentation/bpf of the kernel.
package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrNotSupported is wrapped by the error of a function if the kernel was built
// without what is needed, or refuses bpf(2) to this process. The error's text
// says which.
var ErrNotSupported = errors.New("bpf: not supported")

// failed returns an error about an operation on an object.
func failed(op, object string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: bpf(2) is refused, by lockdown, seccomp or a missing capability: %s %s: %w", ErrNotSupported, op, object, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: the kernel has no CONFIG_BPF_SYSCALL: %s %s: %w", ErrNotSupported, op, object, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %s %s: %w", ErrNotSupported, op, object, err)
	}
	return fmt.Errorf("bpf: %s %s: %w", op, object, err)
}

// withMemory calls f with no limit on locked memory, if it is refused with one.
// Before v5.11, maps and programs are locked memory, and charged when they are
// made. Package rlimit of the library would change the limit whenever a program
// starts that has the package linked in.
func withMemory(f func() error) error {
	err := f()
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	var was unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, &was) != nil {
		return err
	}
	return errors.Join(f(), unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &was, nil))
}

// newMap makes a map.
func newMap(spec *ebpf.MapSpec) (m *ebpf.Map, err error) {
	err = withMemory(func() error {
		m, err = ebpf.NewMap(spec)
		return err
	})
	return m, failed("create the map", spec.Name, err)
}

// newProgram loads a program.
func newProgram(spec *ebpf.ProgramSpec) (p *ebpf.Program, err error) {
	spec.License = "GPL"
	err = withMemory(func() error {
		p, err = ebpf.NewProgram(spec)
		return err
	})
	return p, failed("load the program", spec.Name, err)
}
