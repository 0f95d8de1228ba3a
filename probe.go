package hotplugtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Cycle is one operation on one CPU.
type Cycle struct {
	CPU        int
	Transition *Transition
	Moment     Moment
	Variant    string // which of the transition's variants, if it has any

	suite              *Suite
	begin, moment      time.Time
	toUevent, toReturn time.Duration
	err                error  // of the operation
	missed             bool   // there was no uevent, so no moment to look at
	also               *Probe // looks at the return of the operation, where this cycle is about the uevent
}

func (c *Cycle) String() string { return fmt.Sprintf("%s of cpu%d", c.Transition.Name, c.CPU) }

// Probe is one look at one CPU in one cycle.
type Probe struct {
	CPU       int
	State     State // what the CPU is to be in after the transition, as seen from the placement
	Invariant *Invariant

	cycle     *Cycle
	suite     *Suite
	placement *placement
	cleanups  []func()
	lost      error     // a task that was spawned and has not come to its end
	over      time.Time // when it is cleaned up, whatever has not come to its end by then

	checkErr error         // of the first check
	window   time.Duration // from the moment until the promise was kept
	tries    int           // checks after the first
	never    bool          // it was not kept while it was looked at
}

// probe is what a cycle is to look at, on one CPU.
func (c *Cycle) probe(cpu int, at slot) *Probe {
	_, after, _ := at.place.view(c.Transition)
	return &Probe{CPU: cpu, State: after, Invariant: at.inv, cycle: c, suite: c.suite, placement: at.place}
}

// lookLimit is for how long a broken promise is looked at. The window of 2021 was 5 to 30 ms.
const lookLimit = time.Second

// errInapplicable is what an operation returns that could not be made to do what the transition is about.
var errInapplicable = errors.New("not applicable")

// giveBack gives the CPUs back to a cpuset that loses those that go offline, if it is looked from there. It may have none.
func (c *Cycle) giveBack(cpus []int, probes ...*Probe) error {
	i := slices.IndexFunc(probes, func(p *Probe) bool { return p.placement.losing })
	if i < 0 {
		return nil
	}
	return c.suite.giveBack(probes[i].placement, cpus)
}

// prepare brings the CPUs into the state before.
func (c *Cycle) prepare(cpus []int) error {
	s := c.suite
	for _, cpu := range cpus {
		if c.Transition.Prepare != nil {
			if err := c.Transition.Prepare(s, cpu); err != nil {
				return err
			}
		} else if err := s.put(cpu, c.Transition.Before); err != nil {
			return err
		}
	}
	return s.events.Forget()
}

// put brings a CPU into a state, if it is not in it.
func (s *Suite) put(cpu int, state State) error {
	if online, err := s.cpus.IsOnline(cpu); err != nil || online == (state == Online) {
		return err
	}
	defer s.progress.Add(1)
	return s.cpus.SetOnline(cpu, state == Online)
}

// atReturn is the cycle of who looks at the return of the same operation.
func (c *Cycle) atReturn() *Cycle {
	return &Cycle{CPU: c.CPU, Transition: c.Transition, Moment: AtReturn, suite: c.suite}
}

// alone makes a cycle for one probe, or for one at the uevent and one at the return. The probing thread does the operation
// itself, or is the one that waits for the uevent, so that nothing comes between the moment and the check.
func (c *Cycle) alone(p *Probe) error {
	return c.suite.bounded(c.String(), func() error {
		if err := c.giveBack([]int{p.CPU}, p); err != nil {
			return err
		}
		if err := c.prepare([]int{p.CPU}); err != nil {
			return err
		}
		return p.onThread(always, func(check Check) error {
			return c.run(func() {
				p.checkErr = check()
				p.poll(check)
			})
		})
	})
}

// always is for a probe that is armed as soon as it is in its cpuset.
func always() bool { return true }

// together makes one cycle for many probes, each on a thread of its own. At the moment they check one after the other.
func (c *Cycle) together(cpus []int, probes []*Probe) error {
	return c.suite.bounded(c.String(), func() error { return c.allTogether(cpus, probes) })
}

func (c *Cycle) allTogether(cpus []int, probes []*Probe) error {
	if err := c.giveBack(cpus, probes...); err != nil {
		return err
	}
	// No thread gets into a partition that has no CPU.
	if c.suite.inside != nil {
		if err := c.suite.put(c.CPU, Online); err != nil {
			return err
		}
	}
	type handle struct{ fire, checked chan struct{} }
	handles := make([]handle, len(probes))
	ready := make(chan error) // what a probe has to say when it is in its cpuset, and when it is armed
	arm := make(chan struct{})
	over := make(chan struct{}) // closed when there will be no more moment
	var ended sync.WaitGroup
	for i, p := range probes {
		h := handle{make(chan struct{}), make(chan struct{})}
		handles[i] = h
		ended.Go(func() {
			said := 0
			say := func(err error) {
				said++
				ready <- err
			}
			err := p.onThread(func() bool {
				say(nil)
				select {
				case <-arm:
					return true
				case <-over:
					return false
				}
			}, func(check Check) error {
				say(nil)
				select {
				case <-h.fire:
				case <-over:
					return nil
				}
				p.checkErr = check()
				close(h.checked)
				p.poll(check)
				return nil
			})
			if said < 2 && err != nil {
				say(fmt.Errorf("%s: %w", p.Invariant.Name, err))
			}
		})
	}
	wait := func() error {
		var errs []error
		for range probes {
			errs = append(errs, <-ready)
			c.suite.progress.Add(1)
		}
		return errors.Join(errs...)
	}
	err := wait()
	if err == nil {
		err = c.prepare(cpus)
	}
	if err == nil {
		close(arm)
		err = wait()
	}
	if err == nil {
		err = affinity.Thread(func() error {
			return c.run(func() {
				for _, h := range handles {
					close(h.fire)
					<-h.checked
					c.suite.progress.Add(1)
				}
			})
		})
	}
	close(over)
	ended.Wait()
	return err
}

// bounded runs f, which is not waited for when it makes no progress any more: it can hang in the kernel for good.
func (s *Suite) bounded(what string, f func() error) error {
	// A single write to SMT control or to power/state takes many CPUs along.
	limit := opLimit + goesOn + time.Duration(s.online.Count())*time.Second
	done := make(chan error, 1)
	go func() { done <- f() }()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for progress, at := s.progress.Load(), time.Now(); ; {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if now := s.progress.Load(); now != progress {
				progress, at = now, time.Now()
			} else if time.Since(at) > limit {
				return s.stuck(what, limit)
			}
		}
	}
}

// onThread gets a thread of its own into the probe's cpuset, arms the check there if entered says so, and calls f.
func (p *Probe) onThread(entered func() bool, f func(Check) error) error {
	return affinity.Thread(func() (err error) {
		defer func() {
			p.cleanup()
			// A check that failed has said so already.
			if p.checkErr == nil {
				err = errors.Join(err, p.lost)
			}
		}()
		if err := p.enter(); err != nil {
			return err
		}
		if !entered() {
			return nil
		}
		check, err := p.Invariant.Arm(p)
		if err != nil {
			return err
		}
		return f(check)
	})
}

// run does the operation, and calls look at the moment.
func (c *Cycle) run(look func()) error {
	if c.Moment == AtUevent {
		return c.atUevent(look)
	}
	c.begin = time.Now()
	c.err = c.Transition.Op(c)
	c.moment = time.Now()
	c.suite.progress.Add(1)
	if c.err == errInapplicable {
		return c.err
	}
	look()
	c.toReturn = c.moment.Sub(c.begin)
	return c.suite.events.Drain()
}

// atUevent has another thread do the operation, and looks when this one gets the uevent. It does not sleep until then: a
// thread that has to be woken comes late, and what it is to see may be over.
func (c *Cycle) atUevent(look func()) error {
	var returned atomic.Bool
	begun := make(chan struct{})
	operate := func() {
		c.begin = time.Now()
		close(begun)
		c.err = c.Transition.Op(c)
		c.toReturn = time.Since(c.begin)
		c.suite.progress.Add(1)
		returned.Store(true)
	}
	done := make(chan error, 1)
	go func() {
		if c.also == nil {
			operate()
			done <- nil
			return
		}
		done <- c.also.onThread(always, func(check Check) error {
			operate()
			c.also.atReturnOf(c, check)
			return nil
		})
	}()
	select {
	case <-begun:
	case err := <-done:
		return err
	}
	var err error
	c.moment, err = c.suite.events.Await(c.CPU, c.Transition.Uevent, &returned)
	if err == nil && !c.moment.IsZero() {
		c.toUevent = c.moment.Sub(c.begin)
		look()
	}
	c.missed = c.moment.IsZero()
	return errors.Join(err, <-done, c.suite.events.Drain())
}

// atReturnOf looks at the return of the operation that another cycle has made.
func (p *Probe) atReturnOf(c *Cycle, check Check) {
	p.cycle.begin, p.cycle.err, p.cycle.toReturn = c.begin, c.err, c.toReturn
	p.cycle.moment = c.begin.Add(c.toReturn)
	p.checkErr = check()
	p.poll(check)
}

// poll looks at a broken promise until it is kept.
func (p *Probe) poll(check Check) {
	for p.checkErr != nil {
		p.tries++
		err := check()
		p.window = time.Since(p.cycle.moment)
		if err == nil {
			if p.window <= p.Invariant.Lag {
				p.checkErr = nil
			}
			return
		}
		if p.window > lookLimit {
			p.never = true
			return
		}
	}
}

// spawn starts a task of its own that is in the probe's cpuset and pinned to the CPU, and returns when it is there. stop
// is called when the probe is over, and has to make run return.
func (p *Probe) spawn(run func() error, stop func()) error {
	return p.spawnIn(p.enter, run, stop)
}

// spawnIn starts a task that is where enter puts it.
func (p *Probe) spawnIn(enter, run func() error, stop func()) error {
	ready := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = affinity.Thread(func() error {
			err := enter()
			if err == nil {
				err = pin(p.CPU)
			}
			ready <- err
			if err != nil {
				return err
			}
			return run()
		})
	}()
	p.cleanups = append(p.cleanups, func() {
		stop()
		select {
		case <-ended:
		case <-time.After(time.Until(p.over)):
			p.lost = fmt.Errorf("a task that was pinned to cpu%d for it has not come to its end for %v", p.CPU, goesOn)
		}
	})
	return <-ready
}

// pin pins the calling thread to a CPU that came online to prepare a probe. Whether that works at once is for the probes
// of Online to tell, so it is tried for as long as they look.
func pin(cpu int) (err error) {
	for end := time.Now().Add(lookLimit); time.Now().Before(end); {
		if err = affinity.Set(0, affinity.Of(cpu)); err == nil {
			return nil
		}
	}
	return err
}

// enter moves the calling thread into the probe's cpuset.
func (p *Probe) enter() error {
	if !p.placement.enter {
		return nil
	}
	return p.placement.cpuset.AttachThread(0)
}

func (p *Probe) cleanup() {
	p.over = time.Now().Add(goesOn)
	for _, f := range p.cleanups {
		f()
	}
}
