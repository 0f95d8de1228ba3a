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
// not unique or not fit for a test, a promise without a source, a row or an actor
// that does nothing, a CPU that goes from or to no state, a boot that there is
// not.
func (t Tables) Check() error {
	c := tableCheck{seen: make(map[string]bool)}
	for _, tr := range t.Transitions {
		c.transition(tr)
	}
	for _, inv := range t.Invariants {
		c.invariant(inv)
	}
	for _, sc := range t.Scenarios {
		c.named("scenario", sc.Name)
		if sc.Promise == "" || sc.Source == "" {
			c.wrong("scenario", sc.Name, "it must have a Promise and a Source")
		}
		if len(sc.Actors) == 0 && sc.Cycle == nil {
			c.wrong("scenario", sc.Name, "it has neither Actors nor a Cycle")
		}
		c.actors("scenario", sc.Name, sc.Actors)
	}
	for _, w := range t.Workloads {
		c.named("workload", w.Name) // one without actors leaves the machine idle
		c.actors("workload", w.Name, w.Actors)
	}
	return errors.Join(c.errs...)
}

// A tableCheck collects what is wrong with rows.
type tableCheck struct {
	errs []error
	seen map[string]bool // kinds and names
}

func (c *tableCheck) wrong(kind, name, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s %q: %s", kind, name, fmt.Sprintf(format, args...)))
}

func (c *tableCheck) named(kind, name string) {
	if name == "" || strings.ContainsAny(name, " \t\n") {
		c.wrong(kind, name, "this is no name for a test")
	}
	if c.seen[kind+name] {
		c.wrong(kind, name, "there are two")
	}
	c.seen[kind+name] = true
}

func (c *tableCheck) transition(tr Transition) {
	c.named("transition", tr.Name)
	if tr.Source == "" || tr.Op == nil {
		c.wrong("transition", tr.Name, "it must have a Source and an Op")
	}
	if !tr.Before.single() || !tr.After.single() {
		c.wrong("transition", tr.Name, "its Before and its After must each be Offline or Online")
	}
	if tr.Uevent == "" && tr.Before != tr.After {
		c.wrong("transition", tr.Name, "a CPU that comes or goes sends a uevent, and it has none")
	}
	if tr.Variants != nil && !tr.RolledBack {
		c.wrong("transition", tr.Name, "it has variants, and is not rolled back")
	}
	if tr.Boot.unknown() {
		c.wrong("transition", tr.Name, "there is no Boot %q", tr.Boot)
	}
}

func (c *tableCheck) invariant(inv Invariant) {
	c.named("invariant", inv.Name)
	if strings.Contains(inv.Name, "/") {
		c.wrong("invariant", inv.Name, "a slash would make a level of tests of its own")
	}
	if inv.Promise == "" || inv.Source == "" || inv.Arm == nil {
		c.wrong("invariant", inv.Name, "it must have a Promise, a Source and an Arm")
	}
	if inv.Boot.unknown() {
		c.wrong("invariant", inv.Name, "there is no Boot %q", inv.Boot)
	}
}

func (c *tableCheck) actors(kind, name string, actors []Actor) {
	for _, a := range actors {
		if a.Begin == nil {
			c.wrong(kind, name, "its actor %q has no Begin", a.Name)
		}
	}
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

// have reports whether [Runner.Run] has anything to run for a name.
func (t Tables) have(name string) bool {
	return slices.ContainsFunc(t.Transitions, func(tr Transition) bool {
		return tr.Name == name || strings.HasPrefix(tr.Name, name+"/")
	})
}
