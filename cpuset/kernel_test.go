package cpuset_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/machine"
)

// The tests in this file hold the package against a kernel, of cgroup v1 or v2,
// whichever has the cpuset controller. They are for root, and need cgroups
// mounted and at least two CPUs online. They work in a cpuset of their own,
// below the root, and leave the machine as they found it.

// waitForStdin in the environment makes the test binary a process that does
// nothing until its standard input is closed.
const waitForStdin = "CPUSET_TEST_WAIT_FOR_STDIN"

func TestMain(m *testing.M) {
	if os.Getenv(waitForStdin) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(machine.Main(m.Run))
}

// kernel returns the machine's hierarchy, and a cpuset to work in that is gone
// after the test.
func kernel(tb testing.TB) (*cpuset.Hierarchy, *cpuset.Group) {
	tb.Helper()
	machine.Claim(tb)
	h := find(tb, "/")
	pid := os.Getpid()
	if h.Version() == 2 {
		// A thread can only leave for a threaded cgroup of the same domain.
		before, err := h.Of(pid)
		require.NoError(tb, err)
		if before.Name() != "/" {
			require.NoError(tb, h.Root().AttachProcess(pid))
			tb.Cleanup(func() { assert.NoError(tb, before.AttachProcess(pid)) })
		}
	}
	if h.Version() == 2 {
		file := filepath.Join(h.Mount(), "cgroup.subtree_control")
		before := content(tb, file)
		tb.Cleanup(func() { assert.Equal(tb, before, content(tb, file), file) })
	}
	restore, err := h.EnableController()
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, restore()) })
	c, err := h.Root().Create(fmt.Sprintf("hotplugtest-%d", pid))
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, c.Remove()) })
	return h, c
}

// A thread goes into a child alone, has the child's CPUs there, and keeps the
// child from being removed.
func TestKernelThreadInChild(t *testing.T) {
	h, c := kernel(t)
	require.NoError(t, c.MakeThreaded())
	all, err := h.Root().Effective()
	require.NoError(t, err)
	require.GreaterOrEqual(t, all.Count(), 2, "CPUs of the root")
	others, err := h.Of(os.Getpid())
	require.NoError(t, err)

	require.NoError(t, affinity.Thread(func() error {
		require.NoError(t, c.AttachThread(0))
		// Or the thread would be in the way of Remove while it ends.
		defer func() { assert.NoError(t, h.Root().AttachThread(0)) }()

		for _, tid := range []int{0, unix.Gettid()} {
			in, err := h.Of(tid)
			require.NoError(t, err)
			assert.Equal(t, c.Name(), in.Name(), "of thread %d", tid)
		}
		in, err := h.Of(os.Getpid())
		require.NoError(t, err)
		assert.Equal(t, others.Name(), in.Name(), "of the main thread")

		effective, err := c.Effective()
		require.NoError(t, err)
		assert.Equal(t, all.String(), effective.String())
		mine, err := affinity.Get(0)
		require.NoError(t, err)
		assert.Equal(t, all.String(), mine.String())

		first, _ := all.First()
		last, _ := all.Last()
		require.NoError(t, c.SetCPUs(affinity.Of(first)))
		for what, get := range map[string]func() (affinity.CPUSet, error){
			"configured": c.CPUs,
			"effective":  c.Effective,
			"affinity":   func() (affinity.CPUSet, error) { return affinity.Get(0) },
		} {
			got, err := get()
			require.NoError(t, err)
			assert.Equal(t, affinity.Of(first).String(), got.String(), what)
		}
		assert.ErrorIs(t, affinity.Set(0, affinity.Of(last)), unix.EINVAL, "outside of the cpuset")

		err = c.Remove()
		assert.ErrorIs(t, err, unix.EBUSY)
		assert.ErrorContains(t, err, "has thread "+strconv.Itoa(unix.Gettid()))
		return nil
	}))

	require.NoError(t, c.Remove())
	assert.NoDirExists(t, c.Path())
}

// The CPUs go down through two more levels, on v2 as soon as each has the
// controller, and Remove takes the levels up again.
func TestKernelTree(t *testing.T) {
	h, c := kernel(t)
	all, err := h.Root().Effective()
	require.NoError(t, err)

	require.NoError(t, c.EnableChildren())
	for i := range 20 {
		below, err := c.Create(strconv.Itoa(i))
		require.NoError(t, err)
		require.NoError(t, below.EnableChildren())
		below, err = below.Create("leaf")
		require.NoError(t, err)
		effective, err := below.Effective()
		require.NoError(t, err)
		assert.Equal(t, all.String(), effective.String(), below.Name())
	}
	_, err = c.Create("0")
	assert.ErrorIs(t, err, unix.EEXIST)

	require.NoError(t, c.Remove())
	assert.NoDirExists(t, c.Path())
}

// A process that was killed and waited for is not in the way of Remove,
// whatever the kernel still has to do for its threads.
func TestKernelRemoveAfterExit(t *testing.T) {
	h, parent := kernel(t)
	require.NoError(t, parent.EnableChildren())
	self, err := os.Executable()
	require.NoError(t, err)
	for range 10 {
		c, err := parent.Create("process")
		require.NoError(t, err)

		process := exec.Command(self)
		process.Env = append(os.Environ(), waitForStdin+"=1")
		_, err = process.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, process.Start())
		attached := c.AttachProcess(process.Process.Pid)
		in, ofErr := h.Of(process.Process.Pid)
		busy := c.Remove()
		_ = process.Process.Kill()
		_ = process.Wait()
		removed := c.Remove()

		require.NoError(t, attached)
		require.NoError(t, ofErr)
		assert.Equal(t, c.Name(), in.Name())
		assert.ErrorIs(t, busy, unix.EBUSY)
		require.NoError(t, removed)
		require.NoDirExists(t, c.Path())
	}
}

// A thread of this process that has done its work is not in the way of Remove,
// though it has not quite ended.
func TestKernelRemoveAfterThread(t *testing.T) {
	h, c := kernel(t)
	if h.Version() == 1 {
		require.NoError(t, c.EnableChildren())
	} else {
		require.NoError(t, c.MakeThreaded())
		require.NoError(t, c.EnableChildren())
	}
	for range 200 {
		below, err := c.Create("thread")
		require.NoError(t, err)
		if h.Version() == 2 {
			require.NoError(t, below.MakeThreaded())
		}
		require.NoError(t, affinity.Thread(func() error { return below.AttachThread(0) }))
		require.NoError(t, below.Remove())
	}
}

func TestKernelAttachThreadErrors(t *testing.T) {
	h, c := kernel(t)
	if h.Version() == 1 {
		t.Skip("cgroup v1 has no threaded cgroups")
	}
	require.NoError(t, affinity.Thread(func() error {
		err := c.AttachThread(0)
		assert.ErrorIs(t, err, unix.EOPNOTSUPP, "to a cgroup that is not threaded")
		assert.ErrorContains(t, err, fmt.Sprintf("cpuset: write \"0\" to %s/cgroup.threads: ", c.Path()))
		return nil
	}))
}

func TestKernelEnableController(t *testing.T) {
	h, c := kernel(t)
	if h.Version() == 1 {
		t.Skip("cgroup v1 has no cgroup.subtree_control")
	}
	// kernel has enabled it for the children of the root: this is a no-op.
	file := filepath.Join(h.Mount(), "cgroup.subtree_control")
	assert.Contains(t, content(t, file), "cpuset")
	restore, err := h.EnableController()
	require.NoError(t, err)
	require.NoError(t, restore())
	assert.Contains(t, content(t, file), "cpuset", "restore took away what was there before")
	assert.FileExists(t, filepath.Join(c.Path(), "cpuset.cpus"))
}

// The price of one of many siblings: a system call each way, and on v1 those
// that copy the parent's CPUs and memory nodes.
func BenchmarkKernelCreateRemove(b *testing.B) {
	_, c := kernel(b)
	require.NoError(b, c.EnableChildren())
	for b.Loop() {
		below, err := c.Create("sibling")
		require.NoError(b, err)
		require.NoError(b, below.Remove())
	}
}
