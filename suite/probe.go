package suite

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Probe is what an invariant's check is armed with: one CPU, before an
// operation on it, as a thread in a placement sees it.
type Probe struct {
	View

	// State is what the CPU must be in after the transition, as seen from the
	// placement.
	State State
	// Invariant is the promise that is checked.
	Invariant *Invariant
	// Transition is what will be done to the CPU.
	Transition *Transition
	// Moment is when the check will be made.
	Moment Moment

	cleanups []func()
	lost     error     // a task that was spawned and has not finished
	over     time.Time // by when a task that was spawned must have finished
}

// probe returns the probe of a subject on one of the CPUs that an operation is
// about.
func (o Operation) probe(cpu int, at subject, moment Moment) *Probe {
	_, after, _ := at.from.view(o.Transition)
	return &Probe{
		View: View{o.Machine, cpu, at.from}, State: after, Invariant: at.inv, Transition: o.Transition, Moment: moment,
	}
}

// Cleanup adds what must be done after the check, on the probing thread. The
// last is done first. It must not block.
func (p *Probe) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

// Listed is nil if has agrees with the state that the CPU must be in.
// Otherwise it says what was seen, formatted as by [fmt.Sprintf].
func (p *Probe) Listed(has bool, format string, args ...any) error {
	if has == (p.State == Online) {
		return nil
	}
	return fmt.Errorf("%s, but cpu%d is %v", fmt.Sprintf(format, args...), p.CPU, p.State)
}

// Spawn starts a task of its own that is in the probe's cpuset and pinned to
// the CPU, and returns when it is there. stop is called when the probe is over,
// and must make run return.
func (p *Probe) Spawn(run func() error, stop func()) error {
	return p.SpawnIn(p.From.Enter, run, stop)
}

// SpawnIn is [Probe.Spawn] for a task in another cpuset: enter moves the
// calling thread there.
func (p *Probe) SpawnIn(enter, run func() error, stop func()) error {
	ready := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = affinity.Thread(func() error {
			err := enter()
			if err == nil {
				err = Pin(p.CPU)
			}
			ready <- err
			if err != nil {
				return err
			}
			return run()
		})
	}()
	p.Cleanup(func() {
		stop()
		select {
		case <-ended:
		case <-time.After(time.Until(p.over)):
			p.lost = fmt.Errorf("a task that was pinned to cpu%d for it has not finished for %v", p.CPU, TaskTimeout)
		}
	})
	return <-ready
}

// Pin pins the calling thread to a CPU that came online to prepare a probe.
// Whether that works at once is for the probes of Online to tell, so it is
// tried for as long as they look.
func Pin(cpu int) error {
	// It is tried once in any case: a thread may be stopped for longer than the
	// limit before that.
	for end := time.Now().Add(PollTimeout); ; {
		if err := affinity.Set(0, affinity.Of(cpu)); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (p *Probe) cleanup() {
	p.over = time.Now().Add(TaskTimeout)
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}

// onThread gets a thread of its own into the probe's cpuset, arms the check
// there if entered says so, and returns what look finds with it.
func (p *Probe) onThread(entered func() bool, look func(Check) (Finding, error)) (found Finding, err error) {
	err = affinity.Thread(func() (err error) {
		defer func() {
			p.cleanup()
			// A check that failed has said so already.
			if found.Err == nil {
				err = errors.Join(err, p.lost)
			}
		}()
		if err := p.From.Enter(); err != nil {
			return err
		}
		if !entered() {
			return nil
		}
		check, err := p.Invariant.Arm(p)
		if err != nil {
			return err
		}
		found, err = look(check)
		return err
	})
	return found, err
}

// always is for a probe that is armed as soon as it is in its cpuset.
func always() bool { return true }

// Finding is what a look at one CPU at one moment saw.
type Finding struct {
	subject subject
	CPU     int
	Moment  Moment
	Outcome *Outcome      // of the operation before it
	Err     error         // of the first check; nil: the promise was kept
	Looked  time.Duration // from the moment until the first check was over
	Window  time.Duration // from the moment until the promise was kept
	Tries   int           // checks after the first
	Never   bool          // it was not kept while it was looked at

	missing error // an [*Unsupported]: why it could not be looked at
}

// finding is that of a probe whose moment never came.
func (p *Probe) finding() Finding {
	return Finding{subject: subject{p.Invariant, p.From}, CPU: p.CPU, Moment: p.Moment}
}

// first makes the first check, at the moment.
func (p *Probe) first(check Check) Finding {
	err := check()
	f := p.finding()
	f.Err = err
	return f
}

// poll looks at a broken promise until it is kept; at is the moment. The error
// is an [*UncheckedError].
func (f *Finding) poll(check Check, at time.Time) error {
	f.Looked = time.Since(at)
	if unchecked := (*UncheckedError)(nil); errors.As(f.Err, &unchecked) {
		f.Err = nil
		return unchecked
	}
	for f.Err != nil && !f.lasting() {
		f.Tries++
		err := check()
		f.Window = time.Since(at)
		if err == nil {
			if f.Window <= f.subject.inv.Lag {
				f.Err = nil
			}
			return nil
		}
		if f.Window > f.subject.inv.looked() {
			f.Never = true
			return nil
		}
	}
	return nil
}
