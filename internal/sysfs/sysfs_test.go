package sysfs_test

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	long := strings.Repeat("x", 10_000)
	require.NoError(t, os.WriteFile(path, []byte(long+"\n\n"), 0o600))
	text, err := sysfs.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, long+"\n", text, "one newline goes")

	_, err = sysfs.Read(path, strconv.Atoi)
	assert.ErrorContains(t, err, path+": strconv.Atoi")
	_, err = sysfs.ReadFile(path + "-not")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "read "+path+"-not")
	_, err = sysfs.ReadFile(filepath.Dir(path))
	assert.ErrorIs(t, err, unix.EISDIR)
}

func TestParseBool(t *testing.T) {
	for text, want := range map[string]bool{"0": false, "1": true} {
		got, err := sysfs.ParseBool(text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := sysfs.ParseBool("yes")
	assert.EqualError(t, err, `"yes" is neither 0 nor 1`)
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := sysfs.WriteFile(path, "1")
	assert.ErrorIs(t, err, unix.ENOENT)
	assert.EqualError(t, err, `write "1" to `+path+": ENOENT (no such file or directory)")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, sysfs.WriteFile(path, "1"))
	text, err := sysfs.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "1", text)
}

func TestWriteLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, sysfs.WriteLine(path, ""))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "\n", string(data), "an empty value is written, too")
	assert.EqualError(t, sysfs.WriteLine(path+"-not", "1"), `write "1" to `+path+"-not: ENOENT (no such file or directory)")
}

// A caller is told of the write, also if it failed, and not if there was none.
func TestWriteFileThen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	wrote := 0
	assert.ErrorIs(t, sysfs.WriteFileThen(path, "1", func() { wrote++ }), unix.ENOENT)
	assert.Equal(t, 0, wrote)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, sysfs.WriteFileThen(path, "1", func() {
		text, err := sysfs.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "1", text)
		wrote++
	}))
	assert.ErrorIs(t, sysfs.WriteFileThen("/dev/full", "1", func() { wrote++ }), unix.ENOSPC)
	assert.Equal(t, 2, wrote)
}

// A value of which the kernel takes a part is not written. The limit that has it
// do so is that of a process of its own: it is about all files.
func TestShortWrite(t *testing.T) {
	const child = "SYSFS_TEST_SHORT"
	path := os.Getenv(child)
	if path == "" {
		path = filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		cmd := exec.Command(os.Args[0], "-test.run=^TestShortWrite$")
		cmd.Env = append(os.Environ(), child+"="+path)
		out, err := cmd.Output()
		assert.NoError(t, err, "%s", out)
		return
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 3, Max: 3}))
	wrote := false
	err := sysfs.WriteFileThen(path, "12345", func() { wrote = true })
	assert.ErrorIs(t, err, io.ErrShortWrite)
	assert.EqualError(t, err, `write "12345" to `+path+": short write: 3 of 5 bytes")
	assert.True(t, wrote)
}
