package vdso

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// On a thread that may run on one CPU only, the vDSO names that one.
func TestGetCPU(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		_, _, err := GetCPU()
		assert.ErrorIs(t, err, ErrUnsupported)
		return
	}
	runtime.LockOSThread() // never unlocked: the thread ends with its mask
	var mask unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &mask))
	for cpu := range 1024 {
		if !mask.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		require.NoError(t, unix.SchedSetaffinity(0, &one))
		is, node, err := GetCPU()
		if errors.Is(err, ErrUnsupported) {
			t.Skip(err)
		}
		require.NoError(t, err)
		assert.Equal(t, cpu, is)
		assert.Less(t, node, 1024)
	}
}

func TestFind(t *testing.T) {
	start, end, ok := find([]byte("00400000-00500000 r-xp 00000000 00:00 0   /a\n7ffd1000-7ffd3000 r-xp 00000000 00:00 0   [vdso]\n"))
	assert.True(t, ok)
	assert.EqualValues(t, 0x7ffd1000, start)
	assert.EqualValues(t, 0x7ffd3000, end)
	for _, text := range []string{"", "7ffd1000-7ffd3000 r-xp 00000000 00:00 0 [vvar]\n", "x [vdso]\n", "2000-1000 r-xp 0 0:0 0 [vdso]\n"} {
		_, _, ok := find([]byte(text))
		assert.False(t, ok, text)
	}
}

func TestSymbol(t *testing.T) {
	_, err := symbol([]byte("no ELF"), "f")
	assert.ErrorContains(t, err, "vdso: ")
}
