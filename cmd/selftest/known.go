package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// knownUsage is the help of -known.
const knownUsage = "`file` of known defects, or " + known.Builtin + " for those of the suite's rows: their failures don't fail the run; may be repeated"

// loadKnown reads the lists of known defects.
func loadKnown(files []string) (*known.Loader, error) {
	l := &known.Loader{Profiles: profile.Names(), Today: time.Now()}
	for _, file := range files {
		if err := l.Load(file); err != nil {
			return nil, fmt.Errorf("-known %w", err)
		}
	}
	return l, nil
}

// knownVerdicts tells the known failures of one VM from fresh ones. The zero
// value knows none.
type knownVerdicts struct {
	matcher *known.Matcher
	running []string                // tests that have begun and not ended, in their order
	output  map[string]string       // of these
	below   map[string]*known.Entry // of tests with known failures below them: the first
	new     map[string]bool         // tests with fresh failures below them
	some    bool                    // a test has failed
	fresh   bool                    // one of them by no known defect
	crashed *known.Entry            // what the VM ended by
	last    time.Time               // of the last event
}

// failed reports whether a test has failed.
func (v *knownVerdicts) failed() bool { return v.some }

// take takes an event that is no failure.
func (v *knownVerdicts) take(e testjson.Event) {
	v.last = e.Time
	if v.matcher == nil {
		v.matcher = (&known.Loader{}).Matcher(known.Where{})
	}
	if v.output == nil {
		v.output, v.below, v.new = make(map[string]string), make(map[string]*known.Entry), make(map[string]bool)
	}
	switch {
	case e.Test == "":
	case e.Action == "run":
		v.running = append(v.running, e.Test)
	case e.Action == "output":
		v.output[e.Test] += e.Output
	case e.Action == "attr" && e.Key == "kernel":
		v.matcher.Kernel(e.Value)
	case e.Verdict():
		if e.Action == "pass" {
			v.matcher.Passed(e.Test)
		}
		v.end(e.Test)
	}
}

func (v *knownVerdicts) end(test string) {
	delete(v.output, test)
	v.running = slices.DeleteFunc(v.running, func(t string) bool { return t == test })
}

// fail takes the failure of a test, and returns the known defect that it is of,
// or nil.
func (v *knownVerdicts) fail(test string) *known.Entry {
	v.take(testjson.Event{Time: v.last})
	v.some = true
	defect := v.explain(test)
	v.end(test)
	if defect == nil {
		v.fresh = true
	}
	for parent := test; ; {
		slash := strings.LastIndexByte(parent, '/')
		if slash < 0 {
			return defect
		}
		parent = parent[:slash]
		if defect == nil {
			v.new[parent] = true
		} else if v.below[parent] == nil {
			v.below[parent] = defect
		}
	}
}

// explain finds the known defect that made the test fail.
func (v *knownVerdicts) explain(test string) *known.Entry {
	output := v.output[test]
	own, report := cutReport(output)
	switch {
	case report != "":
		if m := linux.FindStringSubmatch(report); m != nil {
			v.matcher.Kernel(m[1])
		}
		v.crashed = v.matcher.Crashed(test, own, report)
		return v.crashed
	case v.new[test]:
		return nil
	case v.below[test] != nil && known.Silent(output):
		return v.below[test]
	default:
		return v.matcher.Failed(test, output)
	}
}

// unended returns the tests that have not ended, the innermost first.
func (v *knownVerdicts) unended() []string {
	tests := slices.Clone(v.running)
	slices.Reverse(tests)
	return tests
}

// linux is where the runner of the VM names the kernel's release.
var linux = regexp.MustCompile(`\(Linux (\S+)\)`)

// cutReport cuts the output of a test before what the runner of its VM said.
func cutReport(output string) (own, report string) {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if vm.Ends(line) {
			report += line
		} else {
			b.WriteString(line)
		}
	}
	return b.String(), report
}
