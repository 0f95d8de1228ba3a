package explore

import (
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// taskNames are the variables of the tasks. The first sleeps for ever, the
// second wakes up every now and then.
var taskNames = []string{"T1", "T2"}

// naps are the times that the tasks sleep at once.
var naps = map[string]unix.Timespec{"T1": {Sec: 86400}, "T2": {Nsec: 20e6}}

// StartTasks starts the tasks of the sequence, in the root cgroup of the
// caller's and with its affinity. The error wraps the errno of clone(2).
func (t *Target) StartTasks() error {
	for _, name := range taskNames {
		pid, err := fork(naps[name])
		if err != nil {
			t.StopTasks()
			return err
		}
		t.Vars[name] = strconv.Itoa(pid)
	}
	return nil
}

// StopTasks kills the tasks, and waits for their end.
func (t *Target) StopTasks() {
	for _, name := range taskNames {
		if pid, err := t.pid("$" + name); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			for {
				if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
					break
				}
			}
		}
		delete(t.Vars, name)
		delete(t.asked, "$"+name)
	}
}

// Lost returns the tasks that have ended, which no line makes them do.
func (t *Target) Lost() []string {
	var lost []string
	for _, name := range taskNames {
		pid, err := t.pid("$" + name)
		if err != nil {
			continue
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo != 0 {
			lost = append(lost, "$"+name)
		}
	}
	return lost
}

// fork starts a process of one thread that sleeps, again and again, and ends
// with the calling thread. A Go program that is started has threads of its own,
// and a shell's sleep takes a program: neither is there in every guest.
func fork(nap unix.Timespec) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	parent := unix.Getpid()
	// The Go runtime's handlers must not run in the child.
	all, old := ^uint64(0), uint64(0)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 {
		return 0, e
	}
	pid, e := clone(&nap, parent)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(pid), nil
}

// clone is fork(2). In the child it does not return, and makes nothing but raw
// system calls: the child has one thread, and no Go runtime.
//
//go:norace
//go:nosplit
func clone(nap *unix.Timespec, parent int) (uintptr, syscall.Errno) {
	flags := uintptr(unix.SIGCHLD)
	var pid uintptr
	var e syscall.Errno
	if runtime.GOARCH == "s390x" {
		pid, _, e = unix.RawSyscall6(unix.SYS_CLONE, 0, flags, 0, 0, 0, 0)
	} else {
		pid, _, e = unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	}
	if pid != 0 || e != 0 {
		return pid, e
	}
	// This is for a parent that is killed, here or before.
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	ppid, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	if int(ppid) != parent {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
	for {
		unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(nap)), 0, 0)
	}
}
