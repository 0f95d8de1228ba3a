package machine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A CPU that the run has added is ejected, and waited for, as the kernel removes
// it after the write.
func TestAddedCPU(t *testing.T) {
	const cpus = "sys/devices/system/cpu/"
	present := func(root, list string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(root, cpus, "present"), []byte(list+"\n"), 0o644))
	}
	setUp := func() (s *Snapshot, root, eject string) {
		root = machineTree(t, map[string]string{"run/others": "", cpus + "present": "0-3\n", cpus + "cpu4/firmware_node/path": "\\_SB_.CPUS.C004\n"})
		s, err := Take(root)
		require.NoError(t, err)
		s.HotAdd = true
		present(root, "0-4")
		return s, root, filepath.Join(root, cpus, "cpu4/firmware_node/eject")
	}

	t.Run("ejected", func(t *testing.T) {
		s, root, eject := setUp()
		diffs, err := s.Compare()
		require.NoError(t, err)
		assert.Equal(t, "cpu4 is present, was absent", sprint(diffs))
		require.NoError(t, unix.Mkfifo(eject, 0o600))
		written := make(chan string)
		go func() {
			value, _ := os.ReadFile(eject)
			present(root, "0-3")
			written <- string(value)
		}()
		require.NoError(t, s.Restore())
		assert.Equal(t, "1", <-written)
		diffs, err = s.Compare()
		require.NoError(t, err)
		assert.Empty(t, diffs)
	})

	t.Run("it stays", func(t *testing.T) {
		defer func(limit time.Duration) { exitLimit = limit }(exitLimit)
		exitLimit = time.Millisecond
		s, _, eject := setUp()
		require.NoError(t, os.WriteFile(eject, nil, 0o644))
		assert.ErrorContains(t, s.Restore(), "machine: cpu4 is still present 1ms after it was ejected")
	})

	t.Run("on its way", func(t *testing.T) {
		s, root, _ := setUp()
		present(root, "0-3")
		s.Present = "0-3"
		_, err := s.adding()
		require.NoError(t, err)
		came := make(chan struct{})
		go func() { defer close(came); present(root, "0-4") }()
		require.NoError(t, s.awaitAdded())
		<-came
		diffs, err := s.Compare()
		require.NoError(t, err)
		assert.Equal(t, "cpu4 is present, was absent", sprint(diffs))
		assert.NoFileExists(t, filepath.Join(root, addingPath))
	})

	t.Run("it does not come", func(t *testing.T) {
		defer func(limit time.Duration) { exitLimit = limit }(exitLimit)
		exitLimit = time.Millisecond
		s, root, _ := setUp()
		s.Present = "0-4"
		_, err := s.adding()
		require.NoError(t, err)
		assert.EqualError(t, s.awaitAdded(), "machine: a CPU was asked for, and has not come within 1ms: if it does, remove it")
		assert.NoFileExists(t, filepath.Join(root, addingPath))
		assert.NoError(t, s.awaitAdded(), "it is not waited for again")
	})

	t.Run("it cannot go", func(t *testing.T) {
		s, _, _ := setUp()
		assert.ErrorContains(t, s.Restore(), "cpu4/firmware_node/eject: ENOENT")
	})
}
