package record

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// The environment in which this test binary is one that is recorded.
const recordedEnv = "HOTPLUGTEST_RECORDED"

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if os.Getenv(recordedEnv) != "" {
		fmt.Println("times: transition  count")
		if os.Getenv(recordedEnv) == "left" {
			fmt.Println("FAIL: the machine is not as it was found")
			code = 1
		}
	}
	os.Exit(code)
}

// TestRecorded has one test of each kind.
func TestRecorded(t *testing.T) {
	kind := os.Getenv(recordedEnv)
	if kind == "" {
		t.Skip("it is for TestRun")
	}
	t.Run("good", func(t *testing.T) {
		t.Attr("window-ns", "5000000")
		fmt.Print("no newline")
	})
	switch kind {
	case "left":
		return
	case "wait":
		t.Run("waits", func(*testing.T) { time.Sleep(time.Hour) })
	}
	t.Run("skipped", func(t *testing.T) { t.Skip("no SMT <here>") })
	t.Run("known", func(t *testing.T) {
		t.Attr(testjson.Known, "forgets")
		t.Skip("known: forgets: it forgets\nthe mask is empty")
	})
	t.Run("bad", func(t *testing.T) {
		t.Attr("kernel", "6.1.0")
		t.Error("it is\nbroken")
	})
	if kind == "exit" {
		t.Run("cut", func(*testing.T) { os.Exit(3) })
	}
}

// plain is a text without numbers of lines and times.
func plain(text string) string {
	return regexp.MustCompile(`\(\d\.\d\ds\)|(_test\.go:)\d+`).ReplaceAllStringFunc(text, func(s string) string {
		if s[0] == '(' {
			return "(N)"
		}
		return "_test.go:N"
	})
}

// texts are the events of results in a line each.
func texts(t *testing.T, dir string) (lines []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, testjson.ResultsFile))
	require.NoError(t, err)
	defer f.Close()
	for e, err := range testjson.Read(f) {
		require.NoError(t, err)
		assert.Equal(t, "hotplugtest/6.1", e.Package)
		assert.False(t, e.Time.IsZero())
		switch {
		case e.Action == "output" && !strings.HasPrefix(e.Output, "=== ") && !strings.HasPrefix(e.Output, "--- "):
			lines = append(lines, e.Test+": "+strings.TrimSpace(plain(e.Output)))
		case e.Action == "attr":
			lines = append(lines, e.Test+" "+e.Key+"="+e.Value)
		case e.Verdict():
			lines = append(lines, e.Test+" "+e.Action)
		}
	}
	return lines
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		code       int
		want       []string
		screen     string
	}{
		{"a failure", "bad", 1, []string{
			"TestRecorded/good window-ns=5000000", "TestRecorded/good: no newline", "TestRecorded/good pass",
			"TestRecorded/skipped: record_test.go:N: no SMT <here>", "TestRecorded/skipped skip",
			"TestRecorded/known known=forgets", "TestRecorded/known: record_test.go:N: known: forgets: it forgets", "TestRecorded/known: the mask is empty", "TestRecorded/known skip",
			"TestRecorded/bad kernel=6.1.0", "TestRecorded/bad: record_test.go:N: it is", "TestRecorded/bad: broken", "TestRecorded/bad fail",
			"TestRecorded fail", ": FAIL", ": times: transition  count", " fail",
		}, "    record_test.go:N: it is\n        broken\n--- FAIL: TestRecorded/bad (N)\n--- FAIL: TestRecorded (N)\nFAIL\ntimes: transition  count\n"},
		{"a test that does not end", "exit", 3, []string{
			"TestRecorded/good window-ns=5000000", "TestRecorded/good: no newline", "TestRecorded/good pass",
			"TestRecorded/skipped: record_test.go:N: no SMT <here>", "TestRecorded/skipped skip",
			"TestRecorded/known known=forgets", "TestRecorded/known: record_test.go:N: known: forgets: it forgets", "TestRecorded/known: the mask is empty", "TestRecorded/known skip",
			"TestRecorded/bad kernel=6.1.0", "TestRecorded/bad: record_test.go:N: it is", "TestRecorded/bad: broken", "TestRecorded/bad fail",
			"TestRecorded/cut fail", "TestRecorded fail", " fail",
		}, "    record_test.go:N: it is\n        broken\n--- FAIL: TestRecorded/bad (N)\n"},
		{"a failure outside of tests", "left", 1, []string{
			"TestRecorded/good window-ns=5000000", "TestRecorded/good: no newline", "TestRecorded/good pass", "TestRecorded pass",
			": PASS", ": times: transition  count", ": FAIL: the machine is not as it was found",
			"TestMain: FAIL: the machine is not as it was found", "TestMain fail", " fail",
		}, "PASS\ntimes: transition  count\nFAIL: the machine is not as it was found\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			t.Setenv(recordedEnv, tt.kind)
			var b strings.Builder
			code := Run(Options{Binary: os.Args[0], Args: []string{"-test.run=^TestRecorded$"}, Dir: dir, Name: "hotplugtest/6.1"}, &b)
			assert.Equal(t, tt.code, code)
			assert.Equal(t, tt.want, texts(t, dir))
			assert.Equal(t, tt.screen+"page: "+dir+"/report.html\n", plain(b.String()))
			page, err := os.ReadFile(filepath.Join(dir, "report.html"))
			require.NoError(t, err)
			assert.Contains(t, string(page), "<h1>Linux 6.1</h1>")
			assert.FileExists(t, filepath.Join(dir, "summary.md"))
			assert.NoFileExists(t, filepath.Join(dir, consoleFile), "nobody asked for it")
		})
	}
}

// A run that is ended from outside has its reports, too: a signal goes on to the
// tests.
func TestSignal(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(recordedEnv, "wait")
	code := make(chan int, 1)
	go func() {
		code <- Run(Options{Binary: os.Args[0], Args: []string{"-test.run=^TestRecorded$"}, Dir: dir, Name: "hotplugtest/6.1"}, io.Discard)
	}()
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(filepath.Join(dir, testjson.ResultsFile))
		return err == nil && strings.Contains(string(data), `"run","Package":"hotplugtest/6.1","Test":"TestRecorded/waits"`)
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	assert.Positive(t, <-code)
	all := texts(t, dir)
	assert.Equal(t, []string{
		"TestRecorded/waits skip", "TestRecorded skip", "TestMain: the run was ended by a signal: terminated", "TestMain fail", " fail",
	}, all[len(all)-5:], "the test that ran is not to blame")
	assert.FileExists(t, filepath.Join(dir, "report.html"))
}

// Who has called sudo can remove what a run makes, though it is killed.
func TestGiveAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	t.Setenv(recordedEnv, "wait")
	t.Setenv("SUDO_UID", "12345")
	t.Setenv("SUDO_GID", "12345")
	above := filepath.Join(t.TempDir(), "a")
	dir := filepath.Join(above, "b")
	code := make(chan int, 1)
	go func() {
		code <- Run(Options{Binary: os.Args[0], Args: []string{"-test.run=^TestRecorded$"}, Dir: dir, Name: "hotplugtest/6.1"}, io.Discard)
	}()
	results := filepath.Join(dir, testjson.ResultsFile)
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(results)
		return err == nil && len(data) > 0
	}, time.Minute, 10*time.Millisecond)
	for _, path := range []string{above, dir, results} {
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(path, &stat))
		assert.EqualValues(t, 12345, stat.Uid, path)
	}
	require.NoError(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	<-code
}

// The report is gotestsum's, as ci/selftest's is, whatever its variables say,
// and no go command is needed.
func TestJUnit(t *testing.T) {
	t.Setenv("GOTESTSUM_JUNIT_HIDE_SKIPPED_TESTS", "true")
	t.Setenv("PATH", "/bin")
	dir := t.TempDir()
	t.Setenv(recordedEnv, "bad")
	var b strings.Builder
	assert.Equal(t, 1, Run(Options{Binary: os.Args[0], Args: []string{"-test.run=^TestRecorded$"}, Dir: dir, Name: "hotplugtest/6.1", Verbose: true}, &b))
	assert.Contains(t, b.String(), "=== RUN   TestRecorded/good\n")
	assert.NotContains(t, b.String(), "\x16")
	data, err := os.ReadFile(filepath.Join(dir, junit.File))
	require.NoError(t, err)
	var report struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name       string           `xml:"name,attr"`
			Properties []junit.Property `xml:"properties>property"`
			Cases      []struct {
				Class      string           `xml:"classname,attr"`
				Name       string           `xml:"name,attr"`
				Properties []junit.Property `xml:"properties>property"`
				Failure    *struct {
					Text string `xml:",chardata"`
				} `xml:"failure"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
				Output string `xml:"system-out"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(data, &report))
	assert.Equal(t, 5, report.Tests)
	assert.Equal(t, 2, report.Failures)
	require.Len(t, report.Suites, 1)
	suite := report.Suites[0]
	assert.Equal(t, "hotplugtest/6.1", suite.Name)
	assert.Equal(t, []junit.Property{{Name: "go.version", Value: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}}, suite.Properties)
	require.Len(t, suite.Cases, 5)
	for _, c := range suite.Cases {
		assert.Equal(t, "hotplugtest/6.1", c.Class)
		name := strings.TrimPrefix(c.Name, "TestRecorded/")
		switch name {
		case "good":
			assert.Equal(t, []junit.Property{{Name: "window-ns", Value: "5000000"}}, c.Properties)
		case "skipped":
			assert.Equal(t, "record_test.go:N: no SMT <here>", plain(c.Skipped.Message))
		case "known":
			assert.Equal(t, "known: forgets", c.Skipped.Message)
			assert.Equal(t, "    record_test.go:N: known: forgets: it forgets\n        the mask is empty\n", plain(c.Output))
		case "bad":
			assert.Equal(t, "    record_test.go:N: it is\n        broken\n", plain(c.Failure.Text))
		}
		assert.Equal(t, name == "bad" || name == "TestRecorded", c.Failure != nil, name)
		assert.Equal(t, name == "skipped" || name == "known", c.Skipped != nil, name)
	}
}

func TestRunError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	var b strings.Builder
	assert.Equal(t, 1, Run(Options{Binary: os.Args[0], Dir: file}, &b))
	assert.Equal(t, "hotplugtest: mkdir "+file+": not a directory\n", b.String())
}

func TestWithout(t *testing.T) {
	args := strings.Fields("-test.v=true -out d -cpus 2-3 --out=e -test.run X -test.v out -- -out")
	assert.Equal(t, strings.Fields("-cpus 2-3 -test.run X out -- -out"), Without(args, "out", "test.v"))
}
