//go:build !selftest

package hotplugtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A page that has changed is found, and the first byte of it that has.
func TestSwapped(t *testing.T) {
	s, err := newSwapped()
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.unmap()) }()
	for range 2 { // a second round is another text
		_, err := s.out()
		require.NoError(t, err)
		require.NoError(t, s.check())
	}
	s.memory[3*os.Getpagesize()+512] ^= 0xff
	assert.EqualError(t, s.check(), "byte 512 of page 3 is 0xfd, and was 0x2 before it was swapped out")
}

// A disk is read from its beginning to its end, and again.
func TestDisk(t *testing.T) {
	dir, err := os.MkdirTemp(".", "disk-") // the directory for temporary files may be in memory, without O_DIRECT
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "disk")
	size := os.Getpagesize()
	data := make([]byte, 2*size)
	data[0], data[size] = 1, 2
	require.NoError(t, os.WriteFile(path, data, 0o600))
	d, err := openDisk(path)
	if err != nil {
		t.Skipf("no O_DIRECT here: %v", err)
	}
	defer func() { assert.NoError(t, d.close()) }()
	for _, want := range []byte{1, 2, 1} {
		require.NoError(t, d.read())
		assert.Equal(t, want, d.page[0])
	}
	require.NoError(t, os.Truncate(path, int64(size)))
	assert.EqualError(t, d.read(), fmt.Sprintf("pread(2) of %s at %d: 0 bytes of %d", path, size, size))

	require.NoError(t, os.Truncate(path, 0))
	_, err = openDisk(path)
	assert.ErrorContains(t, err, "no medium found")
}

func TestNVMePath(t *testing.T) {
	for name, want := range map[string]string{"nvme0c0n1": "nvme0n1", "nvme10c2n3": "nvme10n3", "nvme0n1": "nvme0n1", "vda": "vda"} {
		assert.Equal(t, want, nvmePath.ReplaceAllString(name, "$1$2"))
	}
}
