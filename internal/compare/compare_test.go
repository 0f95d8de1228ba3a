package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// run makes the results of a run. Each line is "KERNEL TEST VERDICT [WHY]";
// "known=ID" as a verdict is a failure that is known, "skip,known=ID" that of go
// test, "cut" is none, and "KEY-ns=1 2 3" is an attribute.
func run(t *testing.T, lines ...string) *Run {
	t.Helper()
	r, err := Read(results(t, lines...))
	require.NoError(t, err)
	return r
}

func results(t *testing.T, lines ...string) (dir string) {
	t.Helper()
	var b bytes.Buffer
	for _, line := range lines {
		words := strings.SplitN(line, " ", 4)
		put := func(e testjson.Event) {
			e.Package, e.Test = "hotplugtest/"+words[0], words[1]
			require.NoError(t, testjson.Write(&b, e))
		}
		put(testjson.Event{Action: "run"})
		if len(words) > 3 && !strings.Contains(words[2], "-ns") {
			put(testjson.Event{Action: "output", Output: "    run.go:103: " + words[3] + "\n"})
		}
		id, skipped := strings.CutPrefix(words[2], "skip,known=")
		id, isKnown := strings.CutPrefix(id, "known=")
		key, value, isAttr := strings.Cut(strings.Join(words[2:], " "), "=")
		switch {
		case isKnown:
			put(testjson.Event{Action: "attr", Key: testjson.Known, Value: id})
			put(testjson.Event{Action: Fail})
		case skipped:
			put(testjson.Event{Action: "attr", Key: testjson.Known, Value: id})
			put(testjson.Event{Action: Skip})
		case isAttr:
			put(testjson.Event{Action: "attr", Key: key, Value: value})
			put(testjson.Event{Action: Pass})
		case words[2] != Cut:
			put(testjson.Event{Action: words[2]})
		}
	}
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, testjson.ResultsFile), b.Bytes(), 0o644))
	return dir
}

// changes are those of all groups, each in a line.
func (d *Diff) changes() (lines []string) {
	for _, g := range d.groups() {
		for _, c := range g.changes {
			lines = append(lines, g.head+": "+c.String())
		}
	}
	return lines
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new []string
		want     []string
		bad      bool
	}{
		{"the same", []string{"k TestA pass", "k TestB skip no SMT"}, []string{"k TestB skip no SMT", "k TestA pass"}, nil, false},
		{"a regression", []string{"k TestA pass"}, []string{"k TestA fail it is gone"}, []string{"Regressions: k TestA: fail, was pass: it is gone"}, true},
		{"one in a group", []string{"k TestA/b pass", "k TestA pass"}, []string{"k TestA/b fail", "k TestA fail"}, []string{"Regressions: k TestA/b: fail, was pass"}, true},
		{"a group's own", []string{"k TestA/b pass", "k TestA pass"}, []string{"k TestA/b pass", "k TestA fail left"}, []string{"Regressions: k TestA: fail, was pass: left"}, true},
		{"one that was skipped", []string{"k TestA skip no SMT"}, []string{"k TestA fail gone"}, []string{"Regressions: k TestA: fail, was skip: gone"}, true},
		{"one that was known", []string{"k TestA known=x"}, []string{"k TestA fail gone"}, []string{"Regressions: k TestA: fail, was known: gone"}, true},
		{"a new one", []string{"k TestB pass"}, []string{"k TestB pass", "k TestA fail gone"}, []string{"Regressions: k TestA: fail, was missing: gone"}, true},
		{"one that does not end", []string{"k TestA pass"}, []string{"k TestA cut"}, []string{"Regressions: k TestA: cut, was pass"}, true},
		{
			"the rest of a run that crashed", []string{"k TestA pass", "k TestB pass"}, []string{"k TestA cut"},
			[]string{"Regressions: k TestA: cut, was pass", "Missing: k TestB: missing, was pass"}, true,
		},
		{"missing", []string{"k TestA pass", "k TestB pass"}, []string{"k TestA pass"}, []string{"Missing: k TestB: missing, was pass"}, true},
		{"a kernel is missing", []string{"k TestA pass", "l TestA pass"}, []string{"k TestA pass"}, []string{"Missing: l TestA: missing, was pass"}, true},
		{"fixed", []string{"k TestA fail", "k TestB known=x"}, []string{"k TestA pass", "k TestB pass"}, []string{"Fixed: k TestA: pass, was fail", "Fixed: k TestB: pass, was known"}, false},
		{"still failing", []string{"k TestA fail"}, []string{"k TestA fail gone"}, []string{"Still failing: k TestA: fail, was fail: gone"}, false},
		{"known", []string{"k TestA pass"}, []string{"k TestA known=x gone"}, []string{"Known: k TestA: known, was pass: x: gone"}, false},
		{"known as another", []string{"k TestA known=y"}, []string{"k TestA known=x gone"}, []string{"Known: k TestA: known, was known: x: gone"}, false},
		{"known to go test", []string{"k TestA known=x"}, []string{"k TestA skip,known=x"}, nil, false},
		{"new to go test", []string{"k TestA skip,known=x"}, []string{"k TestA fail gone"}, []string{"Regressions: k TestA: fail, was known: gone"}, true},
		{"still known", []string{"k TestA known=x"}, []string{"k TestA known=x"}, nil, false},
		{"new", []string{"k TestB pass"}, []string{"k TestB pass", "k TestA pass"}, []string{"New tests: k TestA: pass, was missing"}, false},
		{"another reason", []string{"k TestA skip no SMT"}, []string{"k TestA skip no root"}, []string{"Skips: k TestA: skipped: no root, was: no SMT"}, false},
		{"another process", []string{"k TestA skip process 17"}, []string{"k TestA skip process 4711"}, nil, false},
		{"no longer skipped", []string{"k TestA skip no SMT"}, []string{"k TestA pass"}, []string{"Skips: k TestA: pass, was skip"}, false},
		{
			"a group that is skipped now", []string{"k TestA/b/c pass", "k TestA/b/d pass", "k TestA/b pass", "k TestA pass"}, []string{"k TestA/b skip no SMT", "k TestA pass"},
			[]string{"Skips: k TestA/b (3 tests): skip, was pass: no SMT"}, false,
		},
		{"states of other numbers", []string{"k TestR/7:sched:online pass"}, []string{"l TestR/8:sched:online fail gone"}, []string{"Regressions: l TestR/7:sched:online: fail, was pass: gone"}, true},
		{"two kernels", []string{"old TestA pass", "old/smt TestA pass"}, []string{"new/smt TestA fail gone", "new TestA pass"}, []string{"Regressions: new/smt TestA: fail, was pass: gone"}, true},
		{"a profile more", []string{"old TestA pass"}, []string{"new TestA pass", "new/smt TestA fail gone"}, []string{"Regressions: new/smt TestA: fail, was missing: gone"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Compare(run(t, tt.old...), run(t, tt.new...), Options{})
			assert.Equal(t, tt.want, d.changes())
			assert.Equal(t, tt.bad, d.Bad())
		})
	}
}

func TestOptions(t *testing.T) {
	before, after := run(t, "k TestA pass", "k TestB pass"), run(t, "k TestA fail")
	assert.Empty(t, Compare(before, after, Options{Partial: true}).Missing)
	d := Compare(before, after, Options{Tests: regexp.MustCompile("B")})
	assert.Equal(t, []string{"Missing: k TestB: missing, was pass"}, d.changes())
}

// One kernel of a run is compared with another of the same run.
func TestOneKernel(t *testing.T) {
	dir := results(t, "a TestA pass", "a/smt TestA pass", "ab TestA fail", "ab/smt TestA pass")
	before, err := Read(dir + "@a")
	require.NoError(t, err)
	after, err := Read(dir + "/results.json@ab")
	require.NoError(t, err)
	assert.Equal(t, []string{"Regressions: ab TestA: fail, was pass"}, Compare(before, after, Options{}).changes())
	_, err = Read(dir + "@b")
	assert.EqualError(t, err, dir+`/results.json has no kernel "b", only a, a/smt, ab, ab/smt`)
}

// Jenkins calls the second workspace of a job job@2.
func TestSplit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "job@2")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, want := range map[string][2]string{
		dir: {dir, ""}, dir + "@sid/smt": {dir, "sid/smt"}, "/nonexistent": {"/nonexistent", ""}, "/nonexistent@sid": {"/nonexistent", "sid"},
	} {
		path, kernel := Split(name)
		assert.Equal(t, want, [2]string{path, kernel}, name)
	}
}

func TestKeep(t *testing.T) {
	before, after := run(t, "a TestA pass", "b TestA pass"), run(t, "a TestA pass")
	before.Keep([]string{"c"})
	assert.Len(t, Compare(before, after, Options{}).Missing, 1, "it has no such kernel, and is left as it is")
	before.Keep([]string{"a", "c"})
	assert.Empty(t, Compare(before, after, Options{}).Missing)
}

// What is no result of a run is refused in a line.
func TestReadError(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, testjson.ResultsFile)
	for _, tt := range []struct{ name, text, err string }{
		{"empty", "", file + " has no test in it"},
		{"no test", `{"Action":"start","Package":"p"}` + "\n", file + " has no test in it"},
		{"cut short", `{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pa`, file + `: line 2: "{\"Action\":\"pa" is no test event: unexpected end of JSON input`},
		{"no JSON", "<testsuites>\n", file + `: line 1: "<testsuites>\n" is no test event: invalid character '<' looking for beginning of value`},
		{"a bad sample", `{"Action":"attr","Package":"p","Test":"TestA","Key":"window-ns","Value":"1 x"}`, file + `: line 1: attribute window-ns of TestA: samples: "x" is not NANOSECONDS or NANOSECONDS*COUNT`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, []byte(tt.text), 0o644))
			_, err := Read(dir)
			assert.EqualError(t, err, tt.err)
		})
	}
	_, err := Read("/nonexistent")
	assert.EqualError(t, err, "open /nonexistent: no such file or directory")
	none := t.TempDir()
	_, err = Read(none + "@sid")
	assert.EqualError(t, err, none+" has no results.json: it is no directory of a run, or the run wrote none")
}

// durationsNear are n durations about some milliseconds.
func durationsNear(ms float64, n int) string {
	var words []string
	for i := range n {
		words = append(words, fmt.Sprint(int(ms*1e6)+i*1000))
	}
	return strings.Join(words, " ")
}

// A time changed if that is no chance. Tests that share an operation have its
// duration each, and it counts once.
func TestTimes(t *testing.T) {
	const op = "k TestA/at-return/%s time-to-return-ns=%s"
	line := func(test string, ms float64, n int) string { return fmt.Sprintf(op, test, durationsNear(ms, n)) }
	for _, tt := range []struct {
		name        string
		old, new    []string
		significant bool
		count       int
	}{
		{"slower", []string{line("x", 10, 20)}, []string{line("x", 20, 20)}, true, 20},
		{"the same", []string{line("x", 10, 20)}, []string{line("x", 10, 20)}, false, 20},
		{"by chance", []string{line("x", 10, 2)}, []string{line("x", 20, 2)}, false, 2},
		{"by chance, in ten tests", repeat(line("%d", 10, 2), 10), repeat(line("%d", 20, 2), 10), false, 2},
		{"in ten tests", []string{line("x", 10, 10), line("y", 11, 10)}, []string{line("x", 20, 10), line("y", 21, 10)}, true, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Compare(run(t, tt.old...), run(t, tt.new...), Options{})
			require.Len(t, d.Times, 1)
			got := d.Times[0]
			assert.Equal(t, "TestA", got.Test)
			assert.Equal(t, tt.significant, got.Significant, "p = %v", got.P)
			assert.Equal(t, tt.count, got.OldCount)
			assert.Equal(t, tt.significant, got.Delta != "~", got.Delta)
		})
	}
}

func repeat(format string, n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf(format, i))
	}
	return lines
}

// A promise that is broken in one of the runs shows, however often that was,
// if the other run has looked.
func TestBrokenPromise(t *testing.T) {
	broken := run(t, "k TestA/at-return/x window-ns=5000000")
	d := Compare(run(t, "k TestA/at-return/x time-to-return-ns=1000000"), broken, Options{})
	assert.Contains(t, d.text(false), "k       TestA       promise broken  none        5.000                  0, 1\n")
	assert.False(t, d.Bad(), "the verdict tells, which this kernel passed")
	other := run(t, "k TestB pass", "l TestA pass")
	assert.Empty(t, Compare(broken, other, Options{Partial: true}).Times, "a part of it")
	assert.Empty(t, Compare(other, broken, Options{}).Times)
}

func TestWrite(t *testing.T) {
	var before, after []string
	for i := range 30 {
		before, after = append(before, fmt.Sprintf("k TestF/%d fail", i)), append(after, fmt.Sprintf("k TestF/%d pass", i))
	}
	d := Compare(run(t, append(before, "k TestA pass")...), run(t, append(after, "k TestA fail <it> is a|b")...), Options{})
	d.Old, d.New = "old", "new"
	var b strings.Builder
	require.NoError(t, d.Write(&b, "text", false))
	assert.True(t, strings.HasPrefix(b.String(), "old: old\nnew: new\n\n=== Regressions\nk TestA: fail, was pass: <it> is a|b\n\n=== Fixed\nk TestF/0: pass, was fail\n"), b.String())
	assert.True(t, strings.HasSuffix(b.String(), "k TestF/19: pass, was fail\n… and 10 more\n\n1 regressions, 0 missing, 30 fixed, 0 the same\n"), b.String())
	b.Reset()
	require.NoError(t, d.Write(&b, "text", true))
	assert.Contains(t, b.String(), "k TestF/29: pass, was fail\n")
	b.Reset()
	require.NoError(t, d.Write(&b, "markdown", false))
	assert.Contains(t, b.String(), "### Regressions\n\n| kernel | test | old | new | why |\n|---|---|---|---|---|\n| k | `TestA` | pass | fail | &lt;it> is a\\|b |\n")
	b.Reset()
	require.NoError(t, d.Write(&b, "json", false))
	var got struct {
		Bad         bool
		Regressions []Change
		Fixed       []Change
	}
	require.NoError(t, json.Unmarshal([]byte(b.String()), &got))
	assert.True(t, got.Bad)
	assert.Equal(t, d.Regressions, got.Regressions)
	assert.Len(t, got.Fixed, 30)
	assert.EqualError(t, d.Write(&b, "html", false), `there is no format "html", only text, markdown, json`)
}
