package suite

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Cycle is one operation, its outcome, and what was found at its moments.
type Cycle struct {
	Outcome  *Outcome
	Findings []Finding
}

// newCycle returns the cycle of an outcome and its findings.
func newCycle(out Outcome, found ...Finding) Cycle {
	c := Cycle{&out, found}
	for i := range c.Findings {
		c.Findings[i].Outcome = c.Outcome
	}
	return c
}

// prepare brings CPUs into the state before the operation, as seen from the
// placements, and begins a new cycle of events.
func (o Operation) prepare(cpus []int) error {
	// A cycle that ended before its operation may have left some.
	o.Machine.beforeOperation.take()
	for _, cpu := range cpus {
		if o.Transition.Prepare != nil {
			if err := o.Transition.Prepare(o.Machine, cpu); err != nil {
				return err
			}
		} else if err := o.Machine.Ensure(cpu, o.Transition.Before); err != nil {
			return err
		}
	}
	time.Sleep(o.Machine.Options.Settle)
	return o.Machine.Events.Forget()
}

// giveBack gives the CPUs back to a cpuset that loses those that go offline, if
// a probe looks from there. It may have none.
func (o Operation) giveBack(cpus []int, probes ...*Probe) error {
	i := slices.IndexFunc(probes, func(p *Probe) bool { return p.From.DropsOffline })
	if i < 0 {
		return nil
	}
	return o.Machine.GiveBack(probes[i].From, cpus)
}

// alone makes a cycle for one subject at one moment, or at both moments of an
// operation that sends a uevent. The probing thread does the operation itself,
// or is the one that waits for the uevent, so that nothing comes between the
// moment and the check. The findings are in the order of the moments.
func (o Operation) alone(at subject, moments ...Moment) (Cycle, error) {
	return bounded(o.Machine, o.String(), func() (Cycle, error) {
		var probes []*Probe
		for _, moment := range moments {
			probes = append(probes, o.probe(o.CPU, at, moment))
		}
		if err := o.giveBack([]int{o.CPU}, probes...); err != nil {
			return Cycle{}, err
		}
		if err := o.prepare([]int{o.CPU}); err != nil {
			return Cycle{}, err
		}
		if moments[0] == AtUevent {
			return o.aloneAtUevent(probes[0], probes[1:])
		}
		return o.aloneAtReturn(probes[0])
	})
}

// aloneAtReturn has the probing thread do the operation.
func (o Operation) aloneAtReturn(p *Probe) (Cycle, error) {
	var out Outcome
	found, err := p.onThread(always, func(check Check) (Finding, error) {
		if out = o.do(); out.Err == ErrInapplicable {
			return Finding{}, out.Err
		}
		f := p.first(check)
		err := f.poll(check, out.Returned)
		return f, errors.Join(err, o.Machine.Events.Drain())
	})
	return newCycle(out, found), err
}

// aloneAtUevent has the probing thread wait for the uevent, and another one do
// the operation: that of the probe at the return, if there is one.
func (o Operation) aloneAtUevent(p *Probe, atReturn []*Probe) (Cycle, error) {
	var out Outcome
	var found []Finding
	looked, err := p.onThread(always, func(check Check) (f Finding, err error) {
		var unchecked error
		f = p.finding()
		out, err = o.atUevent(func(moment time.Time) {
			f = p.first(check)
			unchecked = f.poll(check, moment)
		}, func(operate func() Outcome) error {
			if len(atReturn) == 0 {
				operate()
				return nil
			}
			q := atReturn[0]
			second, err := q.onThread(always, func(check Check) (Finding, error) {
				out := operate()
				f := q.first(check)
				return f, f.poll(check, out.Returned)
			})
			found = append(found, second)
			return err
		})
		return f, errors.Join(unchecked, err)
	})
	return newCycle(out, append([]Finding{looked}, found...)...), err
}

// atUevent has another goroutine do the operation, by a call of around, and
// calls look when this thread has received the uevent. It does not sleep until
// then: see [Events.Await].
func (o Operation) atUevent(look func(moment time.Time), around func(operate func() Outcome) error) (Outcome, error) {
	var out Outcome
	var returned atomic.Bool
	begun := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- around(func() Outcome {
			close(begun)
			out = o.do()
			returned.Store(true)
			return out
		})
	}()
	if err := beginning(begun, done); err != nil {
		return Outcome{}, err
	}
	moment, err := o.Machine.Events.Await(o.CPU, o.Transition.Uevent, &returned)
	if err == nil && !moment.IsZero() {
		look(moment)
	}
	err = errors.Join(err, <-done, o.Machine.Events.Drain())
	out.Watched, out.Uevent = true, moment
	return out, err
}

// beginning waits for the beginning of an operation. If it will not begin, done
// has the error, which is returned. An operation may be over by now: what done
// has is left there then.
func beginning(begun <-chan struct{}, done chan error) error {
	select {
	case <-begun:
		return nil
	case err := <-done:
		select {
		case <-begun:
			done <- err
			return nil
		default:
			return err
		}
	}
}

// together makes one cycle for many probes, each on a thread of its own. At the
// moment they check one after the other. The findings are in the order of the
// probes.
func (o Operation) together(cpus []int, probes []*Probe, moment Moment) (Cycle, error) {
	return bounded(o.Machine, o.String(), func() (Cycle, error) { return o.allTogether(cpus, probes, moment) })
}

func (o Operation) allTogether(cpus []int, probes []*Probe, moment Moment) (c Cycle, err error) {
	if err := o.giveBack(cpus, probes...); err != nil {
		return c, err
	}
	// No thread gets into a partition that has no CPU.
	if slices.ContainsFunc(probes, func(p *Probe) bool { return p.From.Partition != nil }) {
		if err := o.Machine.Ensure(o.CPU, Online); err != nil {
			return c, err
		}
	}
	// A probe can have a thread that computes all the time.
	defer moreProcs(len(probes))()
	g := startGroup(o.Machine, probes)
	if err = g.ready(); err == nil {
		err = o.prepare(cpus)
	}
	if err == nil {
		close(g.arm)
		err = g.ready()
	}
	var out Outcome
	if err == nil {
		err = affinity.Thread(func() (err error) {
			out, err = o.doAndLook(moment, g.look)
			return err
		})
	}
	found, late := g.end()
	return newCycle(out, found...), errors.Join(err, late)
}

// doAndLook does the operation, and calls look at the moment.
func (o Operation) doAndLook(moment Moment, look func(at time.Time)) (Outcome, error) {
	if moment == AtUevent {
		return o.atUevent(look, func(operate func() Outcome) error { operate(); return nil })
	}
	out := o.do()
	if out.Err == ErrInapplicable {
		return out, out.Err
	}
	look(out.Returned)
	return out, o.Machine.Events.Drain()
}

// group is the probes of a cycle that serves many, each on a thread of its own.
type group struct {
	machine *Machine
	members []*member
	checked chan time.Time // gets the moment when all have made their first check
	said    chan error     // what a probe has to say when it is in its cpuset, and when it is armed
	arm     chan struct{}  // closed when they must arm their checks
	over    chan struct{}  // closed when there will be no more moment
	ended   sync.WaitGroup
}

// member is a probe of a group.
type member struct {
	probe *Probe
	fire  chan time.Time // takes the moment
	next  chan time.Time // passes it on when the first check was made
	found Finding
	late  error // what went wrong when it had no more to say
}

// startGroup starts the threads of the probes. The channels have room, as a
// goroutine that has a thread to itself waits at the price of four system calls.
func startGroup(m *Machine, probes []*Probe) *group {
	g := &group{
		machine: m, checked: make(chan time.Time, 1), said: make(chan error, 2*len(probes)), arm: make(chan struct{}), over: make(chan struct{}),
	}
	next := g.checked
	for _, p := range slices.Backward(probes) {
		b := &member{probe: p, fire: make(chan time.Time, 1), next: next}
		next = b.fire
		g.members = append(g.members, b)
	}
	slices.Reverse(g.members)
	for _, b := range g.members {
		g.ended.Go(func() { b.run(g) })
	}
	return g
}

// run is the life of a probe in a group.
func (b *member) run(g *group) {
	said := 0
	say := func(err error) {
		said++
		g.said <- err
	}
	found, err := b.probe.onThread(func() bool {
		say(nil)
		select {
		case <-g.arm:
			return true
		case <-g.over:
			return false
		}
	}, func(check Check) (f Finding, err error) {
		say(nil)
		select {
		case moment := <-b.fire:
			f = b.probe.first(check)
			g.machine.progress.Add(1)
			b.next <- moment
			err = f.poll(check, moment)
		case <-g.over:
			f = b.probe.finding()
		}
		return f, err
	})
	b.found = found
	if err == nil {
		return
	}
	err = fmt.Errorf("%s: %w", b.probe.Invariant.Name, err)
	switch {
	case said == 2 && IsUnsupported(err):
		b.found.missing = err // the others have looked
		return
	case said == 2:
		b.late = err
		return
	}
	select {
	case g.said <- err:
	case <-g.over: // nobody listens any more
		b.late = err
	}
}

// ready waits for all probes to say that they have got so far.
func (g *group) ready() error {
	var errs []error
	for range g.members {
		errs = append(errs, <-g.said)
		g.machine.progress.Add(1)
	}
	return errors.Join(errs...)
}

// look has one probe after the other make its first check.
func (g *group) look(moment time.Time) {
	if len(g.members) > 0 {
		g.members[0].fire <- moment
		<-g.checked
	}
}

// end ends the threads, and returns what they found.
func (g *group) end() (found []Finding, err error) {
	close(g.over)
	g.ended.Wait()
	var errs []error
	for len(g.said) > 0 {
		errs = append(errs, <-g.said) // when nobody listened any more
	}
	for _, b := range g.members {
		found = append(found, b.found)
		errs = append(errs, b.late)
	}
	return found, errors.Join(errs...)
}
