package suite

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// A LastingError is the error of a [Check] that knows by itself for how long
// the promise was broken: no other look at it is taken.
type LastingError struct {
	// Err is what was seen.
	Err error
	// Window is for how long after the moment that was so; -1: it was still so
	// [PollTimeout] later.
	Window time.Duration
}

func (e *LastingError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *LastingError) Unwrap() error { return e.Err }

// An UncheckedError is the error of a [Check] that could not be made. It says
// nothing of the promise. The test fails by it, or is skipped if Err is an
// [*Unsupported].
type UncheckedError struct{ Err error }

func (e *UncheckedError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *UncheckedError) Unwrap() error { return e.Err }

// lasting takes the window of a broken promise from an error that knows it, and
// reports whether it does.
func (f *Finding) lasting() bool {
	var l *LastingError
	if !errors.As(f.Err, &l) {
		return false
	}
	f.Window, f.Never = l.Window, l.Window < 0
	if f.Never {
		f.Window = PollTimeout
	}
	return true
}

// AfterWrite has f called on the thread that does the operation as soon as its
// write(2) has returned, before anything else. If the operation makes several
// writes, f is called after each. f must not block. It is for [Invariant.Arm],
// and holds for one operation.
func (p *Probe) AfterWrite(f func()) {
	m := p.Machine
	m.afterWrite.Store(&f)
	p.Cleanup(func() { m.afterWrite.Store(nil) })
}

// BeforeOperation has f called right before the operation, on the thread that
// does it: for what would cost the machine time if it had gone on since the
// check was armed. f must not block for long. It is for [Invariant.Arm], and
// holds for one operation.
func (p *Probe) BeforeOperation(f func()) { p.Machine.beforeOperation.add(f) }

// hooks are functions that are called once. Several threads may add some at
// once.
type hooks struct {
	mu   sync.Mutex
	list []func()
}

func (h *hooks) add(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, f)
}

// take returns the functions, and forgets them.
func (h *hooks) take() []func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return list
}

// wrote is called after each write(2) that takes CPUs offline or online or
// suspends.
func (m *Machine) wrote() {
	if f := m.afterWrite.Load(); f != nil {
		m.told.Store(true)
		(*f)()
	}
}

// operate calls [Transition.Op]. An Op that writes by other means than the
// machine's is taken to have written when it returns.
func (o Operation) operate() error {
	o.Machine.told.Store(false)
	err := o.Transition.Op(&o)
	if !o.Machine.told.Load() {
		o.Machine.wrote()
	}
	return err
}

// owners returns the subjects with operations of their own.
func (x *trial) owners() []subject {
	var list []subject
	for i := range x.tables.Invariants {
		inv := &x.tables.Invariants[i]
		// The thread that looks is in the root cpuset also if the CPU is in a
		// partition.
		if at := (subject{inv, x.machine.Root}); inv.Own && x.machine.Booted(inv.Boot) && inv.applies(x.tr, at.from) {
			list = append(list, at)
		}
	}
	return list
}

// own makes a test of each row with operations of its own.
func (x *trial) own(t *testing.T, cpus []int, moment Moment) {
	if x.tr.Together {
		cpus = cpus[len(cpus)-1:]
	}
	eachSubject(t, x.owners(), func(t *testing.T, at subject) {
		x.subject(t, at, cpus, func(able []int) (*result, error) {
			res := &result{}
			return res, x.ownCycles(res, able, moment, at, "")
		})
	})
}

// ownCycles makes the cycles of such a row: as often as the row and
// [Options.Cycles] say on each of the CPUs, but not more once it is broken.
func (x *trial) ownCycles(res *result, cpus []int, moment Moment, at subject, variant string) error {
	m := x.machine
	if err := m.siblings.set(false); err != nil {
		return err
	}
	repeat := m.Options.Cycles
	if !x.tr.Together && x.tr.Variants == nil && x.tr.Before != x.tr.After {
		repeat *= max(at.inv.Repeat, 1)
	}
	for range repeat {
		for _, cpu := range cpus {
			c, err := Operation{m, x.tr, cpu, variant}.alone(at, moment)
			if err != nil {
				return fmt.Errorf("cpu%d: %w", cpu, err)
			}
			res.add(c.Findings[0])
			if len(cpus) > 1 && m.exhaustible() {
				if err := m.bounded(fmt.Sprintf("bringing cpu%d online", cpu), func() error { return m.Ensure(cpu, Online) }); err != nil {
					return err
				}
			}
		}
		if len(res.broken) > 0 {
			break
		}
	}
	return nil
}

// ownVariants says for which of a transition's variants a row gets operations
// of its own: one in four. There are many, and most differ little.
const ownVariants = 4

// ownOfVariant makes the cycles of a variant for the rows with operations of
// their own, reports what is broken, and adds what they saw to whole.
func (x *trial) ownOfVariant(t *testing.T, cpu int, variant string, whole *result) {
	for _, at := range x.owners() {
		if err := at.missing(x.machine, cpu); IsUnsupported(err) {
			continue
		} else if err != nil {
			t.Fatalf("%s: %v", at.inv.Name, err)
		}
		res := &result{}
		if err := x.ownCycles(res, []int{cpu}, AtReturn, at, variant); IsUnsupported(err) {
			t.Run(at.inv.Name, func(t *testing.T) { x.skip(t, err) })
			continue
		} else if err != nil {
			t.Fatalf("%s: %v", x.tr.Name, err)
		}
		res.report(t, x.machine)
		whole.merge(res)
	}
}

// last reports whether a moment is the one after which nothing of the operation
// is to come, which rows with operations of their own are about.
func (x *trial) last(moment Moment) bool {
	all := x.tr.moments()
	return slices.Index(all, moment) == len(all)-1
}
