package explore

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// The tasks are processes of one thread each that live until they are stopped.
// One that has ended is named.
func TestTasks(t *testing.T) {
	target := NewTarget("/", "/none", "")
	require.NoError(t, target.StartTasks())
	defer target.Close()
	defer target.StopTasks()
	assert.Empty(t, target.Lost())
	pids := make(map[int]bool)
	for _, name := range taskNames {
		pid, err := target.pid("$" + name)
		require.NoError(t, err)
		pids[pid] = true
		threads, err := os.ReadDir(target.Path("/proc/$" + name + "/task"))
		require.NoError(t, err)
		assert.Len(t, threads, 1)
	}
	assert.Len(t, pids, len(taskNames))
	pid, err := target.pid("$T1")
	require.NoError(t, err)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	require.NoError(t, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	assert.Equal(t, []string{"$T1"}, target.Lost())
	target.StopTasks()
	for pid := range pids {
		assert.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
	}
}

// The tasks are in the root cgroup, where what starts them is moved: the
// caller's may have CPUs of its own.
func TestTasksCgroup(t *testing.T) {
	root := t.TempDir()
	write(t, root, "cg/cgroup.procs", "")
	target := NewTarget(root, "/cg", "")
	defer target.Close()
	require.NoError(t, target.StartTasks())
	defer target.StopTasks()
	text, err := os.ReadFile(target.Path("$R/cgroup.procs"))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintln(target.forker.pid), string(text))
}

// The tasks do not end with the thread that has started them.
func TestTasksOutliveThread(t *testing.T) {
	target := NewTarget("/", "/none", "")
	defer target.Close()
	defer target.StopTasks()
	var tid int
	require.NoError(t, affinity.Thread(func() error {
		tid = unix.Gettid()
		return target.StartTasks()
	}))
	for unix.Tgkill(os.Getpid(), tid, 0) == nil {
		runtime.Gosched() // until it has ended
	}
	// assert.Never looks in a goroutine, which may outlive the test.
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		require.Empty(t, target.Lost())
	}
}

// The tasks of one sequence after the other are children of this process, and
// not of what starts them, so that it can wait for their end.
func TestTasksAreChildren(t *testing.T) {
	target := NewTarget("/", "/none", "")
	defer target.Close()
	for range 3 {
		require.NoError(t, target.StartTasks())
		for _, name := range taskNames {
			pid, err := target.pid("$" + name)
			require.NoError(t, err)
			status, err := os.ReadFile(target.Path("/proc/$" + name + "/status"))
			require.NoError(t, err)
			assert.Contains(t, string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
			assert.NotEqual(t, target.forker.pid, pid)
		}
		target.StopTasks()
		_, err := target.pid("$T1")
		assert.ErrorIs(t, err, unix.ESRCH)
	}
	forker := target.forker.pid
	target.Close()
	assert.ErrorIs(t, unix.Kill(forker, 0), unix.ESRCH)
}
