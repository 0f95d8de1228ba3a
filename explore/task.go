package explore

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// taskNames are the variables of the tasks. The first sleeps for ever, the
// second wakes up every now and then.
var taskNames = []string{"T1", "T2"}

// naps are the times that the tasks sleep at once.
var naps = map[string]unix.Timespec{"T1": {Sec: 86400}, "T2": {Nsec: 20e6}}

// StartTasks starts the tasks of the sequence, in the root cgroup. If they may
// not be there, they are in the caller's cgroup. The error wraps the errno of
// clone(2).
func (t *Target) StartTasks() error {
	if t.forker == nil {
		f, err := newForker()
		if err != nil {
			return err
		}
		t.forker = f
		// The caller's cgroup may have CPUs of its own, which no snapshot has. What
		// is refused here is no error: the laws leave out tasks of such cgroups.
		_ = sysfs.WriteLine(t.Path(rootGroup+"/cgroup.procs"), strconv.Itoa(f.pid))
	}
	for _, name := range taskNames {
		pid, err := t.forker.fork(naps[name])
		if err != nil {
			t.StopTasks()
			return err
		}
		t.Vars[name], t.pids["$"+name] = strconv.Itoa(pid), pid
	}
	return nil
}

// StopTasks kills the tasks, and waits for their end.
func (t *Target) StopTasks() {
	for _, name := range taskNames {
		if pid, err := t.pid("$" + name); err == nil {
			end(pid)
		}
		delete(t.Vars, name)
		delete(t.pids, "$"+name)
		delete(t.asked, "$"+name)
		delete(t.class, "$"+name)
	}
}

// Close ends what starts the tasks.
func (t *Target) Close() {
	if t.forker != nil {
		t.forker.close()
	}
	t.forker = nil
}

// end kills a child, and waits for its end.
func end(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
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

// A forker is a process that starts others. A Go program that forks pays for it
// with a page fault for each page that it then writes to, which takes longer on
// an emulated CPU than a dozen steps. The forker writes to a few only.
type forker struct {
	pid, fd int
	ended   chan struct{} // closed when it is needed no more
}

// newForker starts a forker. The error wraps an errno.
//
// It ends with the thread that has started it, as what it forks does. So that
// is a thread of its own: any other may end with a goroutine that is locked to
// it.
func newForker() (f *forker, err error) {
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		f, err = startForker()
		failed := err != nil
		close(started)
		if !failed {
			<-ended
		}
	}()
	<-started
	if err != nil {
		return nil, err
	}
	f.ended = ended
	return f, nil
}

// startForker starts a forker from the calling thread.
func startForker() (*forker, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(fds[1])
	parent := unix.Getpid()
	// The Go runtime's handlers must not run in the child.
	all, old := ^uint64(0), uint64(0)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 {
		unix.Close(fds[0])
		return nil, e
	}
	pid, e := serve(fds[0], fds[1], parent)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if e != 0 {
		unix.Close(fds[0])
		return nil, os.NewSyscallError("clone", e)
	}
	return &forker{pid: int(pid), fd: fds[0]}, nil
}

// fork starts a process of one thread that sleeps, again and again, and ends
// with the thread that called newForker. It is a child of this process. A Go
// program that is started has threads of its own, and a shell's sleep takes a
// program: neither is there in every guest.
func (f *forker) fork(nap unix.Timespec) (int, error) {
	if _, err := unix.Write(f.fd, unsafe.Slice((*byte)(unsafe.Pointer(&nap)), unsafe.Sizeof(nap))); err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	var answer int64
	for {
		n, err := unix.Read(f.fd, unsafe.Slice((*byte)(unsafe.Pointer(&answer)), unsafe.Sizeof(answer)))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, os.NewSyscallError("read", unix.EPIPE)
		case answer < 0:
			return 0, os.NewSyscallError("clone", unix.Errno(-answer))
		default:
			return int(answer), nil
		}
	}
}

func (f *forker) close() {
	end(f.pid)
	unix.Close(f.fd)
	close(f.ended)
}

// serve is fork(2), and in the child it does not return: it answers what fork
// asks for. The child makes nothing but raw system calls: it has one thread,
// and no Go runtime.
//
//go:norace
//go:nosplit
func serve(mine, fd, parent int) (uintptr, syscall.Errno) {
	pid, e := clone(uintptr(unix.SIGCHLD))
	if pid != 0 || e != 0 {
		return pid, e
	}
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(mine), 0, 0)
	endWith(parent)
	var nap unix.Timespec
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&nap)), unsafe.Sizeof(nap))
		if e != 0 || n != unsafe.Sizeof(nap) {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
		}
		pid, e := clone(unix.CLONE_PARENT | uintptr(unix.SIGCHLD))
		if pid == 0 && e == 0 {
			unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
			endWith(parent)
			for {
				unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&nap)), 0, 0)
			}
		}
		answer := int64(pid)
		if e != 0 {
			answer = -int64(e)
		}
		unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&answer)), unsafe.Sizeof(answer))
	}
}

//go:norace
//go:nosplit
func clone(flags uintptr) (uintptr, syscall.Errno) {
	if runtime.GOARCH == "s390x" {
		pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, 0, flags, 0, 0, 0, 0)
		return pid, e
	}
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	return pid, e
}

// endWith has the process end with its parent, also with one that is gone by
// now.
//
//go:norace
//go:nosplit
func endWith(parent int) {
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	ppid, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	if int(ppid) != parent {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
