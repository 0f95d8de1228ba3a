package suite

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// result is what the findings of one case come to.
type result struct {
	probes             int
	cpus               []string
	toUevent, toReturn []time.Duration
	windows            []time.Duration // of broken promises
	broken             []Finding
	shown              *Finding   // whose cycle is an attribute of the test: that of the longest window, or the first
	missed             []*Outcome // whose uevent never came
	failed             []*Outcome // of operations that did not do what they must
	missing            error      // an [*Unsupported]: why it could not be looked at once or more
	state              string     // the machine after them; "": it is asked when they are reported
}

func (r *result) add(f Finding) {
	r.probes++
	if cpu := strconv.Itoa(f.CPU); !slices.Contains(r.cpus, cpu) {
		r.cpus = append(r.cpus, cpu)
	}
	out := f.Outcome
	r.toReturn = append(r.toReturn, out.toReturn())
	// The looks of one operation that are about its return say nothing more of
	// its uevent.
	atUevent := f.Moment == AtUevent
	if atUevent && out.toUevent() > 0 {
		r.toUevent = append(r.toUevent, out.toUevent())
	}
	if out.failure() != "" && !slices.Contains(r.failed, out) {
		r.failed = append(r.failed, out)
	}
	if atUevent && out.missed() && !slices.Contains(r.missed, out) {
		r.missed = append(r.missed, out)
	}
	if r.shown == nil || f.Err != nil && (r.shown.Err == nil || f.Window > r.shown.Window) {
		r.shown = &f
	}
	if f.Err != nil {
		r.broken = append(r.broken, f)
		r.windows = append(r.windows, f.Window)
	}
}

// whyNot is why it could not be looked at, or nil. There may be no result.
func (r *result) whyNot() error {
	if r == nil {
		return nil
	}
	return r.missing
}

// bad reports whether something is wrong.
func (r *result) bad() bool { return len(r.broken) > 0 || len(r.failed) > 0 || len(r.missed) > 0 }

// ask asks for the machine's state if a promise was broken: when it is reported,
// that may be another one.
func (r *result) ask(m *Machine) {
	if len(r.broken) > 0 && r.state == "" {
		r.state = m.state(r.broken[0].CPU)
	}
}

// once is a cycle that was made for many probes, counted once.
func (c Cycle) once() *result {
	r := &result{toReturn: []time.Duration{c.Outcome.toReturn()}}
	if d := c.Outcome.toUevent(); d > 0 {
		r.toUevent = []time.Duration{d}
	}
	for _, f := range c.Findings {
		if f.Err != nil {
			r.windows = append(r.windows, f.Window)
		}
	}
	return r
}

// merge adds what the probes of another case saw.
func (r *result) merge(o *result) {
	r.probes += o.probes
	for _, cpu := range o.cpus {
		if !slices.Contains(r.cpus, cpu) {
			r.cpus = append(r.cpus, cpu)
		}
	}
	r.toUevent, r.toReturn = append(r.toUevent, o.toUevent...), append(r.toReturn, o.toReturn...)
	r.windows = append(r.windows, o.windows...)
	if r.shown == nil {
		r.shown = o.shown
	}
}

// operationFailed says how an operation that was done for all invariants
// failed, or "".
func operationFailed(all map[subject]*result) string {
	for _, r := range all {
		if len(r.failed) > 0 {
			return r.failed[0].failure()
		}
	}
	return ""
}

// digits match what differs in the texts of the same fault: the CPU, a time.
var digits = regexp.MustCompile(`\d+`)

// kinds are the first of each kind of what was broken. Apart from numbers, those
// of a kind say the same.
func (r *result) kinds() (first []Finding) {
	seen := make(map[string]bool)
	for _, f := range r.broken {
		if text := digits.ReplaceAllString(f.Err.Error(), "N"); !seen[text] {
			seen[text] = true
			first = append(first, f)
		}
	}
	return first
}

// sum is what was wrong in any of the results.
func sum(all map[subject]*result) *result {
	var r result
	for _, o := range all {
		r.broken, r.failed, r.missed = append(r.broken, o.broken...), append(r.failed, o.failed...), append(r.missed, o.missed...)
	}
	return &r
}

// reasons are all reasons to fail.
func (r *result) reasons(m *Machine) (texts []string) {
	for _, out := range r.failed {
		texts = append(texts, out.failure())
	}
	for _, out := range r.missed {
		texts = append(texts, out.missing())
	}
	for _, f := range r.kinds() {
		texts = append(texts, f.describe(m))
	}
	return texts
}

// count says how often the promise was broken, and for how long.
func (r *result) count() string {
	text := fmt.Sprintf("broken in %d of %d probes", len(r.broken), r.probes)
	var kept []time.Duration
	for _, f := range r.broken {
		if !f.Never {
			kept = append(kept, f.Window)
		}
	}
	if len(kept) > 0 {
		text += "; until it was kept: " + spread(kept)
	}
	if never := len(r.broken) - len(kept); never > 0 {
		text += fmt.Sprintf("; not kept while it was looked at: %d", never)
	}
	return text
}

// report fails the test for what was broken.
func (r *result) report(t *testing.T, m *Machine) {
	t.Helper()
	for _, text := range r.reasons(m) {
		t.Error(text)
	}
	if len(r.broken) == 0 {
		return
	}
	if r.probes > 1 {
		t.Log(r.count())
	}
	if r.state == "" {
		r.state = m.state(r.broken[0].CPU)
	}
	t.Log(r.state)
}
