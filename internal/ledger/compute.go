package ledger

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// An item is a work, a timer or a callback, by the address that the trace
// prints.
type item struct {
	kind    Kind
	address string
}

// A computation is the state of [Compute] between two events.
type computation struct {
	ledger      *Ledger
	names       map[int]string
	writer      int
	within      []string // of the writer; nil: inWrite
	begin, back time.Duration

	// Indexes are those of ledger.Deferrals.
	pending map[item]int // what was put off and has not started
	running map[item]int // what has started and not finished
	runs    map[int]int  // by thread: what it runs of that
	timers  map[int]int  // by CPU: delayed work whose timer expires right now
	stopper map[int]bool // threads migration/N that work for the operation
	woken   map[int]int  // threads that were woken and have not run
	current map[int]int  // by CPU: the thread that it runs
}

// phase is what an event says of an item.
type phase int

const (
	queue phase = iota
	start
	finish
	instant // start and finish: the end is not traced
)

// phases are the events that say so in the same words for each kind.
var phases = map[string]struct {
	kind  Kind
	phase phase
}{
	"workqueue_queue_work":             {Work, queue},
	"workqueue_execute_start":          {Work, start},
	"workqueue_execute_end":            {Work, finish},
	"sched_kthread_work_queue_work":    {KthreadWork, queue},
	"sched_kthread_work_execute_start": {KthreadWork, start},
	"sched_kthread_work_execute_end":   {KthreadWork, finish},
	"csd_queue_cpu":                    {SMPCall, queue},
	"csd_function_entry":               {SMPCall, start},
	"csd_function_exit":                {SMPCall, finish},
	"rcu_callback":                     {Callback, queue},
	"rcu_invoke_callback":              {Callback, instant},
}

var (
	// address matches the item's address, function its function.
	address  = regexp.MustCompile(`(?:work struct[= ]|timer=|csd=|rhp=)(\(?[0-9a-zA-Z_]+\)?)`)
	function = regexp.MustCompile(`(?:function[= ]|func=)([^ ,]+)`)
	// wakingTID matches the thread that is woken. Its name comes before that,
	// and may have blanks.
	wakingTID = regexp.MustCompile(`(?s)^comm=.* pid=([0-9]+) prio=`)
	// switchTIDs matches the thread that leaves a CPU, its state, and the one
	// that gets it.
	switchTIDs = regexp.MustCompile(`(?s)^prev_comm=.{0,15}? prev_pid=([0-9]+) prev_prio=-?[0-9]+ prev_state=([^ ]+) ==> next_comm=.* next_pid=([0-9]+) next_prio=`)
	forkTIDs   = regexp.MustCompile(`(?s)^comm=.* pid=([0-9]+) child_comm=(.*) child_pid=([0-9]+)$`)
)

// hashless is what the kernel prints of an address before it has the random
// numbers to hide it.
const hashless = "(____ptrval____)"

// delayedWorkTimer is the function of the timers behind delayed work.
const delayedWorkTimer = "delayed_work_timer_fn"

func (c *computation) event(e tracefs.Event) error {
	if p, ok := phases[e.Name]; ok {
		return c.item(e, p.kind, p.phase)
	}
	switch e.Name {
	case "timer_start", "timer_cancel", "timer_expire_entry":
		return c.timer(e)
	case "timer_expire_exit":
		delete(c.timers, e.CPU)
	case "sched_waking":
		return c.waking(e)
	case "sched_switch":
		return c.switched(e)
	case "sched_process_fork":
		return c.fork(e)
	}
	return nil
}

// cause returns in whose name a thread acts at an event, if it is the
// operation's.
func (c *computation) cause(e tracefs.Event) (thread, context string, ok bool) {
	if e.Context != tracefs.Task || e.Time < c.begin || e.Time > c.back {
		return "", "", false
	}
	name := c.name(e.TID)
	if n, ok := c.runs[e.TID]; ok {
		return name, c.ledger.Deferrals[n].Function, true
	}
	switch {
	case e.TID == c.writer && c.inOperation(e.Stack):
		return "the write", "the write", true
	case strings.HasPrefix(name, "cpuhp/"), c.stopper[e.TID]:
		return name, name, true
	case e.TID == 0 && comesOrGoes(e.Stack):
		return fmt.Sprintf("cpu%d's idle thread", e.CPU), "the CPU's way up or down", true
	}
	return "", "", false
}

// inWrite are the functions of a write(2) to sysfs that do what the file is
// for, the second before v5.11. Those above them also tell whoever watches the
// file.
var inWrite = []string{"kernfs_fop_write_iter", "kernfs_fop_write"}

// inOperation reports whether the thread that does the operation is in it, by
// the stack if there is one. The thread also opens and closes the file, tells
// whoever watches it, and ends system calls with work that others have left to
// it.
func (c *computation) inOperation(stack []string) bool {
	within := c.within
	if within == nil {
		within = inWrite
	}
	return len(stack) == 0 || slices.ContainsFunc(stack, func(f string) bool { return slices.Contains(within, f) })
}

// moved reports whether a timer was not started, but moved from a CPU that goes
// offline.
func moved(stack []string) bool { return slices.Contains(stack, "timers_dead_cpu") }

// comesOrGoes reports whether an idle thread is still, or already, part of the
// way of its CPU up or down.
func comesOrGoes(stack []string) bool {
	return slices.ContainsFunc(stack, func(f string) bool {
		return f == "notify_cpu_starting" || f == "cpuhp_online_idle" || f == "cpuhp_report_idle_dead"
	})
}

func (c *computation) name(tid int) string {
	if name, ok := c.names[tid]; ok {
		return name
	}
	return "thread " + strconv.Itoa(tid)
}

// parseItem returns the address and the function that an event prints.
func parseItem(e tracefs.Event, kind Kind) (item, string, error) {
	a := address.FindStringSubmatch(e.Args)
	if a == nil {
		return item{}, "", fmt.Errorf("ledger: event %v has no address", e)
	}
	if a[1] == hashless {
		return item{}, "", fmt.Errorf("ledger: the kernel does not print addresses yet: it has no random numbers to hide them (event %v)", e)
	}
	name := ""
	if f := function.FindStringSubmatch(e.Args); f != nil {
		name = f[1]
	}
	return item{kind, a[1]}, name, nil
}

// remoteWakeup is the function of the SMP calls by which a CPU has another one
// wake a thread. sched_waking tells who is woken.
const remoteWakeup = "sched_ttwu_pending"

// irqWork begins what is printed of an SMP call that is none: irq_work on
// another CPU is queued as one is, and nobody can see it run.
const irqWork = " callsite=irq_work_queue_on+"

func (c *computation) item(e tracefs.Event, kind Kind, phase phase) error {
	it, name, err := parseItem(e, kind)
	if err != nil {
		return err
	}
	if kind == SMPCall && (name == remoteWakeup || strings.Contains(e.Args, irqWork)) {
		return nil
	}
	switch phase {
	case queue:
		c.queue(e, it, name)
	case start, instant:
		c.start(e, it, name, phase == instant)
	case finish:
		if n, ok := c.running[it]; ok {
			c.ledger.Deferrals[n].Finished = e.Time
			delete(c.running, it)
			// What an interrupt or a softirq runs is not what its thread does.
			if running, ok := c.runs[e.TID]; ok && running == n {
				delete(c.runs, e.TID)
			}
		}
	}
	return nil
}

// queue notes that an item was put off.
func (c *computation) queue(e tracefs.Event, it item, name string) {
	if n, ok := c.timers[e.CPU]; ok && it.kind == Work && e.Context == tracefs.SoftIRQ {
		// It is the work behind a timer. A timer queues one.
		delete(c.timers, e.CPU)
		c.ledger.Deferrals[n].Function = name
		c.pending[it] = n
		return
	}
	c.drop(e, it)
	if thread, context, ok := c.cause(e); ok {
		c.pending[it] = c.add(e, it.kind, name, thread, context)
	}
}

// drop notes that an item which is put off anew was cancelled in between.
func (c *computation) drop(e tracefs.Event, it item) {
	n, ok := c.pending[it]
	if !ok {
		return
	}
	delete(c.pending, it)
	if d := &c.ledger.Deferrals[n]; !d.Dropped {
		d.Dropped, d.Finished = true, e.Time
	}
}

// add adds a deferral and returns its index.
func (c *computation) add(e tracefs.Event, kind Kind, name, thread, context string) int {
	c.ledger.Deferrals = append(c.ledger.Deferrals, Deferral{
		Kind: kind, Function: name, QueuedBy: thread, Context: context, Stack: e.Stack, Queued: e.Time,
	})
	return len(c.ledger.Deferrals) - 1
}

// start notes that an item is being run. What it puts off in turn is the
// operation's if it runs in a thread.
func (c *computation) start(e tracefs.Event, it item, name string, instant bool) {
	n, ok := c.pending[it]
	if !ok {
		return
	}
	delete(c.pending, it)
	d := &c.ledger.Deferrals[n]
	d.Started, d.Function = e.Time, name
	if instant {
		d.Finished = e.Time
		return
	}
	c.running[it] = n
	if e.Context == tracefs.Task && it.kind != SMPCall {
		c.runs[e.TID] = n
	}
}

// timer notes what happens to a timer behind delayed work.
func (c *computation) timer(e tracefs.Event) error {
	it, name, err := parseItem(e, DelayedWork)
	if err != nil {
		return err
	}
	n, ok := c.pending[it]
	switch e.Name {
	case "timer_start":
		if moved(e.Stack) {
			// The kernel has said that it was cancelled.
			if d := c.deferral(n, ok); d != nil {
				d.Dropped, d.Finished = false, 0
			}
			return nil
		}
		c.drop(e, it)
		if thread, context, ok := c.cause(e); ok && name == delayedWorkTimer {
			c.pending[it] = c.add(e, DelayedWork, "", thread, context)
		}
	case "timer_cancel":
		// The kernel says so of a timer that expires, too, before it says that.
		if d := c.deferral(n, ok); d != nil {
			d.Dropped, d.Finished = true, e.Time
		}
	case "timer_expire_entry":
		if d := c.deferral(n, ok); d != nil {
			d.Dropped, d.Finished = false, 0
			delete(c.pending, it)
			c.timers[e.CPU] = n
		}
	}
	return nil
}

func (c *computation) deferral(n int, ok bool) *Deferral {
	if !ok {
		return nil
	}
	return &c.ledger.Deferrals[n]
}

// waking notes that a kernel thread is woken in the operation's name. Workers
// of workqueues are left out: what they are woken for is in the ledger as work.
func (c *computation) waking(e tracefs.Event) error {
	match := wakingTID.FindStringSubmatch(e.Args)
	if match == nil {
		return fmt.Errorf("ledger: event %v does not say who is woken", e)
	}
	tid, _ := strconv.Atoi(match[1])
	name, kernel := c.names[tid]
	thread, context, ok := c.cause(e)
	if !ok || !kernel || strings.HasPrefix(name, "kworker/") {
		return nil
	}
	if strings.HasPrefix(name, "migration/") {
		c.stopper[tid] = true
	}
	if _, ok := c.woken[tid]; ok {
		return nil
	}
	n := c.add(e, Thread, name, thread, context)
	for _, current := range c.current {
		if current == tid {
			// It was about to sleep, and goes on instead.
			d := &c.ledger.Deferrals[n]
			d.Started, d.Finished = e.Time, e.Time
			return nil
		}
	}
	c.woken[tid] = n
	return nil
}

// switched notes which thread has got a CPU.
func (c *computation) switched(e tracefs.Event) error {
	match := switchTIDs.FindStringSubmatch(e.Args)
	if match == nil {
		return fmt.Errorf("ledger: event %v does not say which threads", e)
	}
	prev, _ := strconv.Atoi(match[1])
	next, _ := strconv.Atoi(match[3])
	if !strings.HasPrefix(match[2], "R") {
		delete(c.stopper, prev)
	}
	c.current[e.CPU] = next
	if n, ok := c.woken[next]; ok {
		delete(c.woken, next)
		d := &c.ledger.Deferrals[n]
		d.Started, d.Finished = e.Time, e.Time
	}
	return nil
}

// kthreadd is the thread that makes the kernel's threads.
const kthreadd = 2

func (c *computation) fork(e tracefs.Event) error {
	match := forkTIDs.FindStringSubmatch(e.Args)
	if match == nil {
		return fmt.Errorf("ledger: event %v does not say which threads", e)
	}
	if parent, _ := strconv.Atoi(match[1]); parent == kthreadd {
		child, _ := strconv.Atoi(match[3])
		// It gives itself its name later.
		if _, ok := c.names[child]; !ok {
			c.names[child] = "new kernel thread " + match[3]
		}
	}
	return nil
}
