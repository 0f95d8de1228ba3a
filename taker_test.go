//go:build !selftest

package hotplugtest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The program says that it has its memory, and ends with its standard input.
func TestTakerProgram(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("it is for amd64")
	}
	path := filepath.Join(t.TempDir(), "taker")
	require.NoError(t, os.WriteFile(path, takerProgram(), 0o700))
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 1))
	assert.NoError(t, err)
	require.NoError(t, in.Close())
	assert.NoError(t, cmd.Wait())
}
