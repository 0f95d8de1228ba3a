package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const governorFile = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"

// What could be restored leaves no record behind.
func TestGuard(t *testing.T) {
	root := machineTree(t, map[string]string{governorFile: "schedutil\n"})
	var log strings.Builder
	release, err := guard(root, filepath.Join(root, "lock"), &log, false)
	require.NoError(t, err)
	r, err := stored(root)
	require.NoError(t, err)
	require.NotNil(t, r, "the supervisor has it from the start")
	assert.Equal(t, os.Getpid(), r.Process)

	require.NoError(t, os.WriteFile(filepath.Join(root, governorFile), []byte("performance\n"), 0o644))
	require.NoError(t, release())
	assert.Equal(t, "schedutil", has(t, root, governorFile))
	assert.Equal(t, "hotplugtest: at the end of the run this is put back:\n"+
		"  /"+governorFile+" is performance, was schedutil\n", log.String())
	r, err = stored(root)
	require.NoError(t, err)
	assert.Nil(t, r)
}

// An interrupt that somebody has removed fails no run.
func TestGuardGone(t *testing.T) {
	root := machineTree(t, map[string]string{"proc/irq/24/smp_affinity_list": "3\n"})
	var log strings.Builder
	release, err := guard(root, filepath.Join(root, "lock"), &log, false)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(root, "proc/irq/24")))
	assert.NoError(t, release())
	assert.Equal(t, "hotplugtest: this cannot be put back: /proc/irq/24/smp_affinity_list is gone, was 3\n", log.String())
	r, err := stored(root)
	require.NoError(t, err)
	assert.Nil(t, r)
}

// Who releases also in a defer undoes nothing of what the next one does.
func TestGuardReleasedTwice(t *testing.T) {
	root := machineTree(t, map[string]string{governorFile: "schedutil\n"})
	path := filepath.Join(root, "lock")
	release, err := guard(root, path, nil, false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, governorFile), []byte("performance\n"), 0o644))
	require.NoError(t, release(), "without a log, too")
	assert.Equal(t, "schedutil", has(t, root, governorFile))

	unlock, err := lock(path, t.Output())
	require.NoError(t, err)
	next := held.file
	require.NoError(t, os.WriteFile(filepath.Join(root, governorFile), []byte("powersave\n"), 0o644))
	assert.NoError(t, release())
	assert.Equal(t, "powersave", has(t, root, governorFile))
	assert.Same(t, next, held.file, "a supervisor would not inherit the lock")
	require.NoError(t, unlock())

	unlockLater, err := lock(path, t.Output())
	require.NoError(t, err)
	next = held.file
	assert.NoError(t, unlock())
	assert.Same(t, next, held.file)
	require.NoError(t, unlockLater())
}

// What could not be restored is left to the next run: the supervisor gives up
// its record without a word, and keeps it on disk.
func TestGuardGivesItsRecordToTheNextRun(t *testing.T) {
	root := machineTree(t, map[string]string{governorFile: "schedutil\n"})
	var log strings.Builder
	release, err := guard(root, filepath.Join(root, "lock"), &log, false)
	require.NoError(t, err)
	// No write to this file changes what is read from it.
	path := filepath.Join(root, governorFile)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(os.DevNull, path))
	err = release()
	assert.ErrorContains(t, err, "machine: /"+governorFile+" is empty, was schedutil")
	r, storedErr := stored(root)
	require.NoError(t, storedErr)
	require.NotNil(t, r, "it is kept")

	// The next run cannot do it either, and says what to do.
	log.Reset()
	_, err = guard(root, filepath.Join(root, "lock"), &log, false)
	assert.ErrorContains(t, err, "machine: not restored: /"+governorFile+" is empty, was schedutil")
	assert.ErrorContains(t, err, "if that is as it should be, remove /var/lib/hotplugtest.snapshot")
	assert.Contains(t, log.String(), "and left the machine changed:\n")

	// The one after that can.
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte("performance\n"), 0o644))
	release, err = guard(root, filepath.Join(root, "lock"), &log, false)
	require.NoError(t, err)
	assert.Equal(t, "schedutil", has(t, root, governorFile))
	require.NoError(t, release())
	r, storedErr = stored(root)
	require.NoError(t, storedErr)
	assert.Nil(t, r)
}

// A CPU that was added since is nobody's to take offline.
func TestHotAddedCPU(t *testing.T) {
	const cpus = "sys/devices/system/cpu/"
	root := machineTree(t, map[string]string{cpus + "present": "0-3\n"})
	s, err := Take(root)
	require.NoError(t, err)
	for _, file := range []string{"present", "online"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, cpus, file), []byte("0-2,4\n"), 0o644))
	}
	diffs, err := s.Compare()
	require.NoError(t, err)
	assert.Equal(t, "cpu3 is offline, was online", sprint(diffs), "cpu3 was there, cpu4 was not")
}

// The kernel refuses an alarm while there is one, so another is cancelled
// first.
func TestRestoreAlarm(t *testing.T) {
	for _, tt := range []struct{ was, is, written string }{
		{"150", "", "150\n"},
		{"150", "300", "0\n150\n"},
		{"", "300", "0\n"},
	} {
		root := machineTree(t, nil)
		path := filepath.Join(root, "wakealarm")
		require.NoError(t, unix.Mkfifo(path, 0o600))
		clock, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		defer clock.Close()
		require.NoError(t, setAlarm(&Snapshot{Root: root}, "/wakealarm", tt.was, tt.is))
		_, err = clock.WriteString("end") // for the read not to wait
		require.NoError(t, err)
		buf := make([]byte, 64)
		n, err := clock.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, tt.written+"end", string(buf[:n]), "%+v", tt)
	}
}
