//go:build !selftest

package hotplugtest

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/suite"
)

// The program says that it has its memory, and ends with its standard input.
func TestTakerProgram(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("it is for amd64")
	}
	program, err := takerFile()
	if suite.IsUnsupported(err) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer program.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
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
