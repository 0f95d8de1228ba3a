package affinity

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// Get wraps sched_getaffinity(2): it returns the CPUs that thread tid may run
// on, of those that are active; a CPU that goes offline drops out of it, and is
// back when the CPU is. A tid of 0 is the calling thread.
//
// The error wraps the errno: [unix.ESRCH] when there is no such thread.
func Get(tid int) (CPUSet, error) {
	set, errno := grow(func(mask []uint) unix.Errno {
		return call(unix.SYS_SCHED_GETAFFINITY, tid, mask)
	})
	if errno != 0 {
		return CPUSet{}, fmt.Errorf("affinity: sched_getaffinity of %s: %w", thread(tid), syserr.Named(errno))
	}
	return set, nil
}

// Set wraps sched_setaffinity(2): it lets thread tid run on the CPUs in set
// alone. When it returns nil, the thread has left any other CPU. A tid of 0 is
// the calling thread. Set does not allocate unless it fails.
//
// The kernel ignores CPUs that it does not have, that are offline, or that the
// thread's cpuset does not have, as long as one CPU is left.
//
// The error wraps the errno: [unix.EINVAL] when no CPU is left, [unix.ESRCH]
// when there is no such thread, [unix.EPERM] when it is someone else's.
func Set(tid int, set CPUSet) error {
	if errno := call(unix.SYS_SCHED_SETAFFINITY, tid, set.words); errno != 0 {
		return fmt.Errorf("affinity: sched_setaffinity of %s to CPUs %q: %w", thread(tid), set, syserr.Named(errno))
	}
	return nil
}

// Current wraps getcpu(2): it returns the CPU that the calling thread runs on,
// and the NUMA node of that CPU. Both may be the past by the time it returns,
// unless the thread is pinned.
//
// The error wraps the errno.
func Current() (cpu, node int, err error) {
	var c, n uint32
	_, _, errno := unix.RawSyscall(unix.SYS_GETCPU,
		uintptr(unsafe.Pointer(&c)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, 0, fmt.Errorf("affinity: getcpu: %w", syserr.Named(errno))
	}
	return int(c), int(n), nil
}

// call makes the system call trap(tid, mask). It does without x/sys's
// SchedSetaffinityDynamic, which is a raw system call: sched_setaffinity(2)
// waits, for the thread to be moved and on a broken kernel for ever. The Go
// scheduler has to know, or all of the process waits with it at the next
// garbage collection.
func call(trap uintptr, tid int, mask []uint) unix.Errno {
	_, _, errno := unix.Syscall(trap, uintptr(tid),
		uintptr(len(mask)*bits.UintSize/8), uintptr(unsafe.Pointer(unsafe.SliceData(mask))))
	return errno
}

// grow calls get with ever larger masks: sched_getaffinity(2) says EINVAL to
// one that cannot hold all the CPUs that the kernel may have, and nothing tells
// how many those are.
func grow(get func(mask []uint) unix.Errno) (CPUSet, unix.Errno) {
	for size := 1024; ; size *= 2 {
		mask := make([]uint, size/bits.UintSize)
		errno := get(mask)
		if errno == unix.EINVAL && size <= MaxCPU {
			continue
		}
		return normal(mask), errno
	}
}

// thread names thread tid, by its number also when tid is 0.
func thread(tid int) string {
	if tid == 0 {
		return fmt.Sprintf("the calling thread %d", unix.Gettid())
	}
	return fmt.Sprintf("thread %d", tid)
}
