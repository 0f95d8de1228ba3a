package explore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// What the kernel logs after the last step is a finding of the sequence, not
// passed over by the next one.
func TestLateLog(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online, "echo 0 > "+online)
	file := logged(t, e)
	judged := Law{Name: "late", Check: func(c *Case) []Violation {
		if c.Step.Commands[0].Value == "1" { // the step that undoes it, which was looked after
			_, err := file.WriteString("4,1,1,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
			require.NoError(t, err)
		}
		return nil
	}}
	e.Runner.Laws = []Law{logLaw, judged}
	require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
	_, found := findings(*told)
	require.Len(t, found, 1)
	assert.Equal(t, "kernel-log: warning in f", found[0].Violation.Key())
	assert.Equal(t, []string{"echo 0 > " + online, "echo 1 > " + online}, found[0].Steps)
	assert.Len(t, found[0].Log, 1)
}

// What the kernel logs while a law that lags is waited for is a finding, though
// that law is kept in the end.
func TestLogWhileWaiting(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online)
	file := logged(t, e)
	waits := 0
	e.Runner.Laws = []Law{logLaw, {Name: "late", Lags: true, Check: func(c *Case) []Violation {
		if waits++; waits > 1 {
			return nil
		}
		_, err := file.WriteString("4,1,1,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
		require.NoError(t, err)
		return []Violation{{Law: "late", Touches: "it"}}
	}}}
	require.ErrorIs(t, e.Replay([][]Line{lines(t, "echo 0 > "+online)}, ""), ErrSpoiled)
	tried := (*told)[len(*told)-1].Tried
	require.NotNil(t, tried)
	require.Len(t, tried.Broken, 1)
	assert.Equal(t, "kernel-log: warning in f", tried.Broken[0].Key())
	assert.Len(t, tried.Log, 1)
}

// logged gives the explorer a kernel's log that the test writes.
func logged(t *testing.T, e *Explorer) *os.File {
	path := filepath.Join(t.TempDir(), "kmsg")
	file, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	log, err := kmsg.Open(path, kmsg.FromEnd)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, log.Close()) })
	e.Runner.Observer, err = NewObserver(e.Runner.Target, log)
	require.NoError(t, err)
	t.Cleanup(e.Runner.Observer.Close)
	return file
}

// A kernel that has complained of itself is not explored on, though all that is
// read is as before: also if what it complained of is known.
func TestComplained(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	for _, known := range [][]Known{nil, {{Key: "kernel-log: warning in f"}}} {
		e, told := explorerOf(t, online, "echo 0 > "+online)
		e.Known = known
		file := logged(t, e)
		e.Runner.Laws = []Law{logLaw, {Name: "good", Check: func(c *Case) []Violation {
			if c.Step.Commands[0].Value == "0" {
				_, err := file.WriteString("4,1,1,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
				require.NoError(t, err)
			}
			return nil
		}}}
		require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
		reduced, spoilers := findings(*told)
		assert.Empty(t, reduced)
		assert.Len(t, spoilers, 1-len(known))
		assert.Equal(t, 1, e.Runner.Stats.Sequences)
	}
}

// What the kernel complains of after a known law was broken is told of.
func TestComplainedLater(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online, "echo 7 > "+online)
	e.Known = []Known{{Key: "seven: it"}}
	file := logged(t, e)
	e.Report = func(event Event) {
		*told = append(*told, event)
		if event.Begin != nil {
			_, err := file.WriteString("6,1,1,-;nothing\n")
			require.NoError(t, err)
		}
	}
	check := e.Runner.Laws[0].Check
	e.Runner.Laws[0].Check = func(c *Case) []Violation {
		broken := check(c)
		if broken != nil {
			_, err := file.WriteString("4,2,2,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
			require.NoError(t, err)
		}
		return broken
	}
	require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
	_, spoilers := findings(*told)
	require.Len(t, spoilers, 1)
	assert.Equal(t, "kernel-log: warning in f", spoilers[0].Violation.Key())
}

// What the kernel complains of while the steps are undone, or after them, is
// told of too when sequences are tried.
func TestReplayComplained(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	for law, want := range map[string][]string{
		"":                         {"seven: it", "kernel-log: warning in f"},
		"kernel-log: warning in f": {"kernel-log: warning in f"},
		"other: law":               nil,
	} {
		e, told := explorerOf(t, online)
		file := logged(t, e)
		check := e.Runner.Laws[0].Check
		e.Runner.Laws[0].Check = func(c *Case) []Violation {
			broken := check(c)
			if broken != nil {
				_, err := file.WriteString("4,1,1,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
				require.NoError(t, err)
			}
			return broken
		}
		err := e.Replay([][]Line{lines(t, "echo 7 > "+online)}, law)
		if law == "other: law" || law == "" {
			require.ErrorIs(t, err, ErrSpoiled, law)
		} else {
			require.NoError(t, err, law)
		}
		tried := (*told)[len(*told)-1].Tried
		require.NotNil(t, tried)
		var keys []string
		for _, v := range tried.Broken {
			keys = append(keys, v.Key())
		}
		assert.Equal(t, want, keys, law)
	}
}

// While a finding is reduced, only its own law is told of. What the kernel
// complains of in the same step, while that law is waited for, is left.
func TestComplainedBesideWanted(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, _ := explorerOf(t, online)
	file := logged(t, e)
	late := Violation{Law: "late", Touches: "it"}
	looks := 0
	e.Runner.Laws = []Law{logLaw, {Name: "late", Lags: true, Check: func(c *Case) []Violation {
		if looks++; looks == 1 {
			_, err := file.WriteString("4,1,1,-;WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2\n")
			require.NoError(t, err)
		}
		return []Violation{late}
	}}}
	out, err := e.Runner.Run(lines(t, "echo 0 > "+online), wantedKey(late))
	require.NoError(t, err)
	require.NotEmpty(t, out.Broken)
	assert.Equal(t, late.Key(), out.Broken[0].Key())
	assert.NotEmpty(t, out.Spoiled)
	require.NotNil(t, out.Left)
	assert.Equal(t, "kernel-log: warning in f", out.Left.Violation.Key())
}
