package explore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// brokenBy is a law that any machine breaks whose file has the value 7.
func brokenBy(key Key) Law {
	return Law{Name: "seven", Text: "nothing is 7", Source: "this test", Check: func(c *Case) []Violation {
		if c.After.Readings[key] != "7" {
			return nil
		}
		return []Violation{{Touches: "it", Seen: "it is 7", Facts: c.After.facts(key)}}
	}}
}

// explorerOf explores a tree of files by actions that write one line each, from
// the first to the last and again.
func explorerOf(t *testing.T, key Key, lines ...string) (e *Explorer, told *[]Event) {
	root := t.TempDir()
	for path, text := range map[string]string{
		cpuDir + "present": "0-1\n", string(onlineKey): "0-1\n", cpuDir + "cpu1/online": "1\n", "proc/stat": "cpu 1\n", "cg/cpuset.cpus.isolated": "\n",
	} {
		write(t, root, path, text)
	}
	target := NewTarget(root, "/cg", "")
	t.Cleanup(target.Close)
	o, err := NewObserver(target, nil)
	require.NoError(t, err)
	t.Cleanup(o.Close)
	f := &Facts{CPUs: affinity.Of(0, 1), Pluggable: affinity.Of(1), Exists: func(string) bool { return false }}
	next := 0
	tables := Tables{Laws: []Law{brokenBy(key)}, Actions: []Action{{Name: "next", Draw: func(*Drawer) string {
		next++
		return lines[(next-1)%len(lines)]
	}}}}
	told = new([]Event)
	e = &Explorer{Runner: NewRunner(target, o, tables.Laws, f), Tables: tables, Length: len(lines), Most: 1}
	e.Report = func(event Event) { *told = append(*told, event) }
	return e, told
}

// findings returns the findings that were told of.
func findings(told []Event) (reduced, spoilers []*Finding) {
	for _, event := range told {
		if event.Finding != nil {
			reduced = append(reduced, event.Finding)
		}
		if event.Spoiler != nil {
			spoilers = append(spoilers, event.Spoiler)
		}
	}
	return reduced, spoilers
}

// A finding is reduced to the step that it takes, if the machine is as before
// when that is undone.
func TestReduce(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online, "taskset -p 1 $T1", "echo 0 > "+online, "echo 1 > "+online, "echo 7 > "+online, "echo 0 > "+online)
	require.NoError(t, e.Run(t.Context()))
	reduced, spoilers := findings(*told)
	require.Empty(t, spoilers)
	require.Len(t, reduced, 1)
	assert.Equal(t, []string{"echo 7 > " + online}, reduced[0].Steps)
	assert.Equal(t, "10 of 10", reduced[0].Rate())
	assert.Equal(t, 4, reduced[0].Original)
	assert.Equal(t, stayed, reduced[0].Violation.Lasted)
}

// A sequence after which the machine is not as before ends the run: nothing
// that shows later would prove anything. It is told of as it is.
func TestSpoiled(t *testing.T) {
	e, told := explorerOf(t, isolatedKey, "taskset -p 1 $T1", "echo 7 > "+string(isolatedKey))
	err := e.Run(t.Context())
	require.ErrorIs(t, err, ErrSpoiled)
	assert.ErrorContains(t, err, `$R/cpuset.cpus.isolated is "7" and was ""`)
	reduced, spoilers := findings(*told)
	assert.Empty(t, reduced)
	require.Len(t, spoilers, 1)
	assert.Equal(t, []string{"taskset -p 1 $T1", "echo 7 > $R/cpuset.cpus.isolated"}, spoilers[0].Steps)
	last := (*told)[len(*told)-1]
	require.NotNil(t, last.Stats)
	assert.Equal(t, 2, last.Stats.Steps)
}

// What is tried to reduce a finding may spoil the machine in a way of its own,
// which the sequence as it was did not. It is a finding like others, and has
// the steps that undid the sequence.
func TestSpoiledByAnother(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	five, six := "echo 5 > "+string(isolatedKey), "echo 6 > "+string(isolatedKey)
	e, told := explorerOf(t, online, six, five, "echo 7 > "+online)
	require.NoError(t, os.WriteFile(e.Runner.Target.Path(string(isolatedKey)), []byte("5\n"), 0o644))
	require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
	reduced, spoilers := findings(*told)
	require.Empty(t, reduced)
	require.Len(t, spoilers, 2)
	assert.Equal(t, "seven: it", spoilers[0].Violation.Key())
	assert.Equal(t, "undone: cpuset.cpus.isolated", spoilers[1].Violation.Key())
	assert.Equal(t, []string{six, "echo 7 > " + online, "echo 1 > " + online}, spoilers[1].Steps)
}

// A law that is broken while the machine is taken back does not keep it from
// that: the machine is as before, and the finding is reduced there.
func TestBrokenByUndo(t *testing.T) {
	const first, second = cpuDir + "cpu1/online", cpuDir + "cpu2/online"
	e, told := explorerOf(t, "none", "echo 0 > "+first, "echo 0 > "+second)
	write(t, e.Runner.Target.Root, cpuDir+"present", "0-2\n")
	write(t, e.Runner.Target.Root, string(onlineKey), "0-2\n")
	write(t, e.Runner.Target.Root, second, "1\n")
	var err error
	e.Runner.Observer, err = NewObserver(e.Runner.Target, nil)
	require.NoError(t, err)
	t.Cleanup(e.Runner.Observer.Close)
	e.Runner.Laws[0].Check = func(c *Case) []Violation {
		if c.Before.Readings[first] != "0" || c.After.Readings[first] != "1" {
			return nil
		}
		return []Violation{{Touches: "it", Seen: "it is back", Facts: c.After.facts(first)}}
	}
	require.NoError(t, e.Run(t.Context()))
	reduced, spoilers := findings(*told)
	assert.Empty(t, spoilers)
	require.Len(t, reduced, 1)
	assert.Equal(t, []string{"echo 0 > " + first, "echo 1 > " + first}, reduced[0].Steps)
	now, err := e.Runner.Observer.Look()
	require.NoError(t, err)
	assert.Equal(t, "1", now.Readings[second])
}

// A finding that is known does not hide what its sequence has left.
func TestKnownThatSpoils(t *testing.T) {
	e, told := explorerOf(t, isolatedKey, "echo 7 > "+string(isolatedKey))
	e.Known = []Known{{Key: "seven: it"}}
	require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
	_, spoilers := findings(*told)
	require.Len(t, spoilers, 1)
	assert.Equal(t, "undone: cpuset.cpus.isolated", spoilers[0].Violation.Key())
}

// A cgroup that cannot be removed is told of, though the law about what is left
// says nothing of one that is still there.
func TestNotRemoved(t *testing.T) {
	e, told := explorerOf(t, "$A/cpuset.cpus.effective", "mkdir $A", "echo 0 > "+cpuDir+"cpu1/online")
	e.Known = []Known{{Key: "seven: it"}}
	e.Runner.Begin = func(n int) {
		if n == 1 {
			write(t, e.Runner.Target.Root, "cg/a/cpuset.cpus.effective", "7\n")
		}
	}
	require.ErrorIs(t, e.Run(t.Context()), ErrSpoiled)
	_, spoilers := findings(*told)
	require.Len(t, spoilers, 1)
	assert.Equal(t, "undone: refused, cpuset.cpus.effective", spoilers[0].Violation.Key())
}

// What becomes of a finding that is known is not waited for.
func TestKnownIsNotWaitedFor(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online, "echo 7 > "+online)
	e.Known = []Known{{Key: "seven: it"}}
	ctx, cancel := context.WithCancel(t.Context())
	e.Report = func(event Event) {
		*told = append(*told, event)
		if event.Again != nil {
			cancel()
		}
	}
	require.NoError(t, e.Run(ctx))
	assert.Equal(t, 1, e.Runner.Stats.Sequences)
	assert.Less(t, e.Runner.Stats.Wait, settleTime/2)
}

// The number of findings that ends a run is that of those which are told of,
// not of the laws that they break.
func TestMost(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, online, "echo 7 > "+online)
	other := brokenBy(online)
	other.Name = "other"
	third := brokenBy(online)
	third.Name, third.Check = "third", func(c *Case) []Violation {
		if c.Step.Commands[0].Value != "8" {
			return nil
		}
		return []Violation{{Touches: "it", Seen: "it is 8"}}
	}
	e.Runner.Laws = append(e.Runner.Laws, other, third)
	value := 6
	e.Tables.Actions[0].Draw = func(*Drawer) string {
		value++
		return fmt.Sprintf("echo %d > %s", value, online)
	}
	e.Most = 2
	require.NoError(t, e.Run(t.Context()))
	reduced, _ := findings(*told)
	require.Len(t, reduced, 2)
	assert.Equal(t, []string{"other: it"}, reduced[0].Also)
	assert.Equal(t, "third: it", reduced[1].Violation.Key())
}

// What is tried again and again is told of as it is tried: if the machine dies
// of it, it is known what it died of.
func TestMomentIsTold(t *testing.T) {
	const online = cpuDir + "cpu1/online"
	e, told := explorerOf(t, "none")
	e.moment(t.Context(), lines(t, "echo 0 > "+online), &Finding{})
	require.NotEmpty(t, *told)
	assert.Len(t, (*told)[0].Begin.Lines, 1+2*repeats)
}

// Of sequences that are given, the first that breaks the law is the last that
// is tried.
func TestReplay(t *testing.T) {
	e, told := explorerOf(t, isolatedKey)
	all, err := ReadSequences("taskset -p 1 $T1\n\necho 7 > $R/cpuset.cpus.isolated\n\ntaskset -p 1 $T2\n")
	require.NoError(t, err)
	require.NoError(t, e.Replay(all, "seven: it"))
	var tried []string
	for _, event := range *told {
		if event.Tried != nil {
			tried = append(tried, strings.Join(event.Tried.Steps, ";"))
		}
	}
	assert.Equal(t, []string{"taskset -p 1 $T1", "echo 7 > $R/cpuset.cpus.isolated"}, tried)

	require.NoError(t, e.Replay(all[1:], "other: law"), "the file had it before")
	e, _ = explorerOf(t, isolatedKey)
	require.ErrorIs(t, e.Replay(all[1:], "other: law"), ErrSpoiled)
}

// What shows for a moment is tried with the operation alone, again and again.
func TestOperation(t *testing.T) {
	const cpu1 = cpuDir + "cpu1/online"
	offline, online := "echo 0 > "+cpu1, "echo 1 > "+cpu1
	race := "echo 0 > " + cpu1 + " & taskset -p 1 $T1 & wait"
	for _, test := range []struct {
		last      string
		operation []string
		repeated  []string // at first
	}{
		{offline, []string{offline}, []string{offline, online, offline}},
		{online, []string{offline, online}, []string{online, offline, online}},
		{race, []string{race}, []string{race, online, race}},
		{"mkdir $A", nil, []string{"mkdir $A"}},
	} {
		last := lines(t, test.last)
		assert.Equal(t, test.operation, texts(operation(last[0])), test.last)
		repeated := again(last)
		assert.Equal(t, test.repeated, texts(repeated[:min(3, len(repeated))]), test.last)
	}
	assert.Len(t, again(lines(t, "mkdir $A", offline)), 2+2*repeats)
	for at, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 62: 2} {
		assert.Equal(t, want, shortest(2, at), "of 2 steps, repeated, number %d", at)
	}
}

// What an rmdir leaves for a moment is no violation, as its work is done later.
// What another step leaves is.
func TestLags(t *testing.T) {
	r := &Runner{Laws: []Law{{Name: "late", Lags: true}, {Name: "prompt"}}}
	prompt, late := []Violation{{Law: "prompt"}}, []Violation{{Law: "late"}}
	assert.False(t, r.lags(lines(t, "mkdir $A")[0], prompt))
	assert.True(t, r.lags(lines(t, "mkdir $A")[0], late))
	assert.True(t, r.lags(lines(t, "rmdir $A")[0], prompt))
}
