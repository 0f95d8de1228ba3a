// Package report makes a page and a summary of runs of the suite, from the
// results that ci/selftest leaves: which promises were kept on which kernels,
// how long others were broken, and what operations took.
package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
)

// Report is what one or more runs came to.
type Report struct {
	columns []*column
	defects map[string]string // known defects: why, by ID
	ids     []string          // of these, in the order of the results
}

// column is the part of a run that is one virtual machine, or one real machine.
type column struct {
	Name    string // bookworm/isolcpus; unique in the report
	Kernel  string // bookworm
	Profile string // isolcpus, or ""
	Run     string // what tells it from another column of this kernel and profile, or ""
	Facts   map[string]string
	dir     string // of the results
	console string // the file, or ""
	tests   map[string]*test
	order   []*test
	gone    []string // known defects that did not show, by ID
	took    time.Duration
	times   map[string]*operation // by transition
	did     []string              // transitions
}

// test is what became of one.
type test struct {
	Name     string
	Verdict  verdict
	Known    string // the ID of the known defect
	Attempts string // "flaky 1/3", or ""
	Probes   string
	Broken   string
	column   *column
	output   strings.Builder
	window   suite.Samples
	cycle    suite.Timeline
	parent   bool // there are tests below it
	below    bool // one of them failed
	number   int  // of its text on the page; 0: it has none there
}

// verdict is what a test came to. The greater, the worse.
type verdict int

const (
	missing verdict = iota
	skipped
	passed
	broken // by a known defect
	cut    // it began, and did not end
	failed
)

// operation is what was measured of a transition. Tests that share one have the
// same durations, and each counts once.
type operation struct{ toReturn, toUevent map[time.Duration]uint64 }

// ErrNoTest says that a run has no test in its results.
var ErrNoTest = errors.New("report: the run has no test in its results")

// Read reads the results of runs: directories that ci/selftest has written, or
// files such as its results.json.
func Read(names []string) (*Report, error) {
	r := &Report{defects: make(map[string]string)}
	for _, name := range names {
		before := len(r.columns)
		if err := r.read(name); err != nil {
			return nil, err
		}
		if len(r.columns) == before {
			return nil, fmt.Errorf("%w: %s", ErrNoTest, name)
		}
	}
	for _, c := range r.columns {
		c.finish()
	}
	return r, nil
}

func (r *Report) read(name string) error {
	file := name
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		file = filepath.Join(name, testjson.ResultsFile)
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && file != name {
		return fmt.Errorf("%s has no %s: it is no directory of a run, or the run wrote none", name, testjson.ResultsFile)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	own := make(map[string]*column) // of this run, by package
	line := 0
	for e, err := range testjson.Read(f) {
		if line++; err != nil {
			return fmt.Errorf("%s: line %d: %w", file, line, err)
		}
		if e.Package == "" {
			continue
		}
		c := own[e.Package]
		if c == nil {
			c = newColumn(strings.TrimPrefix(e.Package, packagePrefix), filepath.Dir(file))
			own[e.Package] = c
		}
		if len(c.tests) == 0 && e.Test != "" {
			r.add(c)
		}
		if err := r.take(c, e); err != nil {
			return fmt.Errorf("%s: line %d: %w", file, line, err)
		}
	}
	return nil
}

// packagePrefix begins the names that results go under.
const packagePrefix = "hotplugtest/"

func newColumn(name, dir string) *column {
	c := &column{Name: name, dir: dir, Facts: make(map[string]string), tests: make(map[string]*test), times: make(map[string]*operation)}
	if strings.Contains(name, ".") && strings.Count(name, "/") > 1 {
		c.Kernel = name[strings.LastIndexByte(name, '/')+1:] // go test's own name of a package
	} else {
		c.Kernel, c.Profile, _ = strings.Cut(name, "/")
	}
	return c
}

// add adds a column that has tests. If another run has one of that name, the
// directory tells them apart.
func (r *Report) add(c *column) {
	name := c.Name
	for n := 1; r.named(c.Name); n++ {
		if c.Run = filepath.Base(c.dir); n > 1 {
			c.Run = fmt.Sprintf("%s, %d", c.Run, n)
		}
		c.Name = name + " (" + c.Run + ")"
	}
	r.columns = append(r.columns, c)
}

func (r *Report) named(name string) bool {
	for _, c := range r.columns {
		if c.Name == name {
			return true
		}
	}
	return false
}

// take takes an event of a column's.
func (r *Report) take(c *column, e testjson.Event) error {
	if e.Test == "" {
		r.takeWhole(c, e)
		return nil
	}
	t := c.tests[e.Test]
	if t == nil {
		t = &test{Name: e.Test, Verdict: cut, column: c}
		c.tests[e.Test], c.order = t, append(c.order, t)
	}
	switch {
	case e.Action == "output":
		t.output.WriteString(e.Output)
	case e.Action == "attr":
		return t.note(c, e.Key, e.Value)
	case e.Verdict() && t.Known != "": // on a real machine it is a skip
		t.Verdict = broken
		if _, ok := r.defects[t.Known]; !ok {
			_, why, _ := strings.Cut(t.output.String(), testjson.KnownPrefix+t.Known+": ")
			r.defects[t.Known], _, _ = strings.Cut(why, "\n")
			r.ids = append(r.ids, t.Known)
		}
	case e.Verdict():
		t.Verdict = map[string]verdict{"pass": passed, "fail": failed, "skip": skipped}[e.Action]
	}
	return nil
}

// takeWhole takes an event that is about all tests.
func (r *Report) takeWhole(c *column, e testjson.Event) {
	switch {
	case e.Action == "attr" && e.Key == testjson.NoLonger:
		c.gone = append(c.gone, e.Value)
	case e.Action == "attr" && e.Key == testjson.Defect:
		id, why, _ := strings.Cut(e.Value, ": ")
		if _, ok := r.defects[id]; !ok {
			r.ids = append(r.ids, id)
		}
		r.defects[id] = why
	case e.Action == "attr" && e.Key == testjson.Console:
		c.console = filepath.Join(c.dir, e.Value)
	case e.Action == "attr":
		c.Facts[e.Key] = e.Value
	case e.Verdict():
		c.took = time.Duration(e.Elapsed * float64(time.Second))
	}
}

// note takes an attribute.
func (t *test) note(c *column, key, value string) (err error) {
	name := testjson.Transition(t.Name)
	of := c.times[name]
	if of == nil {
		of = &operation{make(map[time.Duration]uint64), make(map[time.Duration]uint64)}
		c.times[name] = of
		c.did = append(c.did, name)
	}
	measured := func(to map[time.Duration]uint64) error {
		samples, err := suite.ParseSamples(value)
		for _, s := range samples {
			to[s.Value] = max(to[s.Value], s.Count)
		}
		return err
	}
	switch key {
	case testjson.Known:
		t.Known = value
	case testjson.Attempts:
		t.Attempts = value
	case "probes":
		t.Probes = value
	case "broken":
		t.Broken = value
	case "window-ns":
		t.window, err = suite.ParseSamples(value)
	case "time-to-return-ns":
		err = measured(of.toReturn)
	case "time-to-uevent-ns":
		err = measured(of.toUevent)
	case "cycle":
		t.cycle, err = suite.ParseTimeline(value)
	default:
		if _, ok := c.Facts[key]; !ok && facts[key] {
			c.Facts[key] = value
		}
	}
	if err != nil {
		return fmt.Errorf("attribute %s of %s: %w", key, t.Name, err)
	}
	return nil
}

// facts are the attributes of tests that are about the machine.
var facts = map[string]bool{
	"kernel": true, "kernel-version": true, "arch": true, "cmdline": true, "boot": true, "cpus-possible": true,
	"kernel-tainted": true, "smt-control": true, "warning": true,
}

// finish notes which tests group others, and where the console is.
func (c *column) finish() {
	for _, t := range c.order {
		for parent := t.Name; ; {
			slash := strings.LastIndexByte(parent, '/')
			if slash < 0 {
				break
			}
			parent = parent[:slash]
			if p := c.tests[parent]; p != nil {
				p.parent, p.below = true, p.below || t.Verdict >= broken
			}
		}
	}
	if c.console == "" {
		// Results of an earlier version don't say.
		c.console = filepath.Join(c.dir, "console.log")
	}
	if info, err := os.Stat(c.console); err != nil || info.IsDir() {
		c.console = ""
	}
}

// counts reports whether the test is more than a group of others, whose
// verdicts tell.
func (t *test) counts() bool { return !t.parent || t.Verdict >= broken && !t.below }

// Text is what the test printed, without the lines that package testing prints
// of any test.
func (t *test) Text() string {
	var b strings.Builder
	for line := range strings.Lines(t.output.String()) {
		if !testjson.Frame.MatchString(line) {
			b.WriteString(line)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// Why is why the test failed or was skipped, in one line.
func (t *test) Why() string {
	why := known.Reason(t.output.String())
	if why == "" && t.Verdict == cut {
		return "it began, and did not end"
	}
	return why
}

// Longest is the longest window, or 0.
func (t *test) Longest() time.Duration {
	if len(t.window) == 0 {
		return 0
	}
	return t.window[len(t.window)-1].Value
}
