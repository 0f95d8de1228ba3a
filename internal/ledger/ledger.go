// Package ledger says what a hotplug operation has set going and left
// unfinished at its return, from trace events.
//
// It is a function of events alone: [Compute] runs on a text as well as on a
// machine. It is internal because its only use is the suite's: what it returns
// has to be judged by a table of the deferrals that are known.
package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// A Kind is a way in which the kernel puts work off.
type Kind string

// Kinds of deferral.
const (
	Work        Kind = "work"         // queue_work()
	DelayedWork Kind = "delayed work" // queue_delayed_work(), whose timer queues the work
	KthreadWork Kind = "kthread work" // kthread_queue_work(), traced since v5.11
	SMPCall     Kind = "SMP call"     // smp_call_function…(), traced since v6.5
	Callback    Kind = "RCU callback" // call_rcu(), traced with CONFIG_RCU_TRACE
	Thread      Kind = "thread"       // a kernel thread that was woken
)

// Events that are filtered.
const (
	waking    = "sched:sched_waking"
	switching = "sched:sched_switch"
)

// Events are those that [Compute] needs, as SYSTEM:EVENT. A kernel need not
// have them all: an event that it lacks is a kind that it cannot tell of.
var Events = []string{
	"workqueue:workqueue_queue_work",
	"workqueue:workqueue_execute_start",
	"workqueue:workqueue_execute_end",
	"timer:timer_start",
	"timer:timer_cancel",
	"timer:timer_expire_entry",
	"timer:timer_expire_exit",
	"sched:sched_kthread_work_queue_work",
	"sched:sched_kthread_work_execute_start",
	"sched:sched_kthread_work_execute_end",
	"csd:csd_queue_cpu",
	"csd:csd_function_entry",
	"csd:csd_function_exit",
	"rcu:rcu_callback",
	"rcu:rcu_invoke_callback",
	waking,
	switching,
	"sched:sched_process_fork",
}

// Stacks are those of [Events] whose stacks say who put work off.
var Stacks = []string{
	"workqueue:workqueue_queue_work",
	"timer:timer_start",
	"sched:sched_kthread_work_queue_work",
	"csd:csd_queue_cpu",
	"rcu:rcu_callback",
	waking,
}

// Required are those of [Events] without which there is no ledger. Every kernel
// since v5.10 with CONFIG_TRACING has them.
var Required = []string{
	"workqueue:workqueue_queue_work",
	"workqueue:workqueue_execute_start",
	"workqueue:workqueue_execute_end",
	"timer:timer_start",
	"timer:timer_expire_entry",
	waking,
	switching,
}

// An Operation is what [Compute] is about.
type Operation struct {
	// Events are those of one instance, by time. They should go on after the
	// return until what was unfinished is finished, or nobody waits any
	// longer.
	Events []tracefs.Event
	// Begin is the text of a mark before the operation, of any thread. Return
	// is that of marks of the thread that does it, each after a write(2); the
	// last counts.
	Begin, Return string
	// Within are kernel functions: what that thread puts off is the
	// operation's if one of them is in its stack. nil: those that write to a file
	// of sysfs.
	Within []string
	// Threads are the names of the kernel's threads by their id; see
	// [Threads]. Those that start meanwhile need not be in it.
	Threads map[int]string
}

// A Deferral is one thing that was put off.
type Deferral struct {
	Kind Kind
	// Function is what is to be done, or the name of the thread. It is empty
	// for delayed work whose timer has not expired.
	Function string
	// QueuedBy is the thread that put it off, such as "cpuhp/3", or "the
	// write" for the thread that runs the operation.
	QueuedBy string
	// Context is why that thread did so in the operation's name: the
	// function of the work that it ran, or the name of the thread.
	Context string
	// Stack is the kernel's stack at that point, innermost function first.
	Stack []string
	// Queued, Started and Finished are times of the trace; 0: it was not
	// seen to happen. A thread has finished when it has begun to run.
	Queued, Started, Finished time.Duration
	// Dropped says that it ended without having run: a timer was cancelled,
	// or work was queued anew, which nothing but a cancellation allows.
	Dropped bool
	// Unfinished says that it was not finished when the operation returned.
	Unfinished bool
	// Lasted is for how long after the return it was unfinished; -1: it was
	// still unfinished at the end of the trace.
	Lasted time.Duration
}

// A Ledger is what an operation has put off, in the order in which it was done.
type Ledger struct {
	Begin, Return time.Duration // times of the marks
	End           time.Duration // time of the last event
	Deferrals     []Deferral
}

// Unfinished returns what was not finished at the return.
func (l *Ledger) Unfinished() []Deferral {
	var left []Deferral
	for _, d := range l.Deferrals {
		if d.Unfinished {
			left = append(left, d)
		}
	}
	return left
}

// Settled reports whether all that the operation has put off was finished
// before the trace ended, so that nothing more can be learned by waiting.
func (l *Ledger) Settled() bool {
	return !slices.ContainsFunc(l.Deferrals, func(d Deferral) bool { return d.Lasted < 0 })
}

// String returns a text such as
//
//	work cpuset_hotplug_workfn, queued by cpuhp/3, unfinished at the return for 4.7ms
func (d Deferral) String() string {
	name := d.Function
	if name == "" {
		name = "(its timer has not expired)"
	}
	text := fmt.Sprintf("%s %s, queued by %s", d.Kind, name, d.QueuedBy)
	if d.Context != d.QueuedBy {
		text += " in " + d.Context
	}
	switch {
	case !d.Unfinished:
		text += ", finished at the return"
	case d.Lasted < 0:
		text += ", unfinished at the return and not finished since"
	case d.Dropped:
		text += fmt.Sprintf(", unfinished at the return, dropped %v later", d.Lasted)
	default:
		text += fmt.Sprintf(", unfinished at the return for %v", d.Lasted)
	}
	return text
}

// Where returns the stack in one line, outermost function last.
func (d Deferral) Where() string { return strings.Join(d.Stack, " <- ") }

// Compute returns what was put off in the operation's name, between its marks:
//   - by the thread that marked the return, while it is in the write of sysfs, or in one
//     of the functions that [Operation] names,
//   - by the threads cpuhp/N, which do nothing else,
//   - by a thread migration/N that one of these has woken, until it sleeps,
//   - by a CPU on its way up or down before it has a thread of its own, and
//   - by work that was put off in the operation's name, while it runs.
//
// What an interrupt or a softirq puts off is nobody's whose thread it
// interrupted, and is not in the ledger, except for the work behind a timer
// that is.
//
// The error says which mark is missing or out of order, or that the trace has
// no addresses to tell one work from another.
func Compute(op Operation) (*Ledger, error) {
	c := &computation{
		ledger:  &Ledger{},
		names:   make(map[int]string),
		pending: make(map[item]int),
		running: make(map[item]int),
		runs:    make(map[int]int),
		timers:  make(map[int]int),
		stopper: make(map[int]bool),
		woken:   make(map[int]int),
		current: make(map[int]int),
	}
	for tid, name := range op.Threads {
		c.names[tid] = name
	}
	if err := c.marks(op); err != nil {
		return nil, err
	}
	for _, e := range op.Events {
		if err := c.event(e); err != nil {
			return nil, err
		}
	}
	return c.conclude(op), nil
}

// marks finds the marks.
func (c *computation) marks(op Operation) error {
	marks := func(text string) (found []tracefs.Event) {
		for _, e := range op.Events {
			if e.Name == tracefs.Marker && e.Args == text {
				found = append(found, e)
			}
		}
		return found
	}
	begins, backs := marks(op.Begin), marks(op.Return)
	if len(begins) != 1 || len(backs) == 0 {
		return fmt.Errorf("ledger: the trace has %d marks %q, want 1, and %d marks %q, want 1 or more", len(begins), op.Begin, len(backs), op.Return)
	}
	begin, back := begins[0], backs[len(backs)-1]
	if back.Time < begin.Time {
		return fmt.Errorf("ledger: mark %q is at %v, before mark %q at %v", op.Return, back.Time, op.Begin, begin.Time)
	}
	c.writer, c.within = back.TID, op.Within
	c.begin, c.back = begin.Time, back.Time
	return nil
}

// conclude says what was unfinished.
func (c *computation) conclude(op Operation) *Ledger {
	l := c.ledger
	l.Begin, l.Return = c.begin, c.back
	if n := len(op.Events); n > 0 {
		l.End = op.Events[n-1].Time
	}
	for n := range l.Deferrals {
		d := &l.Deferrals[n]
		switch {
		case d.Finished == 0:
			d.Unfinished, d.Lasted = true, -1
		case d.Finished > c.back:
			d.Unfinished, d.Lasted = true, d.Finished-c.back
		}
	}
	return l
}
