// Package compare says what differs between two runs of the suite: which tests
// fail that did not, which do no longer, which are not there any more, and what
// takes longer. It reads the results that ci/selftest writes.
package compare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
)

// Verdicts on a test.
const (
	Pass    = "pass"
	Fail    = "fail"
	Skip    = "skip"
	Known   = "known"   // it failed by a known defect
	Cut     = "cut"     // it began, and did not end
	Missing = "missing" // it is not in the results
)

// Run is a run of the suite.
type Run struct {
	Name    string                // as it was given
	Kernels map[string]*kernelRun // by name: bookworm, bookworm/isolcpus
	order   []string
}

// kernelRun is the part of a run that is one virtual machine.
type kernelRun struct {
	tests map[string]*result
	order []string
	// states are the names of tests that have a state's number, without it.
	states map[string]string
	times  map[string]*measured // by what was done
}

// result is what became of a test.
type result struct {
	verdict string
	why     string // the first line of why it failed or was skipped
	known   string // the ID of the known defect
	output  strings.Builder
	parent  bool // there are tests below it
	failed  bool // one of these failed
}

// measured is what was measured of one transition, each duration once.
type measured struct {
	toReturn, toUevent, window durations
}

// durations are distinct ones: the tests that share an operation have its
// duration each.
type durations map[time.Duration]uint64

// Split splits the name of a run's results, as [Read] takes it, into a path and
// a kernel. What exists is a path, though it has an "@", as the second workspace
// of a job in Jenkins does.
func Split(name string) (path, kernel string) {
	at := strings.LastIndex(name, "@")
	if _, err := os.Lstat(name); err == nil || at < 0 {
		return name, ""
	}
	return name[:at], name[at+1:]
}

// Read reads the results of a run: a directory that ci/selftest has written, or
// its results.json. With "@NAME" after it, of one kernel and its profiles only.
func Read(name string) (*Run, error) {
	path, kernel := Split(name)
	file := path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		file = filepath.Join(path, testjson.ResultsFile)
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && file != path {
		return nil, fmt.Errorf("%s has no %s: it is no directory of a run, or the run wrote none", path, testjson.ResultsFile)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &Run{Name: name, Kernels: make(map[string]*kernelRun)}
	line := 0
	for e, err := range testjson.Read(f) {
		if line++; err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", file, line, err)
		}
		if err := r.take(e); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", file, line, err)
		}
	}
	if len(r.order) == 0 {
		return nil, fmt.Errorf("%s has no test in it", file)
	}
	all := strings.Join(r.order, ", ")
	if kernel != "" {
		if err := r.only(kernel); err != nil {
			return nil, fmt.Errorf("%s has no kernel %q, only %s", file, kernel, all)
		}
	}
	for _, k := range r.Kernels {
		k.finish()
	}
	return r, nil
}

// only leaves the results of one kernel, under its own name and its profiles'.
func (r *Run) only(kernel string) error {
	var order []string
	kernels := make(map[string]*kernelRun)
	for _, name := range r.order {
		if rest, ok := strings.CutPrefix(name, kernel); ok && (rest == "" || rest[0] == '/') {
			order = append(order, name)
			kernels[name] = r.Kernels[name]
		}
	}
	if len(order) == 0 {
		return errors.New("no such kernel")
	}
	r.Kernels, r.order = kernels, order
	return nil
}

// Keep leaves only the results of these kernels, if it has any of them.
func (r *Run) Keep(names []string) {
	var order []string
	for _, name := range r.order {
		if slices.Contains(names, name) {
			order = append(order, name)
		}
	}
	if len(order) == 0 {
		return
	}
	for _, name := range r.order {
		if !slices.Contains(order, name) {
			delete(r.Kernels, name)
		}
	}
	r.order = order
}

// take takes an event.
func (r *Run) take(e testjson.Event) error {
	if e.Test == "" || e.Package == "" {
		return nil
	}
	name := strings.TrimPrefix(e.Package, "hotplugtest/")
	k := r.Kernels[name]
	if k == nil {
		k = &kernelRun{tests: make(map[string]*result), times: make(map[string]*measured)}
		r.Kernels[name], r.order = k, append(r.order, name)
	}
	t := k.tests[e.Test]
	if t == nil {
		t = &result{verdict: Cut}
		k.tests[e.Test], k.order = t, append(k.order, e.Test)
	}
	switch {
	case e.Action == "output":
		t.output.WriteString(e.Output)
	case e.Action == "attr" && e.Key == testjson.Known:
		t.known = e.Value
	case e.Action == "attr" && strings.HasSuffix(e.Key, "-ns"):
		samples, err := suite.ParseSamples(e.Value)
		if err != nil {
			return fmt.Errorf("attribute %s of %s: %w", e.Key, e.Test, err)
		}
		k.measure(e.Test, e.Key, samples)
	case e.Verdict():
		t.verdict = e.Action
		if t.known != "" { // on a real machine it is a skip
			t.verdict = Known
		}
	}
	return nil
}

// measure notes durations under the transition's name.
func (k *kernelRun) measure(test, key string, samples suite.Samples) {
	name := testjson.Transition(test)
	m := k.times[name]
	if m == nil {
		m = &measured{toReturn: make(durations), toUevent: make(durations), window: make(durations)}
		k.times[name] = m
	}
	to := map[string]durations{"time-to-return-ns": m.toReturn, "time-to-uevent-ns": m.toUevent, "window-ns": m.window}[key]
	for _, s := range samples {
		if to != nil {
			to[s.Value] = max(to[s.Value], s.Count)
		}
	}
}

// finish notes which tests group others, and why tests failed.
func (k *kernelRun) finish() {
	k.states = make(map[string]string)
	for _, name := range k.order {
		if without := stateName(name); without != name {
			k.states[without] = name
		}
		t := k.tests[name]
		bad := t.verdict == Fail || t.verdict == Known || t.verdict == Cut
		for parent := name; ; {
			slash := strings.LastIndexByte(parent, '/')
			if slash < 0 {
				break
			}
			parent = parent[:slash]
			if p := k.tests[parent]; p != nil {
				p.parent, p.failed = true, p.failed || bad
			}
		}
		if t.verdict != Pass {
			t.why = known.Reason(t.output.String())
		}
		t.output = strings.Builder{}
	}
}

// state matches the number of a state in the name of a test.
var state = regexp.MustCompile(`/\d+:`)

// stateName is the name of a test without the number of a state.
func stateName(test string) string { return state.ReplaceAllString(test, "/:") }

// counts reports whether the test is more than a group of others, whose
// verdicts tell.
func (t *result) counts() bool {
	bad := t.verdict == Fail || t.verdict == Known || t.verdict == Cut
	return !t.parent || bad && !t.failed
}
