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
// took, of each kernel: gotestsum shows nothing of a package that passed; and
// the known defects that did not show.
func judge(results io.Reader, screen io.Writer) (*verdicts, error) {
	t := times{w: screen}
	v := &verdicts{
		parents: make(map[test]bool), known: make(map[test]string), output: make(map[test]string), release: make(map[string]string),
		ran: make(map[string]bool), empty: make(map[string]bool), fresh: make(map[string]bool), wrong: make(map[string]string),
	}
	for e, err := range testjson.Read(results) {
		if err != nil {
			return nil, err
		}
		t.take(e)
		v.take(e)
	}
	for i, gone := range v.gone {
		if i == 0 {
			fmt.Fprintln(screen, "\n=== Known defects that did not show")
		}
		fmt.Fprintf(screen, "no longer: %s (%s)\n", gone.name, gone.pkg)
	}
	return v, nil
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

// verdicts are those of all kernels. A virtual machine that did not get as far
// as to run a test tells nothing of the suite's.
type verdicts struct {
	passes  []test
	fails   []test            // by no known defect, without TestMain
	output  map[test]string   // of these, and of tests that run
	release map[string]string // of the kernels
	parents map[test]bool
	known   map[test]string // failures of known defects, by their IDs
	gone    []test          // packages and the IDs of known defects that did not show
	ran     map[string]bool // packages in which a test has come to its end
	// and those in which -run matched none, though perhaps the beginning of
	// one's name
	empty  map[string]bool
	fresh  map[string]bool   // and those in which a test has failed that is not known
	wrong  map[string]string // and those in which the suite was asked for what is not there: what
	failed bool              // a test has, by no known defect, or something else when tests had run
}

func (v *verdicts) take(e testjson.Event) {
	if slash := strings.LastIndexByte(e.Test, '/'); slash >= 0 {
		v.parents[test{e.Package, e.Test[:slash]}] = true
	}
	switch {
	case e.Action == "output" && e.Test != "":
		v.output[test{e.Package, e.Test}] += e.Output
	case e.Action == "attr" && e.Key == "kernel":
		v.release[e.Package] = e.Value
	case e.Action == "attr" && e.Key == testjson.Known:
		v.known[test{e.Package, e.Test}] = e.Value
	case e.Action == "attr" && e.Key == testjson.NoLonger && e.Test == "":
		v.gone = append(v.gone, test{e.Package, e.Value})
	case e.Action == "attr" && e.Key == testjson.WrongOption && e.Test != "":
		v.wrong[e.Package] = e.Value
	case e.Action == "fail" && v.wrong[e.Package] != "":
		// No test began. A kernel is not to be blamed for a command line.
	case e.Verdict() && e.Test == "":
		// The package fails if a test does, and then that tells.
		known := !v.fresh[e.Package] && v.hasKnown(e.Package)
		v.failed = v.failed || e.Action == "fail" && v.ran[e.Package] && !known
	case e.Verdict():
		v.end(e)
	case e.Test == "" && e.Output == "testing: warning: no tests to run\n":
		v.empty[e.Package] = true
	}
}

// end takes the verdict on a test.
func (v *verdicts) end(e testjson.Event) {
	t := test{e.Package, e.Test}
	fresh := e.Action == "fail" && v.known[t] == ""
	v.fresh[e.Package] = v.fresh[e.Package] || fresh
	if !fresh {
		delete(v.output, t)
	}
	if e.Test == testjson.Main {
		return // the end of the package tells
	}
	v.failed = v.failed || fresh
	v.ran[e.Package] = true
	if fresh {
		v.fails = append(v.fails, t)
	}
	if e.Action == "pass" {
		v.passes = append(v.passes, t)
	}
}

// failures are the tests of a package that failed by no known defect, without
// those that failed because one below them did.
func (v *verdicts) failures(pkg string) (names []string) {
	for _, t := range v.fails {
		below := func(other test) bool { return other.pkg == pkg && strings.HasPrefix(other.name, t.name+"/") }
		if t.pkg == pkg && !slices.ContainsFunc(v.fails, below) {
			names = append(names, t.name)
		}
	}
	return names
}

func (v *verdicts) hasKnown(pkg string) bool {
	for t := range v.known {
		if t.pkg == pkg {
			return true
		}
	}
	return false
}

// passed tells whether a test did that has none below it.
func (v *verdicts) passed() bool {
	return slices.ContainsFunc(v.passes, func(t test) bool { return !v.parents[t] && !v.empty[t.pkg] })
}
