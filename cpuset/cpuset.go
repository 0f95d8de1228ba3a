package cpuset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// A Group is a cgroup of the cpuset hierarchy.
type Group struct {
	h    *Hierarchy
	name string // below the mount point, "/" for the root
}

// Name returns the path of the cpuset in its hierarchy: "/" for the root, else
// such as "/parent/child".
func (c *Group) Name() string { return c.name }

// Path returns the directory of the cpuset.
func (c *Group) Path() string { return filepath.Join(c.h.mount, c.name) }

// Create makes a child with mkdir(2). It has all the CPUs and memory nodes of
// its parent: on v2 and in v2 mode because cpuset.cpus and cpuset.mems are
// empty, which costs nothing more; on v1, where a cpuset without either takes
// no thread, as a copy of the parent's.
//
// On v2 a child only has the cpuset controller after [Group.EnableChildren] of
// its parent.
//
// The error is an [*Error]. It wraps [unix.EEXIST] when there is one of that
// name.
func (c *Group) Create(name string) (*Group, error) {
	child := &Group{c.h, filepath.Join(c.name, name)}
	path := child.Path()
	if err := unix.Mkdir(path, 0o755); err != nil {
		return nil, failed("mkdir", path, err)
	}
	if c.h.version == 1 && !c.h.v2Mode {
		if err := child.inherit(c); err != nil {
			_ = unix.Rmdir(path)
			return nil, err
		}
	}
	return child, nil
}

// EnableChildren gives the children the cpuset controller, by writing "+cpuset"
// to cgroup.subtree_control. On v1 it does nothing: they have it.
//
// The error is an [*Error].
func (c *Group) EnableChildren() error {
	if c.h.version == 1 {
		return nil
	}
	return writeFile(c.file("cgroup.subtree_control"), "+cpuset")
}

// DisableChildren takes the cpuset controller from the children, by writing
// "-cpuset" to cgroup.subtree_control. Their configuration is lost. On v1 it
// does nothing: they have it.
//
// The error is an [*Error]. It wraps [unix.EBUSY] when one of them has it
// enabled for its own children.
func (c *Group) DisableChildren() error {
	if c.h.version == 1 {
		return nil
	}
	return writeFile(c.file("cgroup.subtree_control"), "-cpuset")
}

// MakeThreaded lets single threads into the cpuset, by writing "threaded" to
// cgroup.type. There is no way back. On v1 it does nothing: there they may be
// anywhere.
//
// The error is an [*Error]. It wraps [unix.EOPNOTSUPP] when there are processes
// in it, or controllers on for its children that do not know of threads.
func (c *Group) MakeThreaded() error {
	if c.h.version == 1 {
		return nil
	}
	return writeFile(c.file("cgroup.type"), "threaded")
}

// AttachThread moves one thread into the cpuset: it writes tid to
// cgroup.threads, on v1 to tasks. A tid of 0 is the calling thread. Its
// affinity is within the CPUs of the cpuset from then on.
//
// The error is an [*Error]. It wraps [unix.EOPNOTSUPP] when the cpuset is not
// threaded, or is below another domain than the thread's process.
func (c *Group) AttachThread(tid int) error {
	return writeFile(c.threadsFile(), strconv.Itoa(tid))
}

// AttachProcess moves all threads of a process into the cpuset: it writes pid
// to cgroup.procs. A pid of 0 is the calling process. Their affinities are
// within the CPUs of the cpuset from then on.
//
// The error is an [*Error].
func (c *Group) AttachProcess(pid int) error {
	return writeFile(c.file("cgroup.procs"), strconv.Itoa(pid))
}

// CPUs returns the CPUs that the cpuset is configured for, cpuset.cpus. On v2
// they are constant, whether online or not; the empty set stands for those of
// the parent; and the root has none, which is [unix.ENOENT].
//
// The error is an [*Error].
func (c *Group) CPUs() (affinity.CPUSet, error) {
	return c.readCPUs("cpus")
}

// SetCPUs configures the cpuset for the given CPUs: it writes them to
// cpuset.cpus.
//
// The error is an [*Error].
func (c *Group) SetCPUs(cpus affinity.CPUSet) error {
	return writeFile(c.file(c.h.prefix+"cpus"), cpus.String())
}

// Effective returns the CPUs that the threads in the cpuset may run on:
// cpuset.cpus.effective, on v1 cpuset.effective_cpus. Those that are offline
// are not among them.
//
// The error is an [*Error].
func (c *Group) Effective() (affinity.CPUSet, error) {
	if c.h.version == 1 {
		return c.readCPUs("effective_cpus")
	}
	return c.readCPUs("cpus.effective")
}

// LoadBalanced reports whether the kernel balances load among the CPUs of the
// cpuset: its cpuset.sched_load_balance, which only v1 has. While that of the
// root is 1, it does so among all CPUs, whatever those of the others are.
//
// The error is an [*Error]. It wraps [unix.ENOENT] on v2.
func (c *Group) LoadBalanced() (bool, error) {
	text, err := readFile(c.file(c.h.prefix + "sched_load_balance"))
	return strings.TrimSpace(text) == "1", err
}

// Partition returns what kind of partition the cpuset is, as in
// cpuset.cpus.partition: "member" of its parent's, "root", or "isolated"
// (v6.0). One that is not valid, mostly as none of its CPUs is online, is "root
// invalid" or "isolated invalid", and reason says why (v6.0).
//
// The error is an [*Error]. It wraps [unix.ENOENT] on v1, which has none, and
// for the root cpuset.
func (c *Group) Partition() (kind, reason string, err error) {
	text, err := readFile(c.file("cpuset.cpus.partition"))
	if err != nil {
		return "", "", err
	}
	kind, reason, _ = strings.Cut(strings.TrimSpace(text), " (")
	return kind, strings.TrimSuffix(reason, ")"), nil
}

// SetPartition makes the cpuset a partition of the given kind: it writes
// "member", "root" or "isolated" to cpuset.cpus.partition. A partition takes
// its CPUs away from its parent. Whether it has become valid, [Group.Partition]
// tells.
//
// The error is an [*Error]. It wraps [unix.EINVAL] when the kernel does not
// have that kind, or before v6.0 when the partition would not be valid.
func (c *Group) SetPartition(kind string) error {
	return writeFile(c.file("cpuset.cpus.partition"), kind)
}

// exitGrace is how long [Group.Remove] waits for threads that end, or have
// ended, to let go of the cpuset: microseconds, on a machine that is not
// overloaded.
const exitGrace = 10 * time.Second

// Remove removes the cpuset and all below it, with rmdir(2). One that is gone
// already is no error.
//
// The error is an [*Error]. It wraps [unix.EBUSY], and names them, when there
// are threads in one of them, and also for the root. Those below may be gone by
// then. Other threads of this process it gives 10 s to end, as one that a
// goroutine was locked to ends some time after that.
func (c *Group) Remove() error {
	if c.name == "/" {
		return failed("rmdir", c.Path(), unix.EBUSY)
	}
	// Most have nothing below them, so try that first.
	err := c.rmdir()
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	entries, err := os.ReadDir(c.Path())
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("read", c.Path(), err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		below := &Group{c.h, filepath.Join(c.name, entry.Name())}
		if err := below.Remove(); err != nil {
			return err
		}
	}

	// A thread that has ended, and even been waited for, counts until it has
	// been switched away from for the last time (v6.19 and later).
	deadline := time.Now().Add(exitGrace)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := c.rmdir()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		threads, readErr := c.threads()
		if readErr != nil && !errors.Is(readErr, unix.ENOENT) {
			return readErr
		}
		if slices.ContainsFunc(threads, stays) {
			return &Error{Package: "cpuset", Op: "rmdir", Path: c.Path(),
				Err: fmt.Errorf("%w: has thread %s", syserr.Named(unix.EBUSY), strings.Join(threads, ", "))}
		}
		time.Sleep(pause)
	}
}

// stays tells whether a thread is the calling one, or one of another process:
// not one that is about to end.
func stays(thread string) bool {
	if thread == strconv.Itoa(unix.Gettid()) {
		return true
	}
	exists := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, thread))
		return err == nil
	}
	return !exists("/proc/self/task") && exists("/proc")
}

// rmdir removes the cpuset alone.
func (c *Group) rmdir() error {
	if err := unix.Rmdir(c.Path()); err != nil && err != unix.ENOENT {
		return failed("rmdir", c.Path(), err)
	}
	return nil
}

// threads returns the ids of the threads in the cpuset.
func (c *Group) threads() ([]string, error) {
	text, err := readFile(c.threadsFile())
	return strings.Fields(text), err
}

// threadsFile returns the path of the file that lists the threads.
func (c *Group) threadsFile() string {
	if c.h.version == 1 {
		return c.file("tasks")
	}
	return c.file("cgroup.threads")
}

// inherit copies the CPUs and memory nodes of the parent.
func (c *Group) inherit(parent *Group) error {
	for _, name := range []string{"cpus", "mems"} {
		value, err := readFile(parent.file(c.h.prefix + name))
		if err != nil {
			return err
		}
		if err := writeFile(c.file(c.h.prefix+name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// readCPUs returns the CPUs in a file of the controller.
func (c *Group) readCPUs(name string) (affinity.CPUSet, error) {
	path := c.file(c.h.prefix + name)
	text, err := readFile(path)
	if err != nil {
		return affinity.CPUSet{}, err
	}
	cpus, err := affinity.ParseList(text)
	if err != nil {
		return affinity.CPUSet{}, failed("read", path, err)
	}
	return cpus, nil
}

// file returns the path of one of the cpuset's files.
func (c *Group) file(name string) string { return filepath.Join(c.Path(), name) }
