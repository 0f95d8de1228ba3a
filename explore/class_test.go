package explore

import (
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A task gets the scheduling class that chrt(1) would give it, and the snapshot
// says which.
func TestSetClass(t *testing.T) {
	target := NewTarget("/", "/none", "")
	defer target.Close()
	require.NoError(t, target.StartTasks())
	defer target.StopTasks()
	require.Empty(t, target.Do(lines(t, "chrt -i -p 0 $T1")[0]).String())
	pid, err := target.pid("$T1")
	require.NoError(t, err)
	attr, err := unix.SchedGetAttr(pid, 0)
	require.NoError(t, err)
	assert.Equal(t, uint32(unix.SCHED_IDLE), attr.Policy)

	o, err := NewObserver(target, nil)
	require.NoError(t, err)
	defer o.Close()
	s, err := o.Look()
	require.NoError(t, err)
	assert.Equal(t, "-i -p 0", s.Readings["$T1#class"])
	assert.NotContains(t, s.Readings, Key("$T2#class"))

	// The task has its first class again before it is moved.
	assert.Equal(t, "chrt -o -p 0 $T1", target.Undo(s)[0].String())
	assert.Equal(t, "EINVAL", target.Do(lines(t, "chrt -f -p 0 $T1")[0]).String())
}

// The options are those of chrt(1), and nothing else is taken for them.
func TestParseClass(t *testing.T) {
	attr, err := parseClass("-d -T 1000000 -D 20000000 -P 30000000 -p 0")
	require.NoError(t, err)
	assert.Equal(t, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_DEADLINE, Runtime: 1e6, Deadline: 2e7, Period: 3e7}, attr)
	attr, err = parseClass("-r -p 50")
	require.NoError(t, err)
	assert.Equal(t, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 50}, attr)
	for _, options := range []string{"", "-x -p 0", "-f 50", "-f -p -1", "-f -p 100", "-d -p 0", "-d -T 1 -D 2 -P 3 -p 1", "-o -p 0;reboot"} {
		_, err := ParseLine("chrt " + options + " $T1")
		require.ErrorIs(t, err, ErrLine, options)
		assert.ErrorContains(t, err, "-f|-r -p PRIORITY")
	}
	_, err = ParseLine("chrt -o -p 0 1")
	assert.ErrorIs(t, err, ErrLine)
}

// What a script's chrt does is what the explorer does.
func TestChrtOfScripts(t *testing.T) {
	child := exec.Command("sleep", "60")
	require.NoError(t, child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	pid := strconv.Itoa(child.Process.Pid)
	require.NoError(t, SetClass([]string{"-b", "-p", "0", pid}))
	attr, err := unix.SchedGetAttr(child.Process.Pid, 0)
	require.NoError(t, err)
	assert.Equal(t, uint32(unix.SCHED_BATCH), attr.Policy)
	for _, bad := range [][]string{nil, {pid}, {"-x", "-p", "0", pid}, {"-b", "-p", "0", "me"}} {
		assert.Error(t, SetClass(bad), bad)
	}
}
