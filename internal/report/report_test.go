package report

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// results makes the directory of a run. Each line is "KERNEL TEST VERDICT
// [TEXT]". "known=ID" is the verdict of a known failure, "skip,known=ID" go
// test's, "cut" none, "KEY:" an attribute, and "-" for a test is the whole run.
func results(t testing.TB, dir string, lines ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, line := range lines {
		words := append(strings.SplitN(line, " ", 4), "")
		put := func(e testjson.Event) {
			e.Package = "hotplugtest/" + words[0]
			if words[1] != "-" {
				e.Test = words[1]
			}
			require.NoError(t, testjson.Write(&b, e))
		}
		key, isAttr := strings.CutSuffix(words[2], ":")
		id, skipped := strings.CutPrefix(words[2], "skip,known=")
		id, isKnown := strings.CutPrefix(id, "known=")
		if isAttr {
			put(testjson.Event{Action: "attr", Key: key, Value: words[3]})
			continue
		}
		put(testjson.Event{Action: "output", Output: "=== RUN   " + words[1] + "\n"})
		if words[3] != "" {
			put(testjson.Event{Action: "output", Output: "    trial.go:200: " + words[3] + "\n"})
		}
		switch {
		case isKnown:
			put(testjson.Event{Action: "attr", Key: testjson.Known, Value: id})
			put(testjson.Event{Action: "fail"})
		case skipped:
			put(testjson.Event{Action: "attr", Key: testjson.Known, Value: id})
			put(testjson.Event{Action: "skip"})
		case words[2] != "cut":
			put(testjson.Event{Action: words[2], Elapsed: 61.4})
		}
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, testjson.ResultsFile), b.Bytes(), 0o644))
	return dir
}

// sample is a run with one of everything.
func sample(t testing.TB, dir string) string {
	results(t, dir,
		"bookworm - kernel-source: Debian bookworm linux-image-6.1.0-50-amd64 6.1.176-1",
		"bookworm - kernel-sha256: 4711",
		"bookworm - console: bookworm/default/console.log",
		"bookworm TestOnline/at-uevent/affinity/root-cpuset kernel: 6.1.0-50-amd64",
		"bookworm TestOnline/at-uevent/affinity/root-cpuset time-to-return-ns: 41000000 52000000",
		"bookworm TestOnline/at-uevent/affinity/root-cpuset time-to-uevent-ns: 4000000 5000000",
		"bookworm TestOnline/at-uevent/affinity/root-cpuset cycle: uevent 4ms, look 5ms, return 41ms",
		"bookworm TestOnline/at-uevent/affinity/root-cpuset pass",
		"bookworm TestOnline/at-uevent/affinity/child-cpuset window-ns: 5200000 25690000",
		"bookworm TestOnline/at-uevent/affinity/child-cpuset probes: 2",
		"bookworm TestOnline/at-uevent/affinity/child-cpuset cycle: uevent 4ms, look 5ms, kept 29.69ms, return 41ms",
		"bookworm TestOnline/at-uevent/affinity/child-cpuset fail cpu0, at the uevent of Online: <affinity> & more",
		"bookworm TestOnline/at-uevent/affinity fail",
		"bookworm TestOnline/at-uevent fail",
		"bookworm TestOnline fail",
		"bookworm TestRollback/at-return/7:sched:online pass",
		"bookworm TestSMT skip no SMT to turn off",
		"bookworm - fail",
		"sid/isolcpus - no-longer: gone-defect",
		"sid/isolcpus - known-defect: busy: it is busy (https://bugs.example.org/4711)",
		"sid/isolcpus TestOnline/at-uevent/affinity/root-cpuset pass",
		"sid/isolcpus TestOnline/at-uevent/affinity/child-cpuset known=busy EBUSY",
		"sid/isolcpus TestRollback/at-return/9:sched:online pass",
		"sid/isolcpus TestRollback/at-return/12:sched:online cut",
	)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bookworm", "default"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bookworm", "default", "console.log"), nil, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ReproDir), 0o755))
	script := filepath.Join(dir, ReproDir, "bookworm-TestOnline-at-uevent-affinity-child-cpuset.sh")
	require.NoError(t, os.WriteFile(script, nil, 0o755))
	return dir
}

// sampleGrid is the grid of the sample: what folds, and below it the promises,
// each with its cells.
var sampleGrid = []string{
	"TestOnline/at-uevent | f ✗ 1 of 2 | k ◐ 1 of 2",
	"affinity/child-cpuset | f ✗ 25.7 | k ◐",
	"1 more, not broken",
	"affinity/root-cpuset | p · | p ·",
	"TestRollback/at-return | p · 1 | c ✂ 1 of 2",
	"sched:online (2) | m  | c ✂",
	"1 more, not broken",
	"sched:online | p · | p ·",
	"TestSMT | s – 1 | m ",
	"as a whole | s – | m ",
}

func html(t testing.TB, dirs ...string) string {
	t.Helper()
	r, err := Read(dirs)
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.HTML(&b, dirs[0]))
	return b.String()
}

// element is a part of a page.
type element struct {
	name, id, class, href string
	text                  string // also of those inside
	inside                []*element
}

// parse reads a page as far as its elements are closed, as these are.
func parse(t testing.TB, page string) *element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	open := []*element{{}}
	for {
		token, err := d.Token()
		if err == io.EOF {
			require.Len(t, open, 1, "an element is not closed")
			return open[0]
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local}
			for _, a := range token.Attr {
				switch a.Name.Local {
				case "id":
					e.id = a.Value
				case "class":
					e.class = a.Value
				case "href":
					e.href = a.Value
				}
			}
			last := open[len(open)-1]
			last.inside = append(last.inside, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
}

// all returns the elements inside for which is returns true, in their order.
func (e *element) all(is func(e *element) bool) (list []*element) {
	for _, inside := range e.inside {
		if is(inside) {
			list = append(list, inside)
		}
		list = append(list, inside.all(is)...)
	}
	return list
}

// gridOf returns the grid of a page, as sampleGrid is.
func gridOf(page *element) (lines []string) {
	grid := page.all(func(e *element) bool { return e.class == "grid" })[0]
	rows := grid.all(func(e *element) bool { return e.name == "summary" || e.name == "tr" })
	for _, row := range rows {
		cells := row.inside
		if row.name == "summary" {
			cells = row.inside[0].inside
		}
		line := cells[0].text
		for _, c := range cells[1:] {
			line += " | " + c.class + " " + c.text
		}
		lines = append(lines, line)
	}
	return lines
}

func TestGrid(t *testing.T) {
	page := parse(t, html(t, sample(t, t.TempDir())))
	assert.Equal(t, sampleGrid, gridOf(page))
}

// Each link of the page leads somewhere, and nothing outside of it is needed to
// show it.
func TestLinks(t *testing.T) {
	dir := sample(t, t.TempDir())
	text := html(t, dir)
	assert.NotRegexp(t, `(?i)\bsrc=|<link|@import|url\(|<iframe|<object`, text)
	page := parse(t, text)
	ids := make(map[string]bool)
	for _, e := range page.all(func(e *element) bool { return e.id != "" }) {
		assert.False(t, ids[e.id], "id %s is there twice", e.id)
		ids[e.id] = true
	}
	n := make(map[string]int)
	for _, e := range page.all(func(e *element) bool { return e.name == "a" }) {
		switch {
		case strings.HasPrefix(e.href, "#"):
			assert.True(t, ids[e.href[1:]], "%s leads nowhere", e.href)
			n["here"]++
		case strings.HasPrefix(e.href, "https:"):
			assert.Equal(t, "https://bugs.example.org/4711", e.href)
			n["defect"]++
		default:
			assert.FileExists(t, filepath.Join(dir, e.href))
			n[filepath.Base(e.href)]++
		}
	}
	assert.Equal(t, 1, n["defect"])
	assert.Equal(t, 2, n["console.log"], "of the kernel, and of the failure")
	assert.Equal(t, 1, n["bookworm-TestOnline-at-uevent-affinity-child-cpuset.sh"])
	assert.Contains(t, text, "cpu0, at the uevent of Online: &lt;affinity&gt; &amp; more")
}

func TestPage(t *testing.T) {
	text := html(t, sample(t, t.TempDir()))
	for _, want := range []string{
		`<h1>Linux bookworm, sid</h1>`,
		`<p class="verdict bad" id="verdict">4 passed, 1 skipped, 1 known, 1 failed, 1 cut</p>`,
		`<td>2 passed, 1 skipped, 1 failed</td><td>1m1s</td>`,
		`Debian bookworm linux-image-6.1.0-50-amd64 6.1.176-1<br>6.1.0-50-amd64`,
		`sha256 4711`,
		`median 15.4, longest 25.7 ms; 2 of 2 probes`,
		`write 46.5, 41.0 to 52.0 ms; uevent 4.50 ms`,
		`broken, kept 25.7 ms later`,
		`<th scope="row">busy</th><td>it is busy <a href="https://bugs.example.org/4711">report</a></td><td>sid/isolcpus (1 test)</td><td></td>`,
		`<th scope="row">gone-defect</th><td></td><td></td><td>sid/isolcpus</td>`,
		`<th scope="row">no SMT to turn off</th><td>1</td><td>bookworm</td>`,
	} {
		assert.Contains(t, text, want)
	}
	assert.Equal(t, 2, strings.Count(text, `<circle class="dot f"`), "a dot for each broken window")
}

// A page of good runs says so, and has no section without content.
func TestGoodPage(t *testing.T) {
	text := html(t, results(t, t.TempDir(), "sid TestOnline/at-uevent/uevent pass"))
	assert.Contains(t, text, `<p class="verdict good" id="verdict">1 passed, 0 skipped, 0 failed</p>`)
	var heads []string
	for _, e := range parse(t, text).all(func(e *element) bool { return e.name == "h2" }) {
		heads = append(heads, e.text)
	}
	assert.Equal(t, []string{"Kernels", "Promises"}, heads)
}

// The directory tells runs of the same kernel apart.
func TestSeveralRuns(t *testing.T) {
	base := t.TempDir()
	var dirs []string
	for _, name := range []string{"a", "b", "c/b"} {
		dirs = append(dirs, results(t, filepath.Join(base, name), "sid TestA pass"))
	}
	r, err := Read(dirs)
	require.NoError(t, err)
	var names []string
	for _, c := range r.columns {
		names = append(names, c.Name)
	}
	assert.Equal(t, []string{"sid", "sid (b)", "sid (b, 2)"}, names)
}

func TestMarkdown(t *testing.T) {
	r, err := Read([]string{sample(t, t.TempDir())})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	assert.Equal(t, `## Linux bookworm, sid

**4 passed, 1 skipped, 1 known, 1 failed, 1 cut**

| kernel | Linux | passed | skipped | known | failed | longest window |
|---|---|---|---|---|---|---|
| bookworm | 6.1.0-50-amd64 | 2 | 1 | 0 | 1 | 25.7 ms |
| sid/isolcpus |  | 2 | 0 | 1 | 1 |  |

### Failures

| kernel | test | why |
|---|---|---|
| bookworm | `+"`TestOnline/at-uevent/affinity/child-cpuset`"+` | cpu0, at the uevent of Online: &lt;affinity> & more (25.7 ms) |
| sid/isolcpus | `+"`TestRollback/at-return/12:sched:online`"+` | it began, and did not end |

### Known defects

| id | what it is | seen on | did not show on |
|---|---|---|---|
| busy | it is busy ([report](https://bugs.example.org/4711)) | sid/isolcpus (1 test) |  |
| gone-defect |  |  | sid/isolcpus |
`, b.String())
}

// A kernel that was changed is not the one of its package: it must not be
// reported as that.
func TestChanged(t *testing.T) {
	dir := results(t, t.TempDir(), "sid - kernel-changed: -poke f=ret", "sid TestA kernel: 7.2", "sid TestA pass")
	r, err := Read([]string{dir})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	assert.Contains(t, b.String(), "| sid | 7.2 changed by -poke f=ret | 1 |")
	assert.Contains(t, parse(t, html(t, dir)).text, "changed by -poke f=ret")
	assert.NotContains(t, html(t, sample(t, t.TempDir())), "changed by")
}

// go test skips what fails by a known defect, and says there what that is.
func TestKnownToGoTest(t *testing.T) {
	r, err := Read([]string{results(t, t.TempDir(), "6.12.1 TestA skip,known=busy known: busy: it is busy", "6.12.1 TestB pass")})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	assert.Contains(t, b.String(), "**1 passed, 0 skipped, 1 known, 0 failed**")
	assert.Contains(t, b.String(), "| busy | it is busy | 6.12.1 (1 test) |  |")
}

// A CI system's summary gets what is written beside the results, after what is
// there.
func TestWrite(t *testing.T) {
	dir := results(t, t.TempDir(), "sid TestA pass")
	step := filepath.Join(t.TempDir(), "step.md")
	t.Setenv(StepSummary, step)
	require.NoError(t, Write(dir))
	require.NoError(t, Write(dir))
	summary, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	require.NoError(t, err)
	appended, err := os.ReadFile(step)
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat(string(summary), 2), string(appended))
	assert.FileExists(t, filepath.Join(dir, PageFile))

	t.Setenv(StepSummary, "/nonexistent/step.md")
	assert.EqualError(t, Write(dir), "GITHUB_STEP_SUMMARY: open /nonexistent/step.md: no such file or directory")
	require.NoError(t, os.WriteFile(filepath.Join(dir, testjson.ResultsFile), nil, 0o644))
	assert.ErrorIs(t, Write(dir), ErrNoTest)
}

// What is no result of a run is refused in a line.
func TestReadError(t *testing.T) {
	dir := t.TempDir()
	_, err := Read([]string{dir})
	assert.EqualError(t, err, dir+" has no results.json: it is no directory of a run, or the run wrote none")
	_, err = Read([]string{"/nonexistent"})
	assert.EqualError(t, err, "open /nonexistent: no such file or directory")
	file := filepath.Join(dir, testjson.ResultsFile)
	for _, tt := range []struct{ name, text, err string }{
		{"empty", "", "report: the run has no test in its results: " + dir},
		{"no JSON", "<testsuites>\n", file + `: line 1: "<testsuites>\n" is no test event: invalid character '<' looking for beginning of value`},
		{"cut short", `{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pa`, file + `: line 2: "{\"Action\":\"pa" is no test event: unexpected end of JSON input`},
		{"a bad sample", `{"Action":"attr","Package":"p","Test":"TestA","Key":"window-ns","Value":"1 x"}`, file + `: line 1: attribute window-ns of TestA: samples: "x" is not NANOSECONDS or NANOSECONDS*COUNT`},
		{"a bad cycle", `{"Action":"attr","Package":"p","Test":"TestA","Key":"cycle","Value":"kept soon"}`, file + `: line 1: attribute cycle of TestA: timeline: "kept soon" is not NAME DURATION`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, []byte(tt.text), 0o644))
			_, err := Read([]string{dir})
			assert.EqualError(t, err, tt.err)
		})
	}
}
