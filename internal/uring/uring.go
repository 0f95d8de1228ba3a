// Package uring submits requests to io_uring(7) that block in one of the
// kernel's worker threads, to see where those threads may run.
package uring

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// System calls and constants of include/uapi/linux/io_uring.h.
const (
	sysSetup, sysEnter, sysRegister = 425, 426, 427

	offRings   = 0
	offEntries = 0x10000000
	singleMap  = 1 << 0 // IORING_FEAT_SINGLE_MMAP, since v5.4
	opOpenat   = 18
	inWorker   = 1 << 4 // IOSQE_ASYNC
	getEvents  = 1 << 0 // IORING_ENTER_GETEVENTS
	affinityOf = 17     // IORING_REGISTER_IOWQ_AFF, since v5.14

	entries = 8
)

// offsets is struct io_sqring_offsets.
type offsets struct {
	head, tail, mask, entries, flags, dropped, array, _ uint32
	_                                                   uint64
}

// completionOffsets is struct io_cqring_offsets.
type completionOffsets struct {
	head, tail, mask, entries, overflow, completions, flags, _ uint32
	_                                                          uint64
}

// completion is struct io_uring_cqe.
type completion struct {
	_      uint64
	result int32
	flags  uint32
}

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, wqFD uint32
	_                                                                  [3]uint32
	sq                                                                 offsets
	cq                                                                 completionOffsets
}

// request is the part of struct io_uring_sqe that is used here.
type request struct {
	op, flags uint8
	ioprio    uint16
	fd        int32
	offset    uint64
	address   uint64
	length    uint32
	openFlags uint32
	_         [32]byte
}

// Ring is an io_uring that the thread which has opened it submits to. Its
// workers belong to this thread.
type Ring struct {
	fd       int
	thread   int
	rings    []byte
	requests []byte
	sq       offsets
	cq       completionOffsets
	paths    [][]byte // which the kernel reads
}

// Open returns a ring of the calling thread, which must be locked to its
// goroutine and end with it: it takes no more signals but those of its faults.
// The error wraps the errno of io_uring_setup(2): [unix.ENOSYS]
// without CONFIG_IO_URING, [unix.EPERM] if the sysctl kernel.io_uring_disabled
// forbids it.
func Open() (*Ring, error) {
	if err := blockSignals(); err != nil {
		return nil, err
	}
	var p params
	fd, _, errno := unix.Syscall(sysSetup, entries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r := &Ring{fd: int(fd), thread: unix.Gettid(), sq: p.sq, cq: p.cq}
	if p.features&singleMap == 0 {
		return nil, closeAfter(r, os.NewSyscallError("io_uring_setup", unix.ENOSYS))
	}
	var err error
	size := max(int(p.sq.array)+4*int(p.sqEntries), int(p.cq.completions)+int(p.cqEntries)*int(unsafe.Sizeof(completion{})))
	if r.rings, err = unix.Mmap(r.fd, offRings, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, closeAfter(r, os.NewSyscallError("mmap", err))
	}
	size = int(p.sqEntries) * int(unsafe.Sizeof(request{}))
	if r.requests, err = unix.Mmap(r.fd, offEntries, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, closeAfter(r, os.NewSyscallError("mmap", err))
	}
	return r, nil
}

// blockSignals keeps signals from the calling thread. The kernel makes no worker
// while one is pending, and gives up after three times (create_io_thread(),
// WORKER_INIT_LIMIT): the request then waits for ever, or is canceled. Go sends
// its threads SIGURG to have goroutines give way.
func blockSignals() error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	for _, fault := range []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV} {
		all.Val[0] &^= 1 << (fault - 1)
	}
	return os.NewSyscallError("rt_sigprocmask", unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil))
}

func closeAfter(r *Ring, err error) error {
	_ = r.Close()
	return err
}

// SetAffinity lets the workers run on some CPUs only, by
// IORING_REGISTER_IOWQ_AFF. The error wraps the errno of io_uring_register(2).
func (r *Ring) SetAffinity(cpus affinity.CPUSet) error {
	last, _ := cpus.Last()
	mask := make([]uint64, last/64+1)
	for cpu := range cpus.All() {
		mask[cpu/64] |= 1 << (cpu % 64)
	}
	_, _, errno := unix.Syscall6(sysRegister, uintptr(r.fd), affinityOf, uintptr(unsafe.Pointer(&mask[0])), uintptr(8*len(mask)), 0, 0)
	return os.NewSyscallError("io_uring_register(IOWQ_AFF)", noError(errno))
}

// OpenFIFO has a worker open a FIFO for reading, in which it blocks until
// somebody opens it for writing. The error wraps the errno of
// io_uring_enter(2).
func (r *Ring) OpenFIFO(path string) error {
	name := append([]byte(path), 0)
	r.paths = append(r.paths, name)
	tail := atomic.LoadUint32(r.word(r.sq.tail))
	index := tail & *r.word(r.sq.mask)
	size := uint32(unsafe.Sizeof(request{}))
	*(*request)(unsafe.Pointer(&r.requests[index*size])) = request{
		op: opOpenat, flags: inWorker, fd: unix.AT_FDCWD, address: uint64(uintptr(unsafe.Pointer(&name[0]))), openFlags: unix.O_RDONLY | unix.O_CLOEXEC,
	}
	*r.word(r.sq.array + 4*index) = index
	atomic.StoreUint32(r.word(r.sq.tail), tail+1)
	n, _, errno := unix.Syscall6(sysEnter, uintptr(r.fd), 1, 0, 0, 0, 0)
	if errno == 0 && n != 1 {
		return fmt.Errorf("io_uring_enter took %d requests of 1", n)
	}
	return os.NewSyscallError("io_uring_enter", noError(errno))
}

// word returns the number at an offset in the rings.
func (r *Ring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }

// Reap closes the FIFOs that workers have opened since, and returns how many
// requests have ended. It does not wait. The error is that of one that has
// failed.
func (r *Ring) Reap() (n int, err error) {
	if _, _, errno := unix.Syscall6(sysEnter, uintptr(r.fd), 0, 0, getEvents, 0, 0); errno != 0 {
		return 0, os.NewSyscallError("io_uring_enter", errno)
	}
	head := atomic.LoadUint32(r.word(r.cq.head))
	for ; head != atomic.LoadUint32(r.word(r.cq.tail)); n++ {
		index := head & *r.word(r.cq.mask)
		end := (*completion)(unsafe.Pointer(&r.rings[r.cq.completions+index*uint32(unsafe.Sizeof(completion{}))]))
		if end.result < 0 {
			err = fmt.Errorf("a request to open a FIFO: %w", unix.Errno(-end.result))
		} else {
			_ = unix.Close(int(end.result))
		}
		head++
		atomic.StoreUint32(r.word(r.cq.head), head)
	}
	return n, err
}

// Workers returns the ids of the ring's worker threads, and the CPUs that each
// may run on: Cpus_allowed_list.
func (r *Ring) Workers() (map[int]affinity.CPUSet, error) {
	files, err := filepath.Glob("/proc/self/task/*/comm")
	if err != nil {
		return nil, err
	}
	workers := make(map[int]affinity.CPUSet)
	for _, file := range files {
		name, err := sysfs.ReadFile(file)
		if err != nil || name != fmt.Sprintf("iou-wrk-%d", r.thread) {
			continue // it has ended, or is something else
		}
		dir := filepath.Dir(file)
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		status, err := sysfs.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(status, "\nCpus_allowed_list:")
		list, _, _ := strings.Cut(rest, "\n")
		if workers[id], err = affinity.ParseList(list); err != nil {
			return nil, fmt.Errorf("%s/status: %w", dir, err)
		}
	}
	return workers, nil
}

// Close closes the ring. Workers end when nothing blocks them.
func (r *Ring) Close() error {
	for _, memory := range [][]byte{r.rings, r.requests} {
		if memory != nil {
			if err := unix.Munmap(memory); err != nil {
				return os.NewSyscallError("munmap", err)
			}
		}
	}
	return unix.Close(r.fd)
}

// noError is nil for the errno of a system call that has succeeded.
func noError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
