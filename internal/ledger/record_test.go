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
	for cpus, want := range map[int]int{1: 8192, 4: 8192, 16: 2048, 512: 512} {
		assert.Equal(t, want, bufferKB(cpus), cpus)
	}
	for _, tt := range []struct {
		kb, cpus int
		memory   uint64
		want     int
	}{
		{8192, 4, 1 << 40, 0},
		{6553, 5, 1 << 40, 8192},
		{4096, 4, 1 << 30, 8192},
		{4096, 5, 1 << 30, 0},
		{512, 128, 4 << 30, 1024},
		{1024, 128, 4 << 30, 0},
		{1024, 128, 256 << 30, 2048},
	} {
		assert.Equal(t, tt.want, largerKB(tt.kb, tt.cpus, tt.memory), "%+v", tt)
	}
}

func TestPossibleCPUs(t *testing.T) {
	root := t.TempDir()
	_, err := possibleCPUs(root)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "ledger: ")
	file := filepath.Join(root, "sys/devices/system/cpu/possible")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte("0-15\n"), 0o644))
	n, err := possibleCPUs(root)
	assert.NoError(t, err)
	assert.Equal(t, 16, n)
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
