package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/vm"
)

// findSuspects traces a CPU that goes offline and online.
func (w *widen) findSuspects(ctx context.Context) error {
	opts := w.boot.Options(w.vm)
	opts.Timeout = 5 * time.Minute
	opts.Out = filepath.Join(w.reports(), "trace")
	out, err := lab.Guest(ctx, opts, "./cmd/widen/guest")
	if err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	trace, err := readTrace(out)
	if err != nil {
		return err
	}
	if w.state.Suspects = suspect.Rank(trace.Seen); len(w.state.Suspects) == 0 {
		return errors.New("tracing: no function was seen")
	}
	w.state.CPU = trace.CPU
	return w.state.save()
}

// readTrace reads what the guest's program prints.
func readTrace(data []byte) (t suspect.Trace, err error) {
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("tracing: what the guest's program printed: %w", err)
	}
	for _, s := range t.Seen {
		if s.Function == "" || s.Kind < suspect.Unfinished || s.Kind > suspect.Wait {
			return t, fmt.Errorf("tracing: the guest's program printed %+v", s)
		}
	}
	return t, nil
}

// topTests are the tests of transitions.
var topTests = map[string]string{"offline": "^TestOffline$", "online": "^TestOnline$"}

// pattern is for the tests of transitions, as in go test -run.
func (w *widen) pattern(transitions []string) string {
	if w.rows != "" {
		return w.rows
	}
	var tests []string
	for _, t := range transitions {
		tests = append(tests, topTests[t])
	}
	return strings.Join(tests, "|")
}

// A run is what became of the suite while a function was delayed.
type run struct {
	Pattern    string   // the tests that ran, as in go test -run
	Tests      int      // that ran to their end
	Failed     []string // of those that pass without the delay
	Again      []string // of these, what failed in a second run
	Died       string   // how the VM ended, if it did not end with the suite
	DiedAgain  string   // the same of the second run
	Impossible string   // why the function cannot be delayed
	Took       time.Duration
}

// noticed reports whether anything failed.
func (r *run) noticed() bool { return len(r.Failed) > 0 || r.Died != "" }

// patternOf is for single tests of the run, or for all that ran if it failed as
// a whole.
func (r *run) patternOf(tests []string) string {
	if slices.Contains(tests, lab.Whole) {
		return r.Pattern
	}
	var patterns []string
	for _, test := range tests {
		var parts []string
		for part := range strings.SplitSeq(test, "/") {
			parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
		}
		patterns = append(patterns, strings.Join(parts, "/"))
	}
	return strings.Join(patterns, "|")
}

// outcome is for its text.
func (r *run) outcome() *lab.Outcome {
	return &lab.Outcome{Tests: r.Tests, Failed: r.Failed, Died: r.Died}
}

func (r *run) String() string {
	if r.Impossible != "" {
		return "not delayed: " + r.Impossible
	}
	text := fmt.Sprintf("%d tests in %v", r.Tests, r.Took.Round(time.Second))
	if r.noticed() {
		text += fmt.Sprintf(", %d FAILED, %d of them again: %s", len(r.Failed), len(r.Again), r.outcome())
	}
	if r.DiedAgain != "" {
		text += "; again the VM: " + r.DiedAgain
	}
	return text
}

// cannot is how the VM's runner begins what it says of a function that cannot
// be delayed.
const cannot = "delay: "

// delayOne runs the suite with a function delayed. What fails then runs once
// more: only of what fails again is it known that it fails more than by chance.
func (w *widen) delayOne(ctx context.Context, s suspect.Suspect) (*run, error) {
	r := &run{Pattern: w.pattern(s.Transitions)}
	delay := fmt.Sprintf("%s=%v", s.Function, w.delay)
	if slices.ContainsFunc(w.vm.Delays, func(d string) bool { return strings.HasPrefix(d, s.Function+"=") }) {
		r.Impossible = "it is delayed in each run"
		return r, nil
	}
	begun := time.Now()
	o, err := w.test(ctx, s.Function, r.Pattern, "-delay", delay)
	if err == nil && vm.NotStarted(o.Died) { // a busy host may have been why
		o, err = w.test(ctx, s.Function, r.Pattern, "-delay", delay)
	}
	if err != nil {
		return nil, err
	}
	r.Took = time.Since(begun)
	if vm.NotStarted(o.Died) {
		r.Impossible = s.Function + ": " + o.Died
		return r, nil
	}
	if o.Tests == 0 && strings.HasPrefix(o.Died, cannot) {
		r.Impossible = strings.TrimPrefix(o.Died, cannot)
		return r, nil
	}
	r.Tests, r.Died = o.Tests, o.Died
	r.Failed = without(o.Failed, w.state.Baseline.Failed)
	if !r.noticed() {
		return r, nil
	}
	pattern := r.Pattern
	if r.Died == "" {
		pattern = r.patternOf(r.Failed)
	}
	o, err = w.test(ctx, s.Function+"-again", pattern, "-delay", delay)
	if errors.Is(err, lab.ErrNoTest) {
		return r, nil // they were skipped: none failed again
	}
	if err != nil {
		return nil, err
	}
	r.Again, r.DiedAgain = without(o.Failed, w.state.Baseline.Failed), o.Died
	return r, nil
}

// without returns the tests that are not among others.
func without(tests, others []string) []string {
	return slices.DeleteFunc(slices.Clone(tests), func(test string) bool { return slices.Contains(others, test) })
}

// test runs the suite.
func (w *widen) test(ctx context.Context, name, pattern string, flags ...string) (*lab.Outcome, error) {
	args := append(append(w.flags(), "-run", pattern), flags...)
	o, err := w.suite(ctx, filepath.Join(w.reports(), name), append(append(args, "--"), w.testArgs()...)...)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return o, err
}

// testArgs are for the test binary. The delay stands in for a crowd of cpusets.
// One CPU is tested, the one that was traced: it takes half of the time.
func (w *widen) testArgs() []string {
	return append([]string{"-cpusets", "1", "-cpus", strconv.Itoa(w.state.CPU)}, w.args...)
}
