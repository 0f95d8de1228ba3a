package suite

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// OpTimeout bounds one operation. The kernel itself gives a CPU 10 s to come or
// go.
const OpTimeout = 60 * time.Second

// TaskTimeout bounds the wait for a task that must go on. The promise is that
// it does, not how soon; a task that is not scheduled for so long on a machine
// with idle CPUs is lost.
const TaskTimeout = 10 * time.Second

// PollTimeout is for how long a broken promise is looked at, if it must not be
// broken for longer by design: see [Invariant.Lag]. The window of 2021 was 5 to
// 30 ms.
const PollTimeout = time.Second

// hang is the first thing that has not finished, and never will. The zero hang
// is none. Several goroutines may note one at once.
type hang struct{ what atomic.Pointer[string] }

// hung is that of this process: the lock and the snapshot go to the
// supervisor with it, so no other suite can run in the process.
var hung hang

// note keeps what has hung, unless something had before.
func (h *hang) note(what string) { h.what.CompareAndSwap(nil, &what) }

// any reports whether something has hung.
func (h *hang) any() bool { return h.what.Load() != nil }

// err is the error of what cannot be done any more, or nil.
func (h *hang) err() error {
	what := h.what.Load()
	if what == nil {
		return nil
	}
	return fmt.Errorf("%s has not finished, and may hold the kernel's locks", *what)
}

// limits are how long the machinery waits.
type limits struct {
	op    time.Duration // for one operation
	whole time.Duration // without any progress
}

// limitsFor returns the limits on a machine with so many CPUs: a single write
// to SMT control or to power/state takes many CPUs along.
func limitsFor(cpus int) limits {
	return limits{OpTimeout, OpTimeout + TaskTimeout + time.Duration(cpus)*time.Second}
}

// Progress tells that what runs goes on, though it takes long, as on a machine
// that is busy. An operation with its checks that makes none for more than a
// minute is taken for one that hangs.
func (m *Machine) Progress() { m.progress.Add(1) }

// bounded runs f. If f makes no progress any more it is not waited for: it can
// hang in the kernel for good.
func bounded[T any](m *Machine, what string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	look := time.NewTicker(min(time.Second, m.limits.whole))
	defer look.Stop()
	for progress, at := m.progress.Load(), time.Now(); ; {
		select {
		case r := <-done:
			return r.value, r.err
		case <-look.C:
			if now := m.progress.Load(); now != progress {
				progress, at = now, time.Now()
			} else if time.Since(at) > m.limits.whole {
				var none T
				return none, m.stuck(what, m.limits.whole)
			}
		}
	}
}

// bounded is [bounded] for what has no value.
func (m *Machine) bounded(what string, f func() error) error {
	_, err := bounded(m, what, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// stuck is the error of something that has not finished within the limit, with
// what the kernel knows of it.
func (m *Machine) stuck(what string, limit time.Duration) error {
	m.hang.note(what)
	if m.real {
		hung.note(what)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s has not finished within %v", what, limit)
	if present, err := m.CPUs.Present(); err == nil {
		for cpu := range present.All() {
			if state, target, err := m.CPUs.State(cpu); err == nil {
				fmt.Fprintf(&b, "\n    cpu%d hotplug state %d, target %d", cpu, state, target)
			}
		}
	}
	b.WriteString(m.log.blockedTasks())
	return errors.New(b.String())
}
