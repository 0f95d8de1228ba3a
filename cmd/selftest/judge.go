package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
)

// judge reads the events of a run. It prints the table of what the transitions
// took, of each kernel: gotestsum shows nothing of a package that passed. It
// tells whether a test passed, which one that only has others below it does
// not; and whether one failed, or something else when tests had run. A virtual
// machine that did not get so far tells nothing of the suite's.
func judge(results io.Reader, screen io.Writer) (passed, failed bool, err error) {
	t := times{w: screen}
	v := verdicts{parents: make(map[test]bool), ran: make(map[string]bool), empty: make(map[string]bool)}
	for e, err := range testjson.Read(results) {
		if err != nil {
			return false, false, err
		}
		t.take(e)
		v.take(e)
	}
	return v.passed(), v.failed, nil
}

// times prints the table of times.
type times struct {
	w      io.Writer
	kernel string // whose it is just now
}

func (t *times) take(e testjson.Event) {
	row, ok := strings.CutPrefix(e.Output, suite.TimesPrefix)
	if !ok || e.Test != "" {
		return
	}
	if e.Package != t.kernel {
		t.kernel = e.Package
		fmt.Fprintf(t.w, "\n=== Times: %s\n", t.kernel)
	}
	fmt.Fprint(t.w, row)
}

type test struct{ pkg, name string }

// verdicts are those of all kernels.
type verdicts struct {
	passes  []test
	parents map[test]bool
	ran     map[string]bool // packages in which a test has come to its end
	// and those in which -run matched none, though perhaps the beginning of
	// one's name
	empty  map[string]bool
	failed bool // a test, or something else when tests had run
}

func (v *verdicts) take(e testjson.Event) {
	if e.Test == testjson.Main {
		return
	}
	if slash := strings.LastIndexByte(e.Test, '/'); slash >= 0 {
		v.parents[test{e.Package, e.Test[:slash]}] = true
	}
	switch {
	case e.Verdict():
		v.failed = v.failed || e.Action == "fail" && (e.Test != "" || v.ran[e.Package])
		v.ran[e.Package] = v.ran[e.Package] || e.Test != ""
		if e.Action == "pass" && e.Test != "" {
			v.passes = append(v.passes, test{e.Package, e.Test})
		}
	case e.Test == "" && e.Output == "testing: warning: no tests to run\n":
		v.empty[e.Package] = true
	}
}

// passed tells whether a test did that has none below it.
func (v *verdicts) passed() bool {
	return slices.ContainsFunc(v.passes, func(t test) bool { return !v.parents[t] && !v.empty[t.pkg] })
}
