package suite

import (
	"flag"
	"slices"
	"testing"

	"github.com/hotplugtest/hotplugtest/internal/testpattern"
)

// chosen returns what the flags -run and -skip of package testing select. What
// does not belong to a test, as a set-up or an operation that serves several,
// must not be done for tests that are not run. nil: all are run.
func chosen() (*testpattern.Selection, error) {
	run, skip := flag.Lookup("test.run"), flag.Lookup("test.skip")
	if run == nil || skip == nil {
		return nil, nil // this is no test binary
	}
	return testpattern.Select(run.Value.String(), skip.Value.String())
}

// anyChosen reports whether a test of the transition may be run, all of which
// are below t. It changes nothing on the machine.
func (r *Runner) anyChosen(t *testing.T, tr *Transition) bool {
	if tr.Variants != nil {
		names, err := r.variantsOf(tr)
		// What is wrong is said when they are run.
		return err != nil || len(names) == 0 || len(r.chosenOf(t, names)) > 0
	}
	if len(r.tables.Invariants) == 0 {
		return true
	}
	return slices.ContainsFunc(tr.moments(), func(moment Moment) bool {
		return slices.ContainsFunc(r.tables.Invariants, func(inv Invariant) bool {
			return r.chosen.Has(t.Name() + "/" + string(moment) + "/" + inv.Name)
		})
	})
}

// leaveOut names the tests of the transition, none of which is chosen.
func (r *Runner) leaveOut(t *testing.T, tr *Transition) {
	if tr.Variants != nil {
		names, err := r.variantsOf(tr)
		if err != nil {
			t.Fatalf("%s: %v", tr.Name, err)
		}
		nameOnly(t, names)
		return
	}
	var names []string
	for i := range r.tables.Invariants {
		names = append(names, r.tables.Invariants[i].Name)
	}
	for _, moment := range tr.moments() {
		t.Run(string(moment), func(t *testing.T) { nameOnly(t, names) })
	}
}

// nameOnly tells package testing of subtests of t that are not run. If it knows
// of none, it takes t itself for a test that has run.
func nameOnly(t *testing.T, names []string) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) { t.Fatal("this test was not to be run") })
	}
}

// chosenOf returns those of the subtests of t that are run.
func (r *Runner) chosenOf(t *testing.T, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !r.chosen.Has(t.Name() + "/" + name) })
}

// test is the name of the subject's test, from that of the moment on.
func (s subject) test() string {
	if s.inv.Placed {
		return s.inv.Name + "/" + s.from.Name
	}
	return s.inv.Name
}
