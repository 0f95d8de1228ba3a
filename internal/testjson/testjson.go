// Package testjson reads and writes the events of go test -json: a JSON object
// a line, as test2json and gotestsum make them. See go doc test2json.
package testjson

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"
)

// ResultsFile is the name of the file that ci/selftest leaves its events in.
const ResultsFile = "results.json"

// Main is the test that a failure outside of all tests goes under: go test's
// function for that.
const Main = "TestMain"

// WrongOption is the key of an attribute of a test that fails because the suite
// was asked for what this machine does not have. It says what, and nothing is
// said of the kernel.
const WrongOption = "wrong-option"

// Keys of attributes that ci/selftest adds to the results.
const (
	Known          = "known"           // of a failed test: the ID of the known defect
	OriginalResult = "original-result" // of such a test: "fail", which other reports do not say
	Attempts       = "attempts"        // of a test that was tried again: "flaky 1/3"
	NoLonger       = "no-longer"       // of a package: the ID of a known defect that did not show
	Defect         = "known-defect"    // of a package: the ID of a known defect that showed, and why: "ID: WHY"
	LeftOut        = "left-out"        // of a package: tests that were not run, and why: "TEST, TEST: WHY"
	Console        = "console"         // of a package: the file with the kernel's console, from the directory of the results
	KernelSource   = "kernel-source"   // of a package: which kernel it is, for people: a package and its version, or a path
	KernelChanged  = "kernel-changed"  // of a package: the flags that change the running kernel: "-poke f=ret -delay g=1s"
	KernelSum      = "kernel-sha256"   // of a package: SHA-256 of the kernel as it was given or downloaded
)

// Event is one event. Fields that are of no use here are left out.
type Event struct {
	Time    time.Time `json:",omitzero"`
	Action  string    // "run", "output", "attr", "pass", "fail", "skip" and others
	Package string    `json:",omitempty"`
	Test    string    `json:",omitempty"` // "": the event is the package's
	Elapsed float64   `json:",omitempty"` // of a verdict: seconds
	Output  string    `json:",omitempty"` // a line, as a rule with its newline
	Key     string    `json:",omitempty"` // of an attribute
	Value   string    `json:",omitempty"` // of an attribute
}

// Verdict reports whether the event ends a test, or a package.
func (e Event) Verdict() bool { return e.Action == "pass" || e.Action == "fail" || e.Action == "skip" }

// Parse reads a line.
func Parse(line []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("%.200q is no test event: %w", line, err)
	}
	return e, nil
}

// Read returns the events of r in turn, up to the first error.
func Read(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for lines := bufio.NewReader(r); ; {
			line, err := lines.ReadBytes('\n')
			if len(line) > 0 {
				e, parseErr := Parse(line)
				if !yield(e, parseErr) || parseErr != nil {
					return
				}
			}
			if err != nil {
				if err != io.EOF {
					yield(Event{}, err)
				}
				return
			}
		}
	}
}

// Write writes an event as a line.
func Write(w io.Writer, e Event) error { return json.NewEncoder(w).Encode(e) }
