package suite

import "time"

// Check reports whether a promise is kept at this instant: nil, or what was
// seen instead. It is called on the probing thread, the first time at the
// moment of the probe. If that fails it is called again and again, to find out
// how long it takes until the promise is kept.
type Check func() error

// Invariant is one promise about a CPU that is online or offline: a row of
// [Tables].
type Invariant struct {
	// Name is as in a test's name, without a slash.
	Name string
	// Promise is what holds, as a sentence about "the CPU".
	Promise string
	// Source is where that is promised: a document, or the commit that
	// established it.
	Source string
	// Suspect is what the promise was last broken by, or mended by. "": nothing
	// is known.
	Suspect string
	// SuspectLate is the same for a promise that is broken at first and kept
	// later.
	SuspectLate string
	// Known are defects of some kernels that the row finds.
	Known []Defect

	// Boot is how a machine must be booted for the row to be about it. "": in
	// any way.
	Boot Boot
	// Since, Until and Except say which kernels promise it, as in
	// [Transition].
	Since, Until Version
	Except       []Span

	// Before and After select the transitions that the promise is about, by
	// the CPU's state before and after. 0: any.
	Before, After State
	// Partition limits it to transitions in a partition.
	Partition bool
	// Placed marks a promise that depends on the cpuset of the probing
	// thread: it is checked from every placement.
	Placed bool
	// Soak makes the row part of the soak.
	Soak bool

	// Own gives the row operations of its own, also after a transition of which
	// one cycle serves all rows, and at the last of its moments alone. The
	// thread that arms the check does the operation, in the root cpuset. After
	// a transition that can be done to a CPU once, it shares the operation.
	Own bool
	// Repeat is how many operations a row with Own gets for each that
	// [Options.Cycles] asks for, after a transition that changes the CPU's state
	// and of which each row has its own cycle. It gets no more once the promise
	// is broken. 0: one.
	Repeat int

	// Lag is for how long it may be broken at first, if that is by design;
	// Source says so. 0: it must hold at once.
	Lag time.Duration

	// Needs returns an [*Unsupported] if this machine cannot show the promise.
	// nil: every machine can.
	Needs func(v View) error

	// Arm prepares the check before the transition begins, on the probing
	// thread.
	Arm func(p *Probe) (Check, error)
}

// View is a CPU as it is looked at from a placement.
type View struct {
	Machine *Machine
	CPU     int
	From    *Placement
}

// looked is for how long a broken promise is looked at: not less than it may
// be broken.
func (i *Invariant) looked() time.Duration { return max(PollTimeout, i.Lag) }

// applies reports whether the promise is about what t leaves behind, as seen
// from a placement.
func (i *Invariant) applies(t *Transition, from *Placement) bool {
	before, after, ok := from.view(t)
	if !ok {
		return false
	}
	in := func(s, mask State) bool { return mask == 0 || s&mask != 0 }
	return in(before, i.Before) && in(after, i.After) && (!i.Partition || t.Partition != nil)
}

// subject is an invariant, and the placement that it is looked at from: what a
// test is about, beside the transition and the moment.
type subject struct {
	inv  *Invariant
	from *Placement
}

// missing is an [*Unsupported] if the subject cannot be looked at on a CPU.
func (at subject) missing(m *Machine, cpu int) error {
	if at.inv.Placed && at.from.Enters && at.from.Missing != nil {
		return at.from.Missing
	}
	if err := promised(m.Kernel, at.inv.Since, at.inv.Until, at.inv.Except); err != nil {
		return err
	}
	if at.inv.Needs != nil {
		return at.inv.Needs(View{m, cpu, at.from})
	}
	return nil
}
