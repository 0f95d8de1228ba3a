package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Tables are the rows that are run. They are values: two runs with different
// tables do not disturb each other.
type Tables struct {
	// Transitions are the operations after which the invariants must hold.
	// Rows that may crash a broken kernel must be the last of their test, so
	// that no other results are lost.
	Transitions []Transition
	// Invariants are the promises that hold at every moment after every
	// transition.
	Invariants []Invariant
	// Scenarios are what must hold while CPUs go offline and online.
	Scenarios []Scenario
	// Workloads are what the soak goes through, again and again.
	Workloads []Workload
}

// Clone returns tables with rows of their own.
func (t Tables) Clone() Tables {
	return Tables{
		slices.Clone(t.Transitions), slices.Clone(t.Invariants), slices.Clone(t.Scenarios), slices.Clone(t.Workloads),
	}
}

// Check says what is wrong with the rows, of any table: a name that is missing,
// not unique or not fit for a test, a promise without a source, a row that
// does nothing.
func (t Tables) Check() error {
	var errs []error
	wrong := func(kind, name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %q: %s", kind, name, fmt.Sprintf(format, args...)))
	}
	seen := make(map[string]bool)
	named := func(kind, name string) {
		if name == "" || strings.ContainsAny(name, " \t\n") {
			wrong(kind, name, "this is no name for a test")
		}
		if seen[kind+name] {
			wrong(kind, name, "there are two")
		}
		seen[kind+name] = true
	}
	for _, tr := range t.Transitions {
		named("transition", tr.Name)
		if tr.Op == nil {
			wrong("transition", tr.Name, "it has no Op")
		}
		if tr.Uevent == "" && tr.Before != tr.After {
			wrong("transition", tr.Name, "a CPU that comes or goes sends a uevent, and it has none")
		}
		if tr.Variants != nil && !tr.RolledBack {
			wrong("transition", tr.Name, "it has variants, and is not rolled back")
		}
	}
	for _, inv := range t.Invariants {
		named("invariant", inv.Name)
		if strings.Contains(inv.Name, "/") {
			wrong("invariant", inv.Name, "a slash would make a level of tests of its own")
		}
		if inv.Promise == "" || inv.Source == "" || inv.Arm == nil {
			wrong("invariant", inv.Name, "it must have a Promise, a Source and an Arm")
		}
	}
	for _, sc := range t.Scenarios {
		named("scenario", sc.Name)
		if sc.Promise == "" || sc.Source == "" {
			wrong("scenario", sc.Name, "it must have a Promise and a Source")
		}
		if len(sc.Actors) == 0 && sc.Cycle == nil {
			wrong("scenario", sc.Name, "it has neither Actors nor a Cycle")
		}
	}
	for _, w := range t.Workloads {
		named("workload", w.Name)
	}
	return errors.Join(errs...)
}

// Tests returns the names of the tests that the transitions make, without
// "Test", in their order.
func (t Tables) Tests() []string {
	var names []string
	for i := range t.Transitions {
		if name := t.Transitions[i].test(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
