package lab

import (
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// An Outcome is what a run of the suite said of a kernel.
type Outcome struct {
	// that ran to their end, without those that have tests below them
	Tests  int
	Failed []string // those of them that failed, by their names
	Died   string   // how the VM ended, if it did not end with the suite

	// Doubtful says that an emulator may have ended the VM.
	Doubtful bool

	// Known says that a test failed by a known defect, with -known of ci/selftest.
	// It is in neither of the others.
	Known bool
}

// Whole stands in Failed for the suite as a whole, which failed, and no test of
// it: as when the machine was not left as it was found. It is no test's name.
const Whole = "(the suite as a whole)"

// Noticed reports whether a test failed, or the VM died.
func (o *Outcome) Noticed() bool { return len(o.Failed) > 0 || o.Died != "" }

// ReadOutcome reads the results of a run from a file of go test -json's events.
// It fails if they stop before the end of the run.
func ReadOutcome(file string) (*Outcome, error) {
	results, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer results.Close()
	return parseOutcome(results)
}

// parseOutcome reads the events of go test -json.
func parseOutcome(events io.Reader) (*Outcome, error) {
	o := &Outcome{}
	parents := make(map[string]bool)
	results := make(map[string]string)
	packageFailed := false
	ended := make(map[string]bool) // by package
	broken := false                // the VM ended in a test
	for e, err := range testjson.Read(events) {
		if err != nil {
			return nil, err
		}
		// test2json takes that test for the package then.
		broken = o.Died != "" && e.Action == "fail"
		// The first line of the VM's runner says what happened, those after it
		// are the console's.
		if what, ok := strings.CutPrefix(e.Output, vm.Prefix); ok && o.Died == "" && vm.Ends(e.Output) {
			o.Died = strings.TrimSpace(what)
		}
		o.Doubtful = o.Doubtful || vm.MayBeQEMU(e.Output)
		ended[e.Package] = ended[e.Package] || e.Test == "" && e.Verdict()
		for i, c := range e.Test { // tests that are skipped are below others, too
			if c == '/' {
				parents[e.Test[:i]] = true
			}
		}
		switch {
		case e.Action == "attr" && e.Key == testjson.Known:
			o.Known = true
		case e.Action != "pass" && e.Action != "fail":
		case e.Test == "" || e.Test == testjson.Main:
			packageFailed = packageFailed || e.Action == "fail"
		default:
			results[e.Test] = e.Action
		}
	}
	if len(ended) == 0 || !broken && slices.Contains(slices.Collect(maps.Values(ended)), false) {
		return nil, errors.New("the results stop before the end of the run")
	}
	for test, result := range results {
		if parents[test] && (result == "pass" || hasFailure(results, test)) {
			continue
		}
		o.Tests++
		if result == "fail" {
			o.Failed = append(o.Failed, test)
		}
	}
	slices.Sort(o.Failed)
	if packageFailed && !o.Noticed() {
		o.Failed = []string{Whole}
	}
	return o, nil
}

// hasFailure tells whether a test below this one failed.
func hasFailure(results map[string]string, test string) bool {
	for name, result := range results {
		if result == "fail" && strings.HasPrefix(name, test+"/") {
			return true
		}
	}
	return false
}

// String says which tests failed, those that differ in one part of their name
// in one word.
func (o *Outcome) String() string {
	text := strings.Join(Compact(o.Failed), " ")
	if o.Died != "" {
		text = strings.TrimSpace(text + " (" + o.Died + ")")
	}
	return text
}

// variant matches the part of a test's name that is one of many states:
// /143:sched:active.
var variant = regexp.MustCompile(`/\d+:[^/]*`)

// Compact groups tests by all but the rows: TestOnline/{affinity,runs}. The
// moment, the variant and the placement are left out, as which of them notice
// is chance where a window is what they see.
func Compact(tests []string) []string {
	rows := make(map[string][]string)
	var groups []string
	for _, test := range tests {
		test = variant.ReplaceAllString(test, "")
		group, row := test, ""
		for _, moment := range []string{"/at-uevent", "/at-return", "/after-resume"} {
			if before, after, ok := strings.Cut(test, moment); ok {
				group = before
				row, _, _ = strings.Cut(strings.TrimPrefix(after, "/"), "/")
			}
		}
		if _, ok := rows[group]; !ok {
			groups = append(groups, group)
		}
		if !slices.Contains(rows[group], row) {
			rows[group] = append(rows[group], row)
		}
	}
	words := make([]string, len(groups))
	for i, group := range groups {
		words[i] = group
		if len(rows[group]) > 1 || rows[group][0] != "" {
			words[i] += "/{" + strings.Join(rows[group], ",") + "}"
		}
	}
	return words
}
