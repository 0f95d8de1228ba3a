package explore

import (
	"slices"
	"strings"
)

// Left is what a sequence has left of itself, though all was undone. It may be
// another defect than the law that the sequence has broken.
type Left struct {
	// Violation is of the law "undone", or of "kernel-log".
	Violation Violation

	// Steps are the sequence, and what undid it.
	Steps []Line
}

// spoiled finds out how the machine differs from what it was before the
// sequence, now that all of it is undone. rest are the lines that did so and
// are not among the steps. What is late has time to settle.
func (w *walk) spoiled(rest []Line) error {
	var changed []Key
	now, err := w.runner.settle(func(now *Snapshot) bool {
		changed = differences(w.base, now, ofSequence)
		return len(changed) == 0
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	w.outcome.Spoiled = story(w.base, now, changed) + ", though all was undone"
	w.outcome.Left = w.left(now, changed, rest)
	return nil
}

// left returns what the state now shows of the sequence, or nil if the sequence
// is known to break the law.
func (w *walk) left(now *Snapshot, changed []Key, rest []Line) *Left {
	isUndone := func(v Violation) bool { return v.Law == undoneLaw.Name }
	if slices.ContainsFunc(w.outcome.Broken, isUndone) {
		return nil
	}
	broken := Judge([]Law{undoneLaw}, w.runner.Facts.Version, &Case{Base: w.base, After: now})
	if len(broken) == 0 { // a cgroup or a CPU did not go back, so that the law says nothing
		broken = []Violation{{
			Law: undoneLaw.Name, Touches: "refused, " + strings.Join(names(changed), ", "),
			Seen: w.outcome.Spoiled, Facts: now.facts(changed...),
		}}
	}
	broken[0].Lasted = stayed
	return &Left{broken[0], slices.Concat(w.outcome.Steps, rest)}
}
