package system_test

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A report is what is read of junit.xml.
type report struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Cases    []struct {
		Name    string    `xml:"name,attr"`
		Skipped *struct{} `xml:"skipped"`
		Failure *struct{} `xml:"failure"`
	} `xml:"testsuite>testcase"`
}

// reporter is the documented command, by which a machine without Go is tested
// from one with it. It is started here, in the checkout.
func (g *guest) reporter(t *testing.T, remote string) (s *session, junit string) {
	t.Helper()
	junit = filepath.Join(t.TempDir(), "junit.xml")
	args := []string{
		"tool", "gotestsum", "--raw-command", "--format=testname", "--junitfile", junit, "--",
		"go", "tool", "test2json", "-t", "-p", "hotplugtest", "ssh",
	}
	args = append(args, g.options()...)
	args = append(args, "-p", strconv.Itoa(g.port), "root@127.0.0.1", remote)
	cmd := exec.Command("go", args...)
	cmd.Dir = *checkout
	return begin(t, cmd, "go "+strings.Join(args, " ")), junit
}

func read(t *testing.T, junit string) (r report) {
	t.Helper()
	text, err := os.ReadFile(junit)
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(text, &r), string(text))
	assert.Equal(t, r.Tests, len(r.Cases))
	return r
}

// fromDevice is the command's part on the device.
func fromDevice(run string) string {
	return "./hotplugtest.test -test.v=test2json -test.run='" + run + "'" + options()
}

func junit(t *testing.T, g *guest) {
	s, file := g.reporter(t, fromDevice(brief))
	out, code := s.wait(t)
	assert.Zero(t, code, out)
	r := read(t, file)
	assert.Zero(t, r.Failures, out)
	assert.Zero(t, r.Errors, out)
	assert.Greater(t, r.Tests, 10, out)
	var names []string
	for _, c := range r.Cases {
		names = append(names, c.Name)
	}
	child := "child-cpuset"
	if *hybrid {
		child = "v1-child-cpuset"
	}
	assert.Contains(t, names, "TestOnline/at-return/affinity/"+child)
}

// junitCutEarly is a run that ends in the middle, one that does not start, and
// one in which nothing can be tested.
func junitCutEarly(t *testing.T, g *guest) {
	s, file := g.reporter(t, fromDevice(long))
	s.await(t, `TestOnline/at-return/`)
	g.must(t, "root", "pkill -KILL -x hotplugtest.tes")
	out, code := s.wait(t)
	assert.Positive(t, code, out)
	assert.Positive(t, read(t, file).Failures, "no test of the run that was cut is a failure:\n%s", out)

	s, _ = g.reporter(t, "./is-not-there")
	out, code = s.wait(t)
	assert.Positive(t, code, "a run that did not start is a success:\n%s", out)

	s, _ = g.reporter(t, "setpriv --reuid=1000 --clear-groups "+fromDevice(brief))
	out, code = s.wait(t)
	assert.Positive(t, code, "a run that tested nothing is a success:\n%s", out)
}
