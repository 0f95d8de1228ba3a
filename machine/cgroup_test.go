package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A process that has a thread in a cgroup is killed. One that has got the id of
// such a process meanwhile is not.
func TestKillAll(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	ended := func() bool {
		var info unix.Siginfo
		require.NoError(t, unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil))
		return info.Signo != 0
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	deadline := time.Now().Add(time.Minute)
	require.NoError(t, kill(pid, func() bool { return false }, deadline))
	assert.False(t, ended())

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tasks"), []byte(strconv.Itoa(pid)+"\n"), 0o644))
	require.NoError(t, killAll(dir, deadline))
	assert.True(t, ended())
}
