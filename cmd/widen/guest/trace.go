package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/internal/callback"
	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// settleTimeout bounds the wait for what an operation has put off.
const settleTimeout = 3 * time.Second

// deferrals notes what the ledger has of operations, finished or not.
func (g *guest) deferrals(cycles int) error {
	r, err := ledger.NewRecorder(g.fs, "/", g.name("ledger"), nil)
	if err != nil {
		return err
	}
	err = g.cycle(cycles, func(transition string, operate func() error) error {
		l, err := r.Record(operate, settleTimeout)
		if err != nil {
			return err
		}
		for _, d := range l.Deferrals {
			// A thread is no function, and a timer that has not expired
			// has none.
			if d.Kind == ledger.Thread || d.Function == "" {
				continue
			}
			s := suspect.Sighting{Transition: transition, Kind: suspect.Deferred, Function: d.Function, By: d.QueuedBy}
			switch {
			case d.Unfinished && d.Lasted < 0:
				s.Kind, s.Before = suspect.Unfinished, -settleTimeout
			case d.Unfinished:
				s.Kind, s.Before = suspect.Unfinished, -d.Lasted
			default:
				s.Before = l.Return - d.Finished
			}
			g.seen = append(g.seen, s)
		}
		return nil
	})
	return errors.Join(err, r.Close())
}

// Events of calls.
const (
	waking    = "sched:sched_waking"
	switching = "sched:sched_switch"
)

// calls notes the callbacks of hotplug states that ran in operations, what the
// threads of the operation waited in, and what ended that.
func (g *guest) calls(cycles int) error {
	return g.cycle(cycles, func(transition string, operate func() error) error {
		i, err := g.fs.Create(g.name("calls"), nil)
		if err != nil {
			return err
		}
		events, back, err := g.record(i, operate)
		if err = errors.Join(err, i.Close()); err != nil {
			return err
		}
		for _, e := range events {
			for _, s := range sightings(e) {
				s.Transition, s.Before, s.By = transition, back-e.Time, e.Comm
				g.seen = append(g.seen, s)
			}
		}
		return nil
	})
}

// record returns the events of an operation, and the time at which it returned.
func (g *guest) record(i *tracefs.Instance, operate func() error) (events []tracefs.Event, back time.Duration, err error) {
	err = affinity.Thread(func() error {
		// The threads of the operation.
		filter := fmt.Sprintf(`%%s == %d || %%s == "cpuhp/%d"`, unix.Gettid(), g.cpu)
		var errs []error
		for _, event := range callback.Events {
			errs = append(errs, i.Enable(event, ""))
		}
		for event, filter := range map[string]string{
			waking:    fmt.Sprintf(filter, "pid", "comm"),
			switching: fmt.Sprintf(filter, "prev_pid", "prev_comm"),
		} {
			errs = append(errs, i.Enable(event, filter), i.Stacks(event, filter))
		}
		const returned = "returned"
		errs = append(errs, i.Start())
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if err := errors.Join(operate(), i.Mark(returned), i.Stop()); err != nil {
			return err
		}
		if events, err = i.Read(); err != nil {
			return err
		}
		for n, e := range events {
			if e.Name == tracefs.Marker && e.Args == returned {
				events, back = events[:n], e.Time
				return nil
			}
		}
		return errors.New("the trace has no mark of the return")
	})
	return events, back, err
}

// sightings returns the functions that an event of a call tells of.
func sightings(e tracefs.Event) (seen []suspect.Sighting) {
	if function, ok := callback.Function(e); ok && !suspect.Plumbing(function) {
		seen = append(seen, suspect.Sighting{Kind: suspect.Callback, Function: function})
	}
	switch e.Name {
	case "sched_waking":
		for _, f := range suspect.OwnFunctions(e.Stack) {
			seen = append(seen, suspect.Sighting{Kind: suspect.Waker, Function: f})
		}
	case "sched_switch":
		// The one that waits, and not those that have called it.
		if own := suspect.OwnFunctions(e.Stack); len(own) > 0 {
			seen = append(seen, suspect.Sighting{Kind: suspect.Wait, Function: own[0]})
		}
	}
	return seen
}
