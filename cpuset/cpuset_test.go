package cpuset_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// What each operation writes, and where; "" where it must touch nothing.
func TestWrites(t *testing.T) {
	tests := []struct {
		name   string
		op     func(*cpuset.Group) error
		v1, v2 string // file
		value  string
	}{
		{"EnableChildren", (*cpuset.Group).EnableChildren, "", "cgroup.subtree_control", "+cpuset"},
		{"DisableChildren", (*cpuset.Group).DisableChildren, "", "cgroup.subtree_control", "-cpuset"},
		{"MakeThreaded", (*cpuset.Group).MakeThreaded, "", "cgroup.type", "threaded"},
		{"AttachThread", func(c *cpuset.Group) error { return c.AttachThread(123) }, "tasks", "cgroup.threads", "123"},
		{"AttachThread self", func(c *cpuset.Group) error { return c.AttachThread(0) }, "tasks", "cgroup.threads", "0"},
		{"AttachProcess", func(c *cpuset.Group) error { return c.AttachProcess(456) }, "cgroup.procs", "cgroup.procs", "456"},
		{"SetCPUs", func(c *cpuset.Group) error { return c.SetCPUs(affinity.Of(0, 2, 3)) }, "cpuset.cpus", "cpuset.cpus", "0,2-3"},
		{"SetCPUs empty", func(c *cpuset.Group) error { return c.SetCPUs(affinity.CPUSet{}) }, "cpuset.cpus", "cpuset.cpus", ""},
	}
	for _, tt := range tests {
		for version, file := range map[string]string{"v1": tt.v1, "v2": tt.v2} {
			t.Run(version+"/"+tt.name, func(t *testing.T) {
				c := childOf(t, tree(t, version))
				before := contents(t, c.Path())
				require.NoError(t, tt.op(c))
				if file != "" {
					before[file] = tt.value + "\n"
				}
				assert.Equal(t, before, contents(t, c.Path()))
			})
		}
	}
}

func TestWriteErrors(t *testing.T) {
	c := childOf(t, tree(t, "v2"))
	file := filepath.Join(c.Path(), "cgroup.type")
	require.NoError(t, os.Remove(file))

	err := c.MakeThreaded()
	assert.ErrorIs(t, err, unix.ENOENT)
	assert.Equal(t, &cpuset.Error{Package: "cpuset", Op: "write", Path: file, Value: "threaded", Err: unix.ENOENT}, err)
	assert.EqualError(t, err, `cpuset: write "threaded" to `+file+": ENOENT (no such file or directory)")

	// A write that is refused, rather than the open before it.
	require.NoError(t, os.Symlink("/dev/full", file))
	err = c.MakeThreaded()
	assert.ErrorIs(t, err, unix.ENOSPC)
	assert.EqualError(t, err, `cpuset: write "threaded" to `+file+": ENOSPC (no space left on device)")
}

func TestPartition(t *testing.T) {
	c := childOf(t, tree(t, "v2"))
	require.NoError(t, c.SetPartition("isolated"))
	assert.Equal(t, "isolated\n", contents(t, c.Path())["cpuset.cpus.partition"])
	for _, tt := range []struct{ text, kind, reason string }{
		{"member\n", "member", ""},
		{"isolated\n", "isolated", ""},
		{"root invalid (Cpu list in cpuset.cpus not exclusive)\n", "root invalid", "Cpu list in cpuset.cpus not exclusive"},
		{"root invalid\n", "root invalid", ""}, // before v6.0
	} {
		require.NoError(t, os.WriteFile(filepath.Join(c.Path(), "cpuset.cpus.partition"), []byte(tt.text), 0o644))
		kind, reason, err := c.Partition()
		require.NoError(t, err)
		assert.Equal(t, []string{tt.kind, tt.reason}, []string{kind, reason})
	}
	_, _, err := find(t, "testdata/v2").Root().Partition()
	assert.ErrorIs(t, err, unix.ENOENT)
}

func TestReadCPUs(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			c := childOf(t, filepath.Join("testdata", version))
			cpus, err := c.CPUs()
			require.NoError(t, err)
			assert.Equal(t, "", cpus.String())
			cpus, err = c.Effective()
			require.NoError(t, err)
			assert.Equal(t, "0,2-3", cpus.String())
		})
	}

	_, err := find(t, "testdata/v2").Root().CPUs()
	assert.EqualError(t, err, "cpuset: read testdata/v2/sys/fs/cgroup/cpuset.cpus: ENOENT (no such file or directory)")
}

func TestLoadBalanced(t *testing.T) {
	dir := tree(t, "v1")
	root := find(t, dir).Root()
	for text, want := range map[string]bool{"1\n": true, "0\n": false} {
		require.NoError(t, os.WriteFile(filepath.Join(root.Path(), "cpuset.sched_load_balance"), []byte(text), 0o644))
		balanced, err := root.LoadBalanced()
		require.NoError(t, err)
		assert.Equal(t, want, balanced)
	}
	_, err := find(t, "testdata/v2").Root().LoadBalanced()
	assert.ErrorIs(t, err, unix.ENOENT)
}

func TestReadCPUsMalformed(t *testing.T) {
	c := childOf(t, tree(t, "v2"))
	file := filepath.Join(c.Path(), "cpuset.cpus.effective")
	require.NoError(t, os.WriteFile(file, []byte("0-x\n"), 0o666))
	_, err := c.Effective()
	assert.ErrorIs(t, err, affinity.ErrSyntax)
	assert.Equal(t, file, requireError(t, err).Path)
}

// Mounts of type cpuset, and of cgroup with noprefix, have the names of Linux
// 2.6.12, which had cpusets before there were cgroups.
func TestNoPrefix(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{
		"proc/self/mountinfo":       "30 22 0:25 / /dev/cpuset rw - cgroup none rw,cpuset,noprefix,release_agent=/sbin/cpuset_release_agent\n",
		"proc/thread-self/cgroup":   "4:cpuset:/\n",
		"dev/cpuset/cpus":           "0-3\n",
		"dev/cpuset/effective_cpus": "0-2\n",

		"dev/cpuset/sched_load_balance": "1\n",
	})
	c, err := find(t, root).Of(0)
	require.NoError(t, err)
	cpus, err := c.CPUs()
	require.NoError(t, err)
	assert.Equal(t, "0-3", cpus.String())
	cpus, err = c.Effective()
	require.NoError(t, err)
	assert.Equal(t, "0-2", cpus.String())
}

func TestCreate(t *testing.T) {
	// In v2 mode and on v2 nothing is to be copied.
	for _, version := range []string{"v2", "hybrid"} {
		t.Run(version, func(t *testing.T) {
			parent := find(t, tree(t, version)).Root()
			c, err := parent.Create("new")
			require.NoError(t, err)
			assert.Equal(t, "/new", c.Name())
			assert.DirExists(t, filepath.Join(parent.Path(), "new"))
			assert.Empty(t, contents(t, c.Path()))

			grandchild, err := c.Create("newer")
			require.NoError(t, err)
			assert.Equal(t, "/new/newer", grandchild.Name())

			_, err = parent.Create("new")
			assert.ErrorIs(t, err, unix.EEXIST)
			assert.EqualError(t, err, "cpuset: mkdir "+c.Path()+": EEXIST (file exists)")
		})
	}
}

// On v1 a child needs CPUs and memory nodes. A directory of an ordinary file
// system comes without the files, so Create has to fail, and to clean up.
func TestCreateOnV1(t *testing.T) {
	parent := find(t, tree(t, "v1")).Root()
	_, err := parent.Create("new")
	file := filepath.Join(parent.Path(), "new", "cpuset.cpus")
	assert.EqualError(t, err, `cpuset: write "0-3" to `+file+": ENOENT (no such file or directory)")
	assert.NoDirExists(t, filepath.Dir(file))
}

func TestInheritOnV1(t *testing.T) {
	root := tree(t, "v1")
	c := childOf(t, root)
	require.NoError(t, c.Inherit(find(t, root).Root()))
	got := contents(t, c.Path())
	assert.Equal(t, "0-3\n", got["cpuset.cpus"])
	assert.Equal(t, "0\n", got["cpuset.mems"])
}

func TestRemove(t *testing.T) {
	h := find(t, tree(t, "v2"))
	c, err := h.Root().Create("new")
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		below, err := c.Create(name)
		require.NoError(t, err)
		_, err = below.Create("c")
		require.NoError(t, err)
	}
	sibling, err := h.Root().Create("new2")
	require.NoError(t, err)

	require.NoError(t, c.Remove())
	assert.NoDirExists(t, c.Path())
	assert.DirExists(t, sibling.Path())
	require.NoError(t, c.Remove(), "gone already")
}

func TestRemoveErrors(t *testing.T) {
	root := tree(t, "v2")
	h := find(t, root)
	err := h.Root().Remove()
	assert.ErrorIs(t, err, unix.EBUSY)
	assert.EqualError(t, err, "cpuset: rmdir "+h.Mount()+": EBUSY (device or resource busy)")
	assert.DirExists(t, filepath.Join(h.Mount(), "child"), "the root was not to be touched")

	// The files, which rmdir(2) of a cgroup does not mind, are in the way here.
	c := childOf(t, root)
	err = c.Remove()
	assert.ErrorIs(t, err, unix.ENOTEMPTY)
	assert.EqualError(t, err, "cpuset: rmdir "+c.Path()+": ENOTEMPTY (directory not empty)")
}

// find returns the hierarchy of the tree at root.
func find(tb testing.TB, root string) *cpuset.Hierarchy {
	tb.Helper()
	h, err := cpuset.New(root)
	require.NoError(tb, err)
	return h
}

// childOf returns the cpuset "/child" of the tree at root.
func childOf(t *testing.T, root string) *cpuset.Group {
	t.Helper()
	c, err := find(t, root).Of(42)
	require.NoError(t, err)
	require.Equal(t, "/child", c.Name())
	return c
}

// tree returns a copy of a tree in testdata, to write to.
func tree(t *testing.T, name string) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(filepath.Join("testdata", name))))
	return root
}

// writeTree writes files below root.
func writeTree(tb testing.TB, root string, files map[string]string) {
	tb.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(tb, os.WriteFile(path, []byte(text), 0o666))
	}
}

// contents returns the files in dir and what is in them.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := map[string]string{}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			files[entry.Name()] = content(t, filepath.Join(dir, entry.Name()))
		}
	}
	return files
}

func content(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	require.NoError(tb, err)
	return string(text)
}

func requireError(t *testing.T, err error) *cpuset.Error {
	t.Helper()
	var e *cpuset.Error
	require.ErrorAs(t, err, &e)
	return e
}
