package suite

import (
	"slices"
	"strings"
	"testing"
)

// Run runs opts.Tables as subtests of t. It skips, with the reason, if the
// machine does not allow it to run, and under -short. With [Options.MustTest]
// it fails if nothing was tested. Its last line of log counts the tests by
// their result.
func Run(t *testing.T, opts Options) {
	if testing.Short() {
		t.Skip("-short: the suite takes CPUs offline")
	}
	concludeRun(t, opts)
	r, err := Open(opts)
	if err != nil {
		SkipOrFail(t, err, opts)
	}
	t.Cleanup(func() {
		if times := r.Times(); times != "" {
			t.Log("\n" + times)
		}
		for _, note := range r.Notes() {
			t.Log(note)
		}
		if err := r.Close(); err != nil {
			t.Errorf("the machine is not as it was found: %v", err)
		}
	})
	r.all(t)
}

// all runs all tables as subtests of t. After a transition that may crash a
// broken kernel there may be no more to test.
func (r *Runner) all(t *testing.T) {
	safe, destructive := r.names()
	run := func(names []string) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) { r.Run(t, name) })
		}
	}
	run(safe)
	t.Run("Scenario", r.RunScenarios)
	run(destructive)
	if r.machine.Options.Soak > 0 {
		t.Run("Soak", r.Soak)
	}
}

// names returns the tests of the transitions, those apart that have one which is
// destructive.
func (r *Runner) names() (safe, destructive []string) {
	add := func(list []string, name string) []string {
		if slices.Contains(list, name) {
			return list
		}
		return append(list, name)
	}
	for i := range r.tables.Transitions {
		switch tr := &r.tables.Transitions[i]; {
		case !r.machine.Booted(tr.Boot):
		case tr.Destructive:
			destructive = add(destructive, tr.test())
		default:
			safe = add(safe, tr.test())
		}
	}
	return slices.DeleteFunc(safe, func(name string) bool { return slices.Contains(destructive, name) }), destructive
}

// Run runs the transitions of a name, or whose name begins with it and a slash,
// as subtests of t: transition/moment/invariant/placement, each with a cycle of
// its own, so that nothing comes between the moment and the check. One
// operation serves both its moments, if both are run, and to take a CPU offline
// before it is brought online serves the tests about that. For tests that the
// flags -run and -skip leave out, nothing is done to the machine. If the tables
// have no transition of the name, t fails.
func (r *Runner) Run(t *testing.T, name string) {
	r.machine.known.call(t, "Test"+name)
	if !r.tables.have(name) {
		t.Errorf("no transition has the name %q, or one that begins with it and a slash", name)
	}
	for i := range r.tables.Transitions {
		tr := &r.tables.Transitions[i]
		if !r.machine.Booted(tr.Boot) {
			continue
		}
		if tr.Name == name {
			r.transition(t, tr)
		} else if rest, ok := strings.CutPrefix(tr.Name, name+"/"); ok {
			t.Run(rest, func(t *testing.T) { r.transition(t, tr) })
		}
	}
}

var errDestructive = Unsupportedf("it may crash a broken kernel: it runs with -destructive")

// transition sets a transition up, runs it, and restores the machine.
func (r *Runner) transition(t *testing.T, tr *Transition) {
	m := r.machine
	counted.group(t)
	if err := m.hang.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	if tr.Destructive && !m.Options.Destructive {
		r.skip(t, errDestructive)
	}
	if !r.anyChosen(t, tr) {
		r.leaveOut(t, tr)
		return
	}
	m.known.watch(t)
	m.log.watchGroup(t, m.known)
	online, err := m.CPUs.Online()
	if err != nil {
		t.Fatal(err)
	}
	var undo undoList
	x, err := bounded(m, "setting up "+tr.Name, func() (*trial, error) { return r.setUp(tr, &undo) })
	// Now, not in a t.Cleanup: the next row may be a subtest of the same test.
	defer func() {
		if m.hang.any() {
			return
		}
		// The set-up may be what keeps the CPUs offline.
		if err := m.bounded("undoing the set-up of "+tr.Name, undo.run); err != nil {
			t.Errorf("undoing the set-up of %s: %v", tr.Name, err)
		}
		if m.hang.any() {
			return
		}
		if err := m.bounded("restoring the CPUs after "+tr.Name, func() error { return m.restore(online) }); err != nil {
			t.Errorf("after %s: %v", tr.Name, err)
		}
	}()
	if err != nil {
		r.skipOrFail(t, "setting up "+tr.Name, err)
	}
	x.run(t)
}
