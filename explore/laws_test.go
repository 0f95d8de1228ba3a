package explore

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// lawCase is a case of testdata/laws.txt.
type lawCase struct {
	name, step, result string
	// readings that differ, as in a snapshot's text; those of base are in all of them
	base, earlier, before, after []string
	gone                         []string // keys that have no reading any more
	broken                       []string
}

func readCases(t *testing.T, file string) []*lawCase {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var all []*lawCase
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		name, isCase := strings.CutPrefix(line, "== ")
		if isCase {
			all = append(all, &lawCase{name: name})
		}
		if isCase || line == "" || line[0] == '#' {
			continue
		}
		c := all[len(all)-1]
		word, rest, ok := strings.Cut(line, " ")
		require.True(t, ok, line)
		switch word {
		case "step:":
			c.step = rest
		case "result:":
			c.result = rest
		case "broken:":
			c.broken = append(c.broken, rest)
		case "base":
			c.base = append(c.base, rest)
		case "gone":
			c.gone = append(c.gone, rest)
		case "earlier":
			c.earlier = append(c.earlier, rest)
		case "before":
			c.before = append(c.before, rest)
		case "after":
			c.after = append(c.after, rest)
		default:
			t.Fatalf("%q: what is %q?", line, word)
		}
	}
	return all
}

// snapshot is the healthy one with other readings.
func snapshot(t *testing.T, changes ...[]string) *Snapshot {
	return snapshotOf(t, "testdata/healthy.txt", changes...)
}

func snapshotOf(t *testing.T, file string, changes ...[]string) *Snapshot {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	s, err := ReadSnapshot(strings.NewReader(string(text) + strings.Join(slices.Concat(changes...), "\n")))
	require.NoError(t, err)
	return s
}

// Each case breaks the laws that it says and no other. Before the first step
// there was no cpuset.
func TestLaws(t *testing.T) {
	judged := make(map[string]bool)
	all := []string{"/proc/schedstat#cpu0: 0f", "/proc/schedstat#cpu1: 0f", "/proc/schedstat#cpu2: 0f", "/proc/schedstat#cpu3: 0f"}
	testCases(t, judged, "testdata/laws.txt", "testdata/healthy.txt", append(all, "$R/cpuset.cpus.isolated: ", "$R/cpuset.cpus.effective: 0-3"))
	testCases(t, judged, "testdata/laws_v1.txt", "testdata/healthy_v1.txt", append(all, string(balanceKey)+": 1"))
	for _, law := range laws {
		assert.True(t, judged[law.Name] || law.Name == "undone" || law.Name == roadLaw.Name, "no case breaks the law %s", law.Name)
	}
}

// testCases judges the cases of a file, and notes the laws that are broken.
func testCases(t *testing.T, judged map[string]bool, file, healthy string, base []string) {
	for _, c := range readCases(t, file) {
		t.Run(filepath.Base(file)+"/"+c.name, func(t *testing.T) {
			step, err := ParseLine(c.step)
			require.NoError(t, err)
			cs := &Case{
				Base: snapshotOf(t, healthy, base, c.base), Before: snapshotOf(t, healthy, c.base, c.before),
				After: snapshotOf(t, healthy, c.base, c.before, c.after), Step: step, Result: Result{Errs: make([]unix.Errno, len(step.Commands))},
			}
			for _, key := range c.gone {
				delete(cs.After.Readings, Key(key))
			}
			if c.result != "" {
				cs.Result.Errs[0] = errnoOf(t, c.result)
			}
			if c.earlier != nil {
				cs.Earlier = []*Snapshot{snapshotOf(t, healthy, c.earlier)}
			}
			var broken []string
			for _, v := range Judge(laws, Version{7, 2}, cs) {
				broken = append(broken, v.Key())
				judged[v.Law] = true
				assert.NotEmpty(t, v.Seen)
				if v.Law != ueventLaw.Name { // no shell reads those
					assert.NotEmpty(t, v.Facts, v.Key())
				}
			}
			assert.ElementsMatch(t, c.broken, broken)
		})
	}
}

func errnoOf(t *testing.T, name string) unix.Errno {
	for _, e := range []unix.Errno{unix.EINVAL, unix.EIO, unix.EAGAIN, unix.ERANGE, unix.EBUSY} {
		if unix.ErrnoName(e) == name {
			return e
		}
	}
	t.Fatalf("no errno %q", name)
	return 0
}

// Tests of laws may run at the same time.
func TestJudgeInParallel(t *testing.T) {
	var group sync.WaitGroup
	for n := range 4 {
		c := &Case{Base: snapshot(t), Before: snapshot(t), After: snapshot(t), Result: Result{Errs: []unix.Errno{0}}}
		group.Go(func() {
			for i := range 1000 {
				c.After.Readings[onlineKey] = fmt.Sprintf("0-3,%d", 4+(n+4*i)%2000)
				c.After.Log = []kmsg.Record{{Text: fmt.Sprint("text ", n, i)}}
				Judge(laws, Version{7, 2}, c)
			}
		})
	}
	group.Wait()
}

// When no cpuset is left, all must be as at the start.
func TestUndone(t *testing.T) {
	none := func(isolated string) *Snapshot {
		s := snapshot(t)
		for key := range s.Readings {
			if strings.HasPrefix(string(key), "$A") || strings.HasPrefix(string(key), "$B") {
				delete(s.Readings, key)
			}
		}
		s.Groups = nil
		s.Readings[isolatedKey] = isolated
		return s
	}
	c := &Case{Base: none(""), Before: snapshot(t), After: none("")}
	assert.Empty(t, checkUndone(c))
	c.After = none("3")
	broken := checkUndone(c)
	require.Len(t, broken, 1)
	assert.Equal(t, "cpuset.cpus.isolated", broken[0].Touches)
	c.After.Groups = []string{"$A"}
	assert.Empty(t, checkUndone(c))
}

// Laws are promised since a version, and have what a report needs.
func TestLawRows(t *testing.T) {
	c := &Case{Before: snapshot(t), After: snapshot(t, []string{"$R/cpuset.cpus.isolated: 2"}), Result: Result{Errs: []unix.Errno{0}}}
	c.Base = snapshot(t, []string{"$R/cpuset.cpus.isolated: "})
	assert.NotEmpty(t, Judge(laws, Version{6, 12}, c))
	assert.Empty(t, Judge(laws, Version{6, 1}, c))
	seen := make(map[string]bool)
	for _, law := range append(slices.Clone(laws), Survives) {
		assert.NotEmpty(t, law.Text, law.Name)
		assert.NotEmpty(t, law.Source, law.Name)
		assert.False(t, seen[law.Name], law.Name)
		seen[law.Name] = true
	}
}

// A snapshot is the same after it was written and read.
func TestSnapshotText(t *testing.T) {
	s := snapshot(t, []string{"log: 4 WARNING: one", "uevent: offline 2", "stuck: $T1"})
	for _, s := range []*Snapshot{s, snapshot(t, []string{"uevent: none"})} {
		var b strings.Builder
		_, err := s.WriteTo(&b)
		require.NoError(t, err)
		again, err := ReadSnapshot(strings.NewReader(b.String()))
		require.NoError(t, err)
		assert.Equal(t, s, again)
	}
	for text, why := range map[string]string{"no colon": "line 1", "log: x": "want log: LEVEL TEXT", "uevent: 2": "want uevent: ACTION CPU"} {
		_, err := ReadSnapshot(strings.NewReader(text))
		assert.ErrorContains(t, err, why)
	}
	assert.True(t, s.Group("$A").CPUs().Equal(affinity.Of(1, 2)))
	assert.Equal(t, "$R", s.Group("$A").Parent().Name)
}
