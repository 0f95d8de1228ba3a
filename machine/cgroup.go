package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// leftoverPrefix begins the names of the cgroups that tests make in the root;
// the process's id follows.
const leftoverPrefix = "hotplugtest-"

// mount returns where the cpuset hierarchy is mounted, and whether cpusets
// there lose CPUs for good.
func (s *Snapshot) mount() (path string, losing, ok bool) {
	h, err := cpuset.New(s.Root)
	if err != nil {
		return "", false, false
	}
	return s.name(h.Mount()), h.Version() == 1 && !h.V2Mode(), true
}

// cpusets calls f with the directory of each cpuset but the root and what tests
// have made, parents first.
func (s *Snapshot) cpusets(f func(dir string)) {
	mount, _, ok := s.mount()
	if !ok {
		return
	}
	var walk func(dir string)
	walk = func(dir string) {
		entries, _ := os.ReadDir(s.path(dir))
		for _, entry := range entries {
			if !entry.IsDir() || dir == mount && isLeftover(entry.Name()) {
				continue
			}
			below := filepath.Join(dir, entry.Name())
			f(below)
			walk(below)
		}
	}
	walk(mount)
}

// v1CPUsFiles returns cpuset.cpus of all cpusets, where the kernel takes CPUs
// that go offline out of it. On v2 it does not, so that what is different there
// was somebody's wish.
func v1CPUsFiles(s *Snapshot) []string {
	h, err := cpuset.New(s.Root)
	if _, losing, _ := s.mount(); err != nil || !losing {
		return nil
	}
	return s.cpusetFiles(h.FileName("cpus"))
}

// partitionFiles returns cpuset.cpus.partition of all cpusets.
func partitionFiles(s *Snapshot) []string { return s.cpusetFiles("cpuset.cpus.partition") }

// cpusetFiles returns the file of that name in all cpusets.
func (s *Snapshot) cpusetFiles(name string) []string {
	var files []string
	s.cpusets(func(dir string) { files = append(files, filepath.Join(dir, name)) })
	return files
}

// addGroup adds the directory of a cgroup, or of a group of resctrl, with what
// tells it from one that is made there later: the number of its inode.
func (s *Snapshot) addGroup(dir string) {
	var stat unix.Stat_t
	if unix.Stat(s.path(dir), &stat) != nil {
		return
	}
	if s.Groups == nil {
		s.Groups = make(map[string]uint64)
	}
	s.Groups[dir] = stat.Ino
}

// sameGroup reports whether a directory is still the group that it was.
func sameGroup(was, now *Snapshot, dir string) bool { return was.Groups[dir] == now.Groups[dir] }

// leftovers are cgroups that a test has made and not removed.
type leftovers struct{}

func (leftovers) take(s *Snapshot) error {
	if mount, _, ok := s.mount(); ok {
		entries, _ := os.ReadDir(s.path(mount))
		for _, entry := range entries {
			if entry.IsDir() && isLeftover(entry.Name()) {
				s.Leftovers = append(s.Leftovers, filepath.Join(mount, entry.Name()))
			}
		}
	}
	return nil
}

func (leftovers) diff(was, now *Snapshot) []Difference {
	var diffs []Difference
	for _, dir := range now.Leftovers {
		if !slices.Contains(was.Leftovers, dir) {
			diffs = append(diffs, Difference{dir, "absent", "left over", func() error { return was.removeTree(dir) }, false})
		}
	}
	return diffs
}

// removeTree removes a cgroup and those below, and kills what is still in them.
func (s *Snapshot) removeTree(path string) error {
	dir := s.path(path)
	return s.untilFree(dir, func() error { return rmdirAll(dir) }, func(deadline time.Time) error { return killAll(dir, deadline) })
}

// rmdirAll removes a cgroup and those below.
func rmdirAll(dir string) error {
	// Most have nothing below them, so try that first.
	err := unix.Rmdir(dir)
	if err == unix.EBUSY || err == unix.ENOTEMPTY {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if entry.IsDir() {
				if err := rmdirAll(filepath.Join(dir, entry.Name())); err != nil {
					return err
				}
			}
		}
		err = unix.Rmdir(dir)
	}
	if err != nil && err != unix.ENOENT {
		return failed("rmdir", dir, err)
	}
	return nil
}

// killAll kills the processes that have threads in a cgroup or below it, and
// waits until they are gone.
func killAll(dir string, deadline time.Time) error {
	for _, file := range []string{"cgroup.threads", "tasks"} {
		text, err := read(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		for _, thread := range strings.Fields(text) {
			pid, ok := processOf(thread)
			if !ok {
				continue // it has ended
			}
			if pid == os.Getpid() {
				// It may be about to end: a thread is in its cgroup for a
				// moment longer than it runs.
				if time.Now().After(deadline.Add(ownLimit - exitLimit)) {
					return failed("rmdir", dir, fmt.Errorf("%w: has thread %s of this process", syserr.Named(unix.EBUSY), thread))
				}
				continue
			}
			isThere := func() bool {
				text, _ := read(filepath.Join(dir, file))
				now, _ := processOf(thread)
				return now == pid && slices.Contains(strings.Fields(text), thread)
			}
			if err := kill(pid, isThere, deadline); err != nil {
				return err
			}
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			if err := killAll(filepath.Join(dir, entry.Name()), deadline); err != nil {
				return err
			}
		}
	}
	return nil
}

// processOf returns the process that a thread belongs to, if it lives.
func processOf(thread string) (pid int, ok bool) {
	status, err := read(filepath.Join("/proc", thread, "status"))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(field(status, "Tgid"))
	return pid, err == nil
}

// kill kills a process and waits for its end, if isThere still says that it is
// to be killed: it may have ended, and its id may be another's by now.
func kill(pid int, isThere func() bool, deadline time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	} else if err != nil {
		return failed("pidfd_open", fmt.Sprintf("of process %d", pid), err)
	}
	defer unix.Close(fd)
	if !isThere() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return failed("pidfd_send_signal", fmt.Sprintf("of SIGKILL to process %d", pid), err)
	}
	return awaitExit(fd, deadline)
}

// awaitExit waits for the end of the process that a pidfd stands for.
func awaitExit(pidfd int, deadline time.Time) error {
	for {
		left := max(time.Until(deadline), 0)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if err != unix.EINTR {
			return syserr.In("machine", os.NewSyscallError("poll", err))
		}
	}
}

// cpusetTasks are the cpusets of cgroup v1 that threads are in: the kernel
// moves them to an ancestor when theirs loses its last CPU.
type cpusetTasks struct{}

func (cpusetTasks) take(s *Snapshot) error {
	_, losing, ok := s.mount()
	if !ok || !losing {
		return nil
	}
	if err := (threads{}).take(s); err != nil {
		return err
	}
	s.cpusets(func(dir string) {
		s.addGroup(dir)
		text, _ := read(filepath.Join(s.path(dir), "tasks"))
		for _, field := range strings.Fields(text) {
			tid, _ := strconv.Atoi(field)
			if thread, ok := s.Threads[tid]; ok {
				thread.Cpuset = dir
				s.Threads[tid] = thread
			}
		}
	})
	return nil
}

func (cpusetTasks) diff(was, now *Snapshot) []Difference {
	mount, _, _ := was.mount()
	var diffs []Difference
	was.eachThread(now, func(tid int, before, after Thread) {
		parent := after.Cpuset
		if parent == "" {
			parent = mount
		}
		// Another program may move its threads where it likes. The kernel moves
		// them up.
		if before.Cpuset == "" || !strings.HasPrefix(before.Cpuset, parent+"/") || !sameGroup(was, now, before.Cpuset) {
			return
		}
		diffs = append(diffs, Difference{before.label(tid) + " in cpusets", before.Cpuset, parent, func() error {
			return ifAlive(write(filepath.Join(was.path(before.Cpuset), "tasks"), strconv.Itoa(tid)))
		}, false})
	})
	return diffs
}
