package ledger

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// A machine with many CPUs does not get more memory for buffers than it bears.
func TestBufferKB(t *testing.T) {
	root := t.TempDir()
	_, err := bufferKB(root)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "ledger: ")
	file := filepath.Join(root, "sys/devices/system/cpu/possible")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	for possible, want := range map[string]int{"0": 8192, "0-3": 8192, "0-15": 2048, "0-511": 512} {
		require.NoError(t, os.WriteFile(file, []byte(possible+"\n"), 0o644))
		size, err := bufferKB(root)
		assert.NoError(t, err)
		assert.Equal(t, want, size, "possible: %s", possible)
	}
}

// The mark of a return may be left to the next read.
func TestHasReturned(t *testing.T) {
	r := &Recorder{}
	r.returns.Store(2)
	r.op.Events = []tracefs.Event{{Name: tracefs.Marker, Args: BeginMark}, {Name: tracefs.Marker, Args: ReturnMark}}
	assert.False(t, r.hasReturned(), "the last of several marks counts")
	r.op.Events = append(r.op.Events, tracefs.Event{Name: tracefs.Marker, Args: ReturnMark})
	assert.True(t, r.hasReturned())
}
