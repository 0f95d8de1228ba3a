package cpuhp_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// sysfs returns the sysfs of a machine in testdata.
func sysfs(tb testing.TB, name string) cpuhp.FS {
	tb.Helper()
	sys, err := cpuhp.New(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return sys
}

// tree returns a sysfs with the given files in /sys/devices/system/cpu, and
// the path of that directory.
func tree(tb testing.TB, files map[string]string) (cpuhp.FS, string) {
	tb.Helper()
	sys := tb.TempDir()
	dir := filepath.Join(sys, "sys/devices/system/cpu")
	require.NoError(tb, os.MkdirAll(dir, 0o755))
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(tb, os.WriteFile(path, []byte(text), 0o644))
	}
	f, err := cpuhp.New(sys)
	require.NoError(tb, err)
	return f, dir
}

// attr returns the path of an attribute of a CPU of a machine in testdata.
func attr(name string, elem ...string) string {
	return filepath.Join(append([]string{"testdata", name, "sys/devices/system/cpu"}, elem...)...)
}

func TestNew(t *testing.T) {
	sys := t.TempDir()
	_, err := cpuhp.New(sys)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, "cpuhp: stat "+filepath.Join(sys, "sys/devices/system/cpu")+": ENOENT (no such file or directory)")
}

func TestMasks(t *testing.T) {
	for _, tt := range []struct {
		machine                            string
		online, offline, present, possible string
	}{
		{"x86", "0-3", "", "0-3", "0-3"},
		{"arm64", "0-1", "", "0-1", "0-1"},
		{"x86-offline", "0-1,3", "2,4-7", "0-3", "0-3"},
		{"no-hotplug", "0-1", "2-3", "0-1", "0-1"},
	} {
		t.Run(tt.machine, func(t *testing.T) {
			sys := sysfs(t, tt.machine)
			for _, mask := range []struct {
				read func() (affinity.CPUSet, error)
				want string
			}{
				{sys.Online, tt.online}, {sys.Offline, tt.offline}, {sys.Present, tt.present}, {sys.Possible, tt.possible},
			} {
				got, err := mask.read()
				assert.NoError(t, err)
				assert.Equal(t, mask.want, got.String())
			}
		})
	}
}

func TestIsOnline(t *testing.T) {
	for _, tt := range []struct {
		machine string
		cpu     int
		want    bool
	}{
		{"arm64", 0, true},
		{"x86", 0, true}, // by the mask: no file
		{"x86", 4, false},
		{"x86-offline", 1, true},
		{"x86-offline", 2, false},
		{"no-hotplug", 1, true},
		{"no-hotplug", 2, false},
	} {
		t.Run(fmt.Sprintf("%s cpu%d", tt.machine, tt.cpu), func(t *testing.T) {
			got, err := sysfs(t, tt.machine).IsOnline(tt.cpu)
			assert.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestSetOnline(t *testing.T) {
	sys, dir := tree(t, map[string]string{"cpu1/online": "1"})
	for _, online := range []bool{false, false, true, true} {
		require.NoError(t, sys.SetOnline(1, online))
		got, err := sys.IsOnline(1)
		assert.NoError(t, err)
		assert.Equal(t, online, got)
	}

	t.Run("the digit alone", func(t *testing.T) {
		// A FIFO tells what was written to it. It is opened for both, so that
		// opening does not wait for the other side.
		path := filepath.Join(dir, "cpu2/online")
		require.NoError(t, os.Mkdir(filepath.Dir(path), 0o755))
		require.NoError(t, unix.Mkfifo(path, 0o644))
		fifo, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		defer fifo.Close()
		buf := make([]byte, 16)
		for value, online := range []bool{false, true} {
			require.NoError(t, sys.SetOnline(2, online))
			n, err := fifo.Read(buf)
			require.NoError(t, err)
			assert.Equal(t, strconv.Itoa(value), string(buf[:n]))
		}
	})
}

func TestSetOnlineError(t *testing.T) {
	// /dev/full takes a write to ENOSPC, and a directory an open to EISDIR:
	// errors that nothing else here makes.
	sys, dir := tree(t, map[string]string{"cpu3/online/x": ""})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "cpu2"), 0o755))
	require.NoError(t, os.Symlink("/dev/full", filepath.Join(dir, "cpu2/online")))

	for _, tt := range []struct {
		cpu    int
		online bool
		errno  unix.Errno
		want   string
	}{
		{9, true, unix.ENOENT, `cpuhp: write "1" to %s/cpu9/online: ENOENT (no such file or directory)`},
		{-1, false, unix.ENOENT, `cpuhp: write "0" to %s/cpu-1/online: ENOENT (no such file or directory)`},
		{2, false, unix.ENOSPC, `cpuhp: write "0" to %s/cpu2/online: ENOSPC (no space left on device)`},
		{3, true, unix.EISDIR, `cpuhp: write "1" to %s/cpu3/online: EISDIR (is a directory)`},
	} {
		t.Run(tt.errno.Error(), func(t *testing.T) {
			err := sys.SetOnline(tt.cpu, tt.online)
			assert.EqualError(t, err, fmt.Sprintf(tt.want, dir))
			assert.ErrorIs(t, err, tt.errno)
			var e *cpuhp.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "write", e.Op)
			assert.Equal(t, map[bool]string{false: "0", true: "1"}[tt.online], e.Value)
			assert.Equal(t, fmt.Sprintf("%s/cpu%d/online", dir, tt.cpu), e.Path)
		})
	}
	assert.ErrorIs(t, sys.SetOnline(9, true), fs.ErrNotExist)
}

func TestEject(t *testing.T) {
	sys, dir := tree(t, map[string]string{"cpu3/firmware_node/eject": "", "cpu2/online": "1\n"})
	require.NoError(t, sys.Eject(3))
	text, err := os.ReadFile(filepath.Join(dir, "cpu3/firmware_node/eject"))
	require.NoError(t, err)
	assert.Equal(t, "1", string(text))
	err = sys.Eject(2)
	assert.EqualError(t, err, fmt.Sprintf(`cpuhp: write "1" to %s/cpu2/firmware_node/eject: ENOENT (no such file or directory)`, dir))
	assert.ErrorIs(t, err, unix.ENOENT)
}

func TestHotpluggable(t *testing.T) {
	for _, tt := range []struct {
		machine, want string
		why           map[int]string
	}{
		{"x86", "1-3", map[int]string{
			0: "no " + attr("x86", "cpu0/online") + ": the kernel does not let this CPU go offline",
		}},
		{"arm64", "0-1", map[int]string{}},
		{"x86-offline", "1-3", map[int]string{
			0: "no " + attr("x86-offline", "cpu0/online") + ": the kernel does not let this CPU go offline",
		}},
		{"no-hotplug", "", map[int]string{
			0: "no " + attr("no-hotplug", "cpu0/online") + ": the kernel is built without CONFIG_HOTPLUG_CPU",
			1: "no " + attr("no-hotplug", "cpu1/online") + ": the kernel is built without CONFIG_HOTPLUG_CPU",
		}},
	} {
		t.Run(tt.machine, func(t *testing.T) {
			cpus, why, err := sysfs(t, tt.machine).Hotpluggable()
			require.NoError(t, err)
			assert.Equal(t, tt.want, cpus.String())
			assert.Equal(t, tt.why, why)
		})
	}
}

func TestStates(t *testing.T) {
	for name, online := range map[string]int{"x86": 236, "arm64": 205} {
		t.Run(name, func(t *testing.T) {
			states, err := sysfs(t, name).States()
			require.NoError(t, err)
			assert.Equal(t, cpuhp.State{ID: 0, Name: "offline"}, states[0])
			assert.Equal(t, cpuhp.State{ID: 1, Name: "threads:prepare"}, states[1])
			assert.Contains(t, states, cpuhp.State{ID: 62, Name: "fork:vm_stack_cache"})
			assert.Equal(t, cpuhp.State{ID: online, Name: "online"}, states[len(states)-1])
		})
	}
	_, err := sysfs(t, "no-hotplug").States()
	assert.ErrorIs(t, err, cpuhp.ErrNotSupported)
	assert.EqualError(t, err, "cpuhp: not supported by this kernel: read "+attr("no-hotplug", "hotplug/states")+": ENOENT (no such file or directory)")
}

func TestState(t *testing.T) {
	for _, tt := range []struct {
		machine            string
		cpu, state, target int
	}{
		{"x86", 0, 236, 236},
		{"x86-offline", 2, 0, 0},
		{"x86-offline", 3, 236, 0},
	} {
		state, target, err := sysfs(t, tt.machine).State(tt.cpu)
		assert.NoError(t, err)
		assert.Equal(t, tt.state, state)
		assert.Equal(t, tt.target, target)
	}
	for name, cpu := range map[string]int{"x86": 4, "no-hotplug": 0} {
		_, _, err := sysfs(t, name).State(cpu)
		assert.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, attr(name, fmt.Sprintf("cpu%d/hotplug/state", cpu)))
	}
}

func TestThreadSiblings(t *testing.T) {
	for _, tt := range []struct {
		machine string
		cpu     int
		want    string
	}{
		{"x86", 0, "0,2"},
		{"x86", 3, "1,3"},
		{"arm64", 1, "1"},
	} {
		got, err := sysfs(t, tt.machine).ThreadSiblings(tt.cpu)
		assert.NoError(t, err)
		assert.Equal(t, tt.want, got.String())
	}
	_, err := sysfs(t, "x86-offline").ThreadSiblings(2)
	assert.ErrorIs(t, err, fs.ErrNotExist, "an offline CPU")
}

func TestNode(t *testing.T) {
	for cpu, want := range []int{0, 0, 1, 1} {
		got, err := sysfs(t, "x86-offline").Node(cpu)
		assert.NoError(t, err)
		assert.Equal(t, want, got, "cpu%d", cpu)
	}

	_, err := sysfs(t, "no-hotplug").Node(1)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "cpuhp: read "+attr("no-hotplug", "cpu1")+": it has no node")
	_, err = sysfs(t, "x86").Node(4)
	assert.ErrorIs(t, err, fs.ErrNotExist)

	sys, dir := tree(t, map[string]string{"cpu0/node-states": "", "cpu0/online": ""})
	require.NoError(t, os.Symlink("../../node/node12", filepath.Join(dir, "cpu0/node12")), "as the kernel has it")
	got, err := sys.Node(0)
	assert.NoError(t, err)
	assert.Equal(t, 12, got)
}

func TestIsolatedAndNohzFull(t *testing.T) {
	for _, tt := range []struct{ machine, isolated, nohzFull string }{
		{"x86", "", ""},
		{"x86-offline", "3", "1-3"},
		{"arm64", "", ""}, // no files
	} {
		isolated, err := sysfs(t, tt.machine).Isolated()
		assert.NoError(t, err)
		assert.Equal(t, tt.isolated, isolated.String(), tt.machine)
		nohzFull, err := sysfs(t, tt.machine).NohzFull()
		assert.NoError(t, err)
		assert.Equal(t, tt.nohzFull, nohzFull.String(), tt.machine)
	}
}

func TestSMT(t *testing.T) {
	for _, tt := range []struct {
		machine, control string
		active           bool
	}{
		{"x86", "on", true},
		{"x86-offline", "off", false},
		{"arm64", "notimplemented", false},
		{"powerpc", "2", true},
	} {
		control, active, err := sysfs(t, tt.machine).SMT()
		assert.NoError(t, err)
		assert.Equal(t, tt.control, control)
		assert.Equal(t, tt.active, active)
		assert.Equal(t, tt.active, cpuhp.SMTEnabled(control))
	}
	assert.False(t, cpuhp.SMTEnabled("1"), "one thread of each core")
	assert.ErrorIs(t, sysfs(t, "no-hotplug").SetSMT("off"), cpuhp.ErrNotSupported)
	_, _, err := sysfs(t, "no-hotplug").SMT()
	assert.ErrorIs(t, err, cpuhp.ErrNotSupported)
	assert.EqualError(t, err, "cpuhp: not supported by this kernel: read "+attr("no-hotplug", "smt/control")+": ENOENT (no such file or directory)")
}
