package suite

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Transition is an operation on one CPU: a row of [Tables].
type Transition struct {
	// Name is as in the name of its test: the part up to the first slash is
	// that of the Test function, after "Test".
	Name string

	// Source is where the outcome of the operation is promised. It is printed
	// if the operation itself does not do what it must.
	Source string

	// Before and After are the CPU's states around the operation.
	Before, After State

	// Uevent is the action of the uevent that the operation sends for the
	// CPU. "": it sends none.
	Uevent string

	// Err is what the operation must fail with. 0: it must succeed.
	Err unix.Errno

	// Op does the operation on the calling thread.
	Op func(o *Operation) error

	// Boot is how a machine must be booted for the row to be about it. "": in
	// any way.
	Boot Boot

	// Since is the first kernel that the row is about, Until the first that it
	// is no longer about. {}: no bound. Except are further ranges of kernels
	// that it is not about.
	Since, Until Version
	Except       []Span

	// Known are defects of some kernels that the row finds. They are named if
	// the operation itself does not do what it must.
	Known []Defect

	// Destructive marks a row that may crash a broken kernel: see [Options].
	Destructive bool

	// Setup prepares the machine once for all cycles. nil: nothing must be
	// prepared, and all of [Facts.Targets] are looked at.
	Setup Setup

	// Prepare brings a CPU into the state before. nil: by a write to its
	// online file.
	Prepare func(m *Machine, cpu int) error

	// Together makes one cycle serve all invariants: for an operation that
	// takes seconds, or takes other CPUs along.
	Together bool
	// Once marks what can be done to a CPU once, so that each moment has a CPU
	// of its own. It implies Together.
	Once bool
	// Sleep makes [AfterResume] the moment of its return.
	Sleep bool
	// RolledBack marks an operation that fails when the CPU is half-way, and
	// goes back from there.
	RolledBack bool
	// Soak makes the row part of the soak.
	Soak bool

	// Partition puts the CPU and the probing threads into a partition. nil:
	// the threads are in the root cpuset and in a child.
	Partition *Partition

	// Variants returns the ways in which it can be done, each of which is a
	// test. They imply Together. It must not change the machine. nil: there is
	// one way.
	Variants func(m *Machine) ([]string, error)
	// Able returns those of the variants that can be done to a CPU. It may
	// change the CPU's state. nil: all can.
	Able func(m *Machine, cpu int, variants []string) ([]string, error)
}

// Setup prepares the machine. The error is an [*Unsupported] if the machine
// cannot do what is to be tested. [Prepared.Undo] is called in each case.
type Setup func(m *Machine) (Prepared, error)

// Prepared is what a [Setup] has done.
type Prepared struct {
	// CPUs are those to look at, of those that the suite may use. nil: all of
	// [Facts.Targets].
	CPUs []int
	// Undo undoes the preparation. nil: nothing must be undone.
	Undo func() error
}

// moments returns those that the transition has.
func (t *Transition) moments() []Moment {
	switch {
	case t.Sleep:
		return []Moment{AfterResume}
	case t.Uevent == "":
		return []Moment{AtReturn}
	default:
		return []Moment{AtUevent, AtReturn}
	}
}

// updatesCpusets reports whether t has the kernel update cpusets. It updates
// them one by one, so many siblings make the stale window longer.
func (t *Transition) updatesCpusets() bool { return t.Before != t.After && t.Partition == nil }

// test is the name of the transition's Test function, without "Test".
func (t *Transition) test() string {
	name, _, _ := strings.Cut(t.Name, "/")
	return name
}

// judge says what is wrong with the outcome of the operation.
func (t *Transition) judge(err error) error {
	switch {
	case t.Err == 0 && err == nil, t.Err != 0 && errors.Is(err, t.Err):
		return nil
	case t.Err == 0:
		return fmt.Errorf("the operation failed: %w", err)
	case err == nil:
		return fmt.Errorf("the operation succeeded, want %s", unix.ErrnoName(t.Err))
	default:
		return fmt.Errorf("%w, want %s", err, unix.ErrnoName(t.Err))
	}
}

// ErrInapplicable is what [Transition.Op] returns if a variant could not be
// made to do what the transition is about: it is left out.
var ErrInapplicable = errors.New("not applicable")

// Operation is a transition that is to be done to a CPU.
type Operation struct {
	Machine    *Machine
	Transition *Transition
	CPU        int
	Variant    string // one of Transition.Variants, or "" if it has none
}

func (o Operation) String() string { return fmt.Sprintf("%s of cpu%d", o.Transition.Name, o.CPU) }

// Outcome is what became of an operation.
type Outcome struct {
	Operation
	Err      error     // of the operation
	Began    time.Time // when Op was called
	Returned time.Time // when Op had returned

	// Watched says that a thread waited for the uevent, and Uevent is when it
	// received it. Zero: none came by the time Op had returned.
	Watched bool
	Uevent  time.Time
}

// do does the operation on the calling thread.
func (o Operation) do() Outcome {
	for _, f := range o.Machine.beforeOperation.take() {
		f()
		o.Machine.progress.Add(1)
	}
	out := Outcome{Operation: o, Began: time.Now()}
	out.Err = o.operate()
	out.Returned = time.Now()
	o.Machine.progress.Add(1)
	return out
}

// toReturn is the time that the operation took.
func (o *Outcome) toReturn() time.Duration { return o.Returned.Sub(o.Began) }

// toUevent is the time from the beginning to the uevent, or 0 if none came.
func (o *Outcome) toUevent() time.Duration {
	if o.Uevent.IsZero() {
		return 0
	}
	return o.Uevent.Sub(o.Began)
}

// missed reports whether a uevent was waited for and did not come.
func (o *Outcome) missed() bool { return o.Watched && o.Uevent.IsZero() }

// failure says what is wrong with the outcome, or "".
func (o *Outcome) failure() string {
	err := o.Transition.judge(o.Err)
	if err == nil {
		return ""
	}
	text := fmt.Sprintf("%v: %v", o.Operation, err)
	if o.Transition.Source != "" {
		text += "\n    source:   " + o.Transition.Source
	}
	return text + knownText(o.Transition.Known, o.Machine.Kernel)
}

// missing says that the uevent did not come.
func (o *Outcome) missing() string {
	return fmt.Sprintf("%v: no %s uevent was sent by the time the operation had returned, so that nothing could be looked at then (device_online(), device_offline(), kobject_uevent_env())",
		o.Operation, o.Transition.Uevent)
}
