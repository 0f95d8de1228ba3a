package machine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

const (
	mounts    = "proc/self/mounts"
	instances = "sys/kernel/tracing/instances/"
)

// What a run leaves of its tracing is removed. What others trace stays, and so
// does what was there before.
func TestTracingLeftOver(t *testing.T) {
	root := tree(t, map[string]string{
		mounts:                       "tracefs /sys/kernel/tracing tracefs rw 0 0\n",
		instances + "hotplugtest-1/": "", instances + "perf/": "",
	})
	before, err := machine.Take(root)
	require.NoError(t, err)
	change(t, root, map[string]string{instances + "hotplugtest-2-a/": "", instances + "theirs/": ""})
	diffs, err := before.Compare()
	require.NoError(t, err)
	require.Equal(t, []string{"/sys/kernel/tracing/instances/hotplugtest-2-a is left over, was absent"}, diffTexts(diffs))
	require.NoError(t, before.Restore())
	entries, err := os.ReadDir(filepath.Join(root, instances))
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	assert.Equal(t, []string{"hotplugtest-1", "perf", "theirs"}, names)
}

// A mount that the run has made is undone, one that another program has made
// meanwhile is not.
func TestTracingMountLeftOver(t *testing.T) {
	var unmounted []string
	machine.FakeUnmount(t, func(dir string) error {
		unmounted = append(unmounted, dir)
		return nil
	})
	for source, want := range map[string][]string{"tracefs": nil, "hotplugtest-12": {"/sys/kernel/tracing"}} {
		root := tree(t, map[string]string{mounts: "sysfs /sys sysfs rw 0 0\n", instances: ""})
		before, err := machine.Take(root)
		require.NoError(t, err)
		change(t, root, map[string]string{mounts: source + " /sys/kernel/tracing tracefs rw 0 0\n"})
		diffs, err := before.Compare()
		require.NoError(t, err)
		unmounted = nil
		require.NoError(t, before.Restore())
		for n := range want {
			assert.Equal(t, "tracefs mounted by a test on "+want[n]+" is left over, was absent", diffs[n].String())
			want[n] = filepath.Join(root, want[n])
		}
		assert.Len(t, diffs, len(want), source)
		assert.Equal(t, want, unmounted, source)
	}
}

func diffTexts(diffs []machine.Difference) (all []string) {
	for _, d := range diffs {
		all = append(all, d.String())
	}
	return all
}

// An instance and a mount that a test leaves are leaks, and so are they to the
// supervisor of a run that is killed. Under systemd, tracefs is a unit, and
// stays mounted.
func TestKernelTracingLeak(t *testing.T) {
	machine.Claim(t)
	const dir = "/sys/kernel/tracing"
	if _, err := os.Stat("/run/systemd/system"); err != nil && unix.Unmount(dir, 0) == nil {
		defer func() {
			assert.NoError(t, unix.Mount("tracefs", dir, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
		}()
	}
	mountPoints := func() string {
		text, err := os.ReadFile("/proc/self/mounts")
		require.NoError(t, err)
		return string(text)
	}
	mounted := strings.Contains(mountPoints(), " tracefs ")
	stock := machine.TakeStock()
	before, err := machine.Take("/")
	require.NoError(t, err)
	f, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer f.Close() // nothing is left to do for it if the machine was restored
	name := fmt.Sprintf("hotplugtest-%d-leak", os.Getpid())
	path := filepath.Join(f.Dir(), "instances", name)
	require.NoError(t, os.Mkdir(path, 0o755))
	writeFile(t, filepath.Join(path, "events/sched/sched_switch/enable"), "1")
	leaks := stock.Leaks()
	assert.Contains(t, leaks, "trace instance "+path+": not removed")
	diffs, err := before.Compare()
	require.NoError(t, err)
	assert.Contains(t, diffTexts(diffs), path+" is left over, was absent")

	require.NoError(t, before.Restore())
	assert.NoDirExists(t, path)
	t.Logf("tracefs was mounted: %t", mounted)
	if !mounted {
		assert.Contains(t, leaks, "mount "+dir+": not unmounted")
		assert.NotContains(t, mountPoints(), " tracefs ")
	}
	assert.Empty(t, stock.Leaks())
}
