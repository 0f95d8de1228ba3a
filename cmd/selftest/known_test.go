package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// events makes the events of a package of lines: "TestA run", "TestA pass",
// "TestA kernel 6.12" for an attribute, "TestA: text" for output, and the same
// without a test for the package.
func events(t *testing.T, lines ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, line := range lines {
		e := testjson.Event{Package: "p"}
		if test, text, ok := strings.Cut(line, ": "); ok {
			for output := range strings.Lines(text + "\n") {
				e.Action, e.Test, e.Output = "output", test, output
				require.NoError(t, testjson.Write(&b, e))
			}
			continue
		}
		words := strings.Fields(line)
		if strings.HasPrefix(words[0], "Test") {
			e.Test, words = words[0], words[1:]
		}
		if e.Action = words[0]; len(words) > 1 {
			e.Action, e.Key, e.Value = "attr", words[0], words[1]
		}
		require.NoError(t, testjson.Write(&b, e))
	}
	return b.String()
}

// text is the reverse of events, with the output left out.
func text(t *testing.T, stream string) (lines []string) {
	t.Helper()
	for e, err := range testjson.Read(strings.NewReader(stream)) {
		require.NoError(t, err)
		switch e.Action {
		case "output", "run":
		case "attr":
			lines = append(lines, strings.TrimSpace(e.Test+" "+e.Key+" "+e.Value))
		default:
			lines = append(lines, strings.TrimSpace(e.Test+" "+e.Action))
		}
	}
	return lines
}

const knownList = `{"known": [
	{"id": "busy", "test": "TestA/b", "kernels": [{"from": "6.12"}], "symptom": "EBUSY", "why": "it is busy", "review": "2999-01-01"},
	{"id": "crash", "test": "TestA/c(/d)?", "kernels": [{"from": "6.12"}], "crash": true, "symptom": "mine\\+0x1", "why": "it crashes", "review": "2999-01-01"},
	{"id": "leak", "test": "TestMain", "kernels": [{"from": "6.12"}], "symptom": "leaked descriptor 7", "why": "it leaks", "review": "2999-01-01"}
]}`

// What a VM says is the same for gotestsum and in the results, except that a
// known failure is a skip for gotestsum.
func TestKnownReports(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(knownList), 0o644))
	const busy, lost, died = "TestA/b:     a.go:1: EBUSY", "TestA/b:     a.go:2: lost", "TestA/c: \nvm: the kernel panicked (Linux 6.12.1)\nvm: | BUG: x\nvm: | mine+0x1\n"
	for _, tt := range []struct {
		name               string
		in                 []string
		gotestsum, results string
		onlyKnown          bool
	}{
		{
			name:      "known",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/b fail", "TestA fail", "fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, TestA/b skip, TestA known busy, TestA original-result fail, TestA skip, pass",
			results:   "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail, TestA known busy, TestA original-result fail, TestA fail, fail",
			onlyKnown: true,
		},
		{
			name:      "new",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", busy, lost, "TestA/b fail", "TestA fail", "fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b fail, TestA fail, fail",
		},
		{
			name:      "another below the same test is new",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/b fail", "TestA/d run", "TestA/d fail", "TestA fail", "fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, TestA/b skip, TestA/d fail, TestA fail, fail",
			results:   "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail, TestA/d fail, TestA fail, fail",
		},
		{
			name:      "the test above it has something to say",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/b fail", "TestA:     a.go:3: left", "TestA fail", "fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, TestA/b skip, TestA fail, fail",
			results:   "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail, TestA fail, fail",
		},
		{
			name:      "and the machine was left changed",
			in:        []string{"TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/b fail", ": FAIL: the machine is not as it was found", "fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, TestA/b skip, TestMain fail, fail",
			results:   "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail, TestMain fail, fail",
		},
		{
			name:      "the whole is known",
			in:        []string{"TestA run", "TestA kernel 6.12.1", "TestA pass", ": FAIL: leaked descriptor 7", "fail"},
			gotestsum: "TestA kernel 6.12.1, TestA pass, TestMain known leak, TestMain original-result fail, TestMain skip, pass",
			results:   "TestA kernel 6.12.1, TestA pass, TestMain known leak, TestMain original-result fail, known-defect leak: it leaks, TestMain fail, fail",
			onlyKnown: true,
		},
		{
			name:      "a known crash",
			in:        []string{"TestA run", "TestA/c run", died, "TestA/c fail"},
			gotestsum: "TestA/c known crash, TestA/c original-result fail, TestA/c skip, TestA known crash, TestA original-result fail, TestA skip, pass",
			results:   "TestA/c known crash, TestA/c original-result fail, known-defect crash: it crashes, TestA/c fail, TestA known crash, TestA original-result fail, TestA fail, fail",
			onlyKnown: true,
		},
		{
			name:      "a known crash after a new failure",
			in:        []string{"TestA run", "TestA/d run", "TestA/d fail", "TestA/c run", died, "TestA/c fail"},
			gotestsum: "TestA/d fail, TestA/c known crash, TestA/c original-result fail, TestA/c skip, TestA fail, fail",
			results:   "TestA/d fail, TestA/c known crash, TestA/c original-result fail, known-defect crash: it crashes, TestA/c fail, TestA fail, fail",
		},
		{
			name:      "a known crash, and the test above it had something to say",
			in:        []string{"TestA run", "TestA:     a.go:3: left", "TestA/c run", died, "TestA/c fail"},
			gotestsum: "TestA/c known crash, TestA/c original-result fail, TestA/c skip, TestA fail, fail",
			results:   "TestA/c known crash, TestA/c original-result fail, known-defect crash: it crashes, TestA/c fail, TestA fail, fail",
		},
		{
			name:      "a known crash, and one test between had something to say",
			in:        []string{"TestA run", "TestA/c run", "TestA/c:     a.go:3: left", "TestA/c/d run", strings.Replace(died, "TestA/c", "TestA/c/d", 1), "TestA/c/d fail"},
			gotestsum: "TestA/c/d known crash, TestA/c/d original-result fail, TestA/c/d skip, TestA/c fail, TestA fail, fail",
			results:   "TestA/c/d known crash, TestA/c/d original-result fail, known-defect crash: it crashes, TestA/c/d fail, TestA/c fail, TestA fail, fail",
		},
		{
			name:      "a known crash after another known defect in a test that has not ended",
			in:        []string{"TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/c run", died, "TestA/c fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/c known crash, TestA/c original-result fail, TestA/c skip, TestA/b known busy, TestA/b original-result fail, TestA/b skip, pass",
			results:   "TestA/b kernel 6.12.1, TestA/c known crash, TestA/c original-result fail, known-defect crash: it crashes, TestA/c fail, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail, fail",
			onlyKnown: true,
		},
		{
			name:      "a new crash",
			in:        []string{"TestA run", "TestA/c run", strings.Replace(died, "mine", "yours", 1), "TestA/c fail"},
			gotestsum: "TestA/c fail",
		},
		{
			name:      "the crash comes in another test",
			in:        []string{"TestA run", "TestA/b run", "TestA/b" + strings.TrimPrefix(died, "TestA/c"), "TestA/b fail"},
			gotestsum: "TestA/b fail",
		},
		{
			name:      "no longer",
			in:        []string{"TestA/b run", "TestA/b kernel 6.12.1", "TestA/b pass", "pass"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b pass, pass",
			results:   "TestA/b kernel 6.12.1, TestA/b pass, pass, no-longer busy",
		},
		{
			name:      "known, and then cut short",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", busy, "TestA/b fail"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, TestA/b skip",
			results:   "TestA/b kernel 6.12.1, TestA/b known busy, TestA/b original-result fail, known-defect busy: it is busy, TestA/b fail",
		},
		{
			name:      "cut short",
			in:        []string{"TestA run", "TestA/b run", "TestA/b kernel 6.12.1", "TestA/b pass"},
			gotestsum: "TestA/b kernel 6.12.1, TestA/b pass",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loader, err := loadKnown([]string{file})
			require.NoError(t, err)
			var gotestsum, results strings.Builder
			f := &forReports{w: &gotestsum, results: &results, progress: io.Discard}
			f.verdicts.matcher = loader.Matcher(known.Where{Profile: "default", Arch: "amd64"})
			_, err = f.Write([]byte(events(t, tt.in...)))
			require.NoError(t, err)
			require.NoError(t, f.close())
			if tt.results == "" {
				tt.results = tt.gotestsum
			}
			assert.Equal(t, strings.Split(tt.gotestsum, ", "), text(t, gotestsum.String()), "for gotestsum")
			assert.Equal(t, strings.Split(tt.results, ", "), text(t, results.String()), "results")
			assert.Equal(t, tt.onlyKnown, f.onlyKnown())

			// If gotestsum is killed, its events are made of the results.
			var told retold
			var again strings.Builder
			for e, err := range testjson.Read(strings.NewReader(results.String())) {
				require.NoError(t, err)
				if e, ok := told.event(e); ok {
					require.NoError(t, testjson.Write(&again, e))
				}
			}
			assert.Equal(t, text(t, gotestsum.String()), text(t, again.String()), "made of the results")
		})
	}
}

func TestNoLonger(t *testing.T) {
	var b strings.Builder
	_, err := judge(strings.NewReader(events(t, "TestA pass", "pass", "no-longer busy")), &b)
	require.NoError(t, err)
	assert.Equal(t, "\n=== Known defects that did not show\nno longer: busy (p)\n", b.String())
}

// A suite that ends with another status than tests give has not only failed by
// the known defect that it shows. The suite is this test binary.
func TestKnownStatus(t *testing.T) {
	if how := os.Getenv(endEnv); how != "" {
		t.Log("EBUSY")
		t.Fail()
		return // TestMain ends as it is asked to
	}
	list := strings.Replace(knownList, "TestA/b", "TestKnownStatus", 1)
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(list), 0o644))
	loader, err := loadKnown([]string{file})
	require.NoError(t, err)
	for how, status := range map[string]int{"return": 1, "panic": 2, "exit": 3} {
		t.Run(how, func(t *testing.T) {
			suite := exec.Command(os.Args[0], "-test.v=test2json", "-test.run=^TestKnownStatus$")
			suite.Env = append(os.Environ(), endEnv+"="+how)
			output, err := suite.Output()
			require.ErrorAs(t, err, new(*exec.ExitError))
			said := bytes.NewBuffer(output)
			assert.Equal(t, status, tellStatus(said, suite.ProcessState.ExitCode()))

			convert := exec.Command("go", "tool", "test2json", "-t", "-p", "p")
			convert.Stdin, convert.Stderr = said, os.Stderr
			events, err := convert.Output()
			require.NoError(t, err)
			w := &forReports{w: io.Discard, results: io.Discard, progress: io.Discard}
			w.verdicts.matcher = loader.Matcher(known.Where{})
			w.verdicts.matcher.Kernel("6.12.1")
			_, err = w.Write(events)
			require.NoError(t, err)
			assert.Equal(t, status == 1, w.onlyKnown(), "%s", events)
		})
	}
}

// endEnv has this test binary end as a suite would that fails outside of tests.
const endEnv = "SELFTEST_TEST_END"

// endAs ends the process as endEnv says, or returns.
func endAs(how string) {
	switch how {
	case "panic":
		panic("restoring the machine")
	case "exit":
		fmt.Print("restoring the machine")
		os.Exit(3)
	}
}

func TestKnownFlag(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.json"), []byte(knownList), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.json"), []byte(`{"known": [{"id": "a"}, {}]}`), 0o644))
	o, err := parse([]string{"-C", dir, "-known", "ours.json", "-known", "builtin"})
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "ours.json"), "builtin"}, o.known)

	_, err = parse([]string{"-C", dir, "-known", "bad.json"})
	assert.ErrorContains(t, err, "-known "+dir+"/bad.json: entry a: test: it is missing\n")
	assert.ErrorContains(t, err, dir+"/bad.json: entry 2: it has no id\n")
	_, err = parse([]string{"-known", "/nonexistent"})
	assert.EqualError(t, err, "-known open /nonexistent: no such file or directory")
	_, err = parse([]string{"-C", dir, "-known", "ours.json", "-known", "ours.json"})
	assert.ErrorContains(t, err, "entry busy: id: "+dir+"/ours.json has an entry of this id already")
}
