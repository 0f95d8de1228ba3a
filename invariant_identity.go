package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/vdso"
	"github.com/hotplugtest/hotplugtest/suite"
)

// identityInvariants are about what a program is told of the CPU that it runs
// on, without or with a system call.
var identityInvariants = []Invariant{
	{
		Name: "identity",
		Promise: "a thread that is pinned to the CPU is told that it runs there by getcpu(2), by the vDSO, and by its rseq area, " +
			"of which mm_cid is below the number of possible CPUs",
		Source: `getcpu(2); rseq(2): cpu_id; include/uapi/linux/rseq.h: mm_cid, since af7f588d8f73 ("sched: Introduce per-memory-map concurrency ID", v6.3)`,
		After:  Online,
		Arm:    armIdentity,
	},
}

// rseqArea is struct rseq, which the kernel writes to whenever the thread goes
// on in user space.
type rseqArea struct {
	cpuStart uint32
	cpu      uint32
	section  uint64
	flags    uint32
	node     uint32 // since v6.3
	mmCID    uint32 // since v6.3
	_        uint32
}

const (
	rseqSize       = 32 // of the first ABI, which all kernels take
	rseqUnregister = 1
	rseqSignature  = 0x53053053
	rseqNever      = 1 << 31 // what the kernel never writes to cpu or mmCID: ^0 is no CPU
)

// rseq is the area of the thread that registered it.
type rseq struct {
	memory []byte
	area   *rseqArea
}

// registerRseq registers an area for the calling thread, which must be locked
// to its goroutine. The error is an [*Unsupported] if the kernel has no
// rseq(2), or the C library has registered the thread already.
func registerRseq() (*rseq, error) {
	// Go must not move or free it, so it is not Go's memory.
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	r := &rseq{memory, (*rseqArea)(unsafe.Pointer(&memory[0]))}
	r.area.cpu, r.area.mmCID = rseqNever, rseqNever
	errno := r.call(0)
	if errno == 0 {
		return r, nil
	}
	_ = unix.Munmap(memory) // it is ours, and unused
	switch errno {
	case unix.ENOSYS, unix.EBUSY, unix.EINVAL, unix.EPERM:
		return nil, suite.Unsupportedf("rseq(2) of a new thread: %s (is there no CONFIG_RSEQ, or has the C library registered it?)", unix.ErrnoName(errno))
	default:
		return nil, os.NewSyscallError("rseq", errno)
	}
}

func (r *rseq) call(flags uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RSEQ, uintptr(unsafe.Pointer(r.area)), rseqSize, flags, rseqSignature, 0, 0)
	return errno
}

// unregister takes the area away from the calling thread, which is the one that
// registered it.
func (r *rseq) unregister() error {
	if errno := r.call(rseqUnregister); errno != 0 {
		return os.NewSyscallError("rseq(RSEQ_FLAG_UNREGISTER)", errno)
	}
	return unix.Munmap(r.memory)
}

// cpu is the CPU that the kernel says the thread runs on.
func (r *rseq) cpu() int { return int(int32(atomic.LoadUint32(&r.area.cpu))) }

// told is what a thread is told of where it runs.
type told struct{ byCall, byVDSO, byRseq int }

// ask asks in each way. A way that this machine does not have says what
// getcpu(2) does. r may be nil.
func ask(r *rseq) (t told, err error) {
	if t.byCall, _, err = affinity.Current(); err != nil {
		return t, err
	}
	t.byRseq = t.byCall
	if r != nil {
		t.byRseq = r.cpu()
	}
	switch t.byVDSO, _, err = vdso.GetCPU(); {
	case errors.Is(err, vdso.ErrUnsupported):
		t.byVDSO, err = t.byCall, nil
	case err != nil:
		return t, err
	}
	return t, nil
}

func (t told) String() string {
	return fmt.Sprintf("getcpu(2) says cpu%d, the vDSO cpu%d, the rseq area cpu%d", t.byCall, t.byVDSO, t.byRseq)
}

// armIdentity asks a thread where it runs.
func armIdentity(p *Probe) (Check, error) {
	possible, err := p.Machine.CPUs.Possible()
	if err != nil {
		return nil, err
	}
	r, err := registerRseq()
	if r != nil {
		p.Cleanup(func() { _ = r.unregister() }) // the thread ends with it
	} else if !suite.IsUnsupported(err) {
		return nil, err
	}
	only := affinity.Of(p.CPU)
	return func() error {
		if err := affinity.Set(0, only); err != nil {
			return err
		}
		t, err := ask(r)
		switch {
		case err != nil:
			return err
		case t != (told{p.CPU, p.CPU, p.CPU}):
			return fmt.Errorf("the thread is pinned to cpu%d: %v", p.CPU, t)
		case r == nil:
			return nil
		}
		if cid := atomic.LoadUint32(&r.area.mmCID); cid != rseqNever && int(cid) >= possible.Count() {
			return fmt.Errorf("mm_cid is %d, and %d CPUs are possible", int32(cid), possible.Count())
		}
		return nil
	}, nil
}
