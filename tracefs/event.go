package tracefs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// Marker is the name of the events that [Instance.Mark] records.
const Marker = "tracing_mark_write"

// A Context is what the kernel was doing when an event happened.
type Context byte

// Contexts. Only in [Task] context is the thread the cause of what happens.
const (
	Task    Context = iota // a system call, a fault, or a kernel thread
	SoftIRQ                // a softirq, also one that is served by ksoftirqd
	HardIRQ
	NMI
)

func (c Context) String() string {
	names := [...]string{"task", "softirq", "hardirq", "NMI"}
	if int(c) >= len(names) {
		return fmt.Sprintf("Context(%d)", byte(c))
	}
	return names[c]
}

// An Event is one that was recorded.
type Event struct {
	// Comm is the name of the thread that was running, "<...>" if the kernel
	// has forgotten it.
	Comm string
	// TID is the thread that was running; 0 is the idle thread of the CPU.
	TID int
	// CPU is the CPU on which it happened.
	CPU int
	// Context is what the CPU was doing.
	Context Context
	// Time is by the clock of the instance, in whole microseconds.
	Time time.Duration
	// Name is the event's name without its system, such as "sched_switch".
	Name string
	// Args is what the kernel prints of the event, such as "comm=sh pid=12".
	Args string
	// Stack is the kernel's stack, innermost function first, if it was
	// recorded; see [Instance.Stacks].
	Stack []string
}

// String returns the event as the kernel prints it, roughly.
func (e Event) String() string {
	return fmt.Sprintf("%s-%d [%03d] %v %.6f: %s: %s", e.Comm, e.TID, e.CPU, e.Context, e.Time.Seconds(), e.Name, e.Args)
}

// nameColumns is how wide the kernel prints the name of a thread before an
// event, in bytes:
//
//	cpuhp/3-29      [003] d..1.    13.232904: workqueue_queue_work: work struct=…
//
// The name may have any character, a dash and a newline included.
const nameColumns = 16

// header takes a line apart: an event without name and arguments, and the text
// that has those. A regular expression would take most of the time that a
// program spends on a trace.
func header(line string) (e Event, text string, ok bool) {
	if len(line) <= nameColumns {
		return e, "", false
	}
	s := scanner{rest: line[nameColumns:]}
	s.skip("-")
	e.TID = s.number(1, 10)
	s.skip(" ")
	s.blanks()
	s.skip("[")
	e.CPU = s.number(3, 9)
	s.skip("] ")
	// The flags have four characters, five since v5.15, and seven with the
	// patches of PREEMPT_RT before v6.12.
	flags, rest, _ := strings.Cut(s.rest, " ")
	s.rest = rest
	s.blanks()
	seconds := s.number(1, 10)
	s.skip(".")
	micros := s.number(6, 6)
	s.skip(": ")
	if s.failed || len(flags) < 4 || len(flags) > 8 {
		return e, "", false
	}
	e.Comm, e.Context = strings.TrimLeft(line[:nameColumns], " "), context(flags)
	e.Time = time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond
	return e, s.rest, true
}

// A scanner takes a text apart from its beginning.
type scanner struct {
	rest   string
	failed bool
}

// skip skips what must be there.
func (s *scanner) skip(text string) {
	rest, ok := strings.CutPrefix(s.rest, text)
	s.rest, s.failed = rest, s.failed || !ok
}

func (s *scanner) blanks() { s.rest = strings.TrimLeft(s.rest, " ") }

// number takes a number of so many digits.
func (s *scanner) number(least, most int) (n int) {
	digits := 0
	for digits < len(s.rest) && digits < most && '0' <= s.rest[digits] && s.rest[digits] <= '9' {
		n = 10*n + int(s.rest[digits]-'0')
		digits++
	}
	s.rest, s.failed = s.rest[digits:], s.failed || digits < least
	return n
}

// stackName is printed in place of the name of an event that is the stack of
// the event before it.
const stackName = "<stack trace>"

// recorders are how the names of the functions begin that record an event and
// its stack.
var recorders = []string{"__traceiter_", "trace_event_", "event_triggers_", "__trace_stack", "stacktrace_trigger"}

// lostLine matches the line that stands for events that were overwritten before
// they were read. The kernel prints tooBig in place of an entry that is longer
// than what it prints at once (v6.7).
var lostLine = regexp.MustCompile(`^CPU:[0-9]+ \[LOST (?:[0-9]+ )?EVENTS\]$`)

const tooBig = "[LINE TOO BIG]"

// A parser parses the text of trace or trace_pipe line by line.
type parser struct {
	// stacked are the kinds of events of which some have stacks, and whether
	// only those in [Task] context have one.
	stacked map[string]bool

	rest    string      // of a line whose end was not read
	begun   string      // lines that may be the beginning of a name with newlines
	inStack bool        // the lines that follow are a stack
	stackOf int         // index of the event that it belongs to; -1: it was not read
	last    map[key]int // indexes of events whose stack was not read
	due     map[key]int // those of them whose stack may be the next that comes
	events  []Event
	held    int    // of these, what the last take left behind
	entries uint64 // events and stacks, as the kernel counts them
	lost    []string
}

// A key says which event a stack belongs to: the last one of the same CPU,
// thread and context. An interrupt may record events between an event and its
// stack.
type key struct {
	cpu, tid int
	context  Context
}

// parse takes in text. It fails if a line is nothing that the kernel prints.
func (p *parser) parse(text string) error {
	text = p.rest + text
	end := strings.LastIndexByte(text, '\n') + 1
	p.rest = text[end:]
	for line := range strings.Lines(text[:end]) {
		if err := p.line(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) line(line string) error {
	if p.inStack {
		if symbol, ok := strings.CutPrefix(line, " => "); ok {
			p.frame(symbol)
			return nil
		}
		p.inStack = false
	}
	if e, text, ok := header(line); ok {
		p.endBegun()
		return p.event(e, text)
	}
	if line == tooBig {
		p.entries++
	}
	if line == tooBig || lostLine.MatchString(line) {
		p.lost = append(p.lost, line)
		return nil
	}
	if p.begun != "" {
		if e, text, ok := header(p.begun + "\n" + line); ok {
			p.begun = ""
			return p.event(e, text)
		}
	}
	if line == "" || strings.HasPrefix(line, "#") && len(p.events) == 0 {
		return nil
	}
	if p.begun != "" {
		line = p.begun + "\n" + line
	}
	// A name with newlines is short. All else belongs to the arguments of the
	// event before it, which may print such a name.
	p.begun = line
	if len(p.begun) > 64 {
		if len(p.events) == 0 {
			return fmt.Errorf("line %q is no event", p.begun)
		}
		p.endBegun()
	}
	return nil
}

// endBegun adds lines that were not the beginning of a header to the event
// before them.
func (p *parser) endBegun() {
	if p.begun != "" && len(p.events) > 0 {
		p.events[len(p.events)-1].Args += "\n" + p.begun
	}
	p.begun = ""
}

// event takes in what [header] returned.
func (p *parser) event(e Event, text string) error {
	p.entries++
	k := key{e.CPU, e.TID, e.Context}
	// Only an interrupt comes between an event and its stack.
	maps.DeleteFunc(p.due, func(of key, _ int) bool { return of.cpu == k.cpu && of.context >= k.context })
	if text == stackName {
		n, ok := p.last[k]
		if !ok {
			n = -1
		}
		delete(p.last, k) // an event has one
		p.inStack, p.stackOf = true, n
		return nil
	}
	var ok bool
	if e.Name, e.Args, ok = strings.Cut(text, ":"); !ok || e.Name == "" || strings.ContainsAny(e.Name, " \n") {
		return fmt.Errorf("%q, which thread %d recorded, has no event's name", text, e.TID)
	}
	e.Args = strings.TrimPrefix(e.Args, " ")
	if p.last == nil {
		p.last, p.due = make(map[key]int), make(map[key]int)
	}
	p.last[k] = len(p.events)
	if inTask, ok := p.stacked[e.Name]; ok && (e.Context == Task || !inTask) {
		p.due[k] = len(p.events)
	}
	p.events = append(p.events, e)
	return nil
}

// frame adds a function to the stack of the event that the same thread recorded
// last on the same CPU. The functions that record it are left out.
func (p *parser) frame(symbol string) {
	n := p.stackOf
	if n >= 0 && !slices.ContainsFunc(recorders, func(prefix string) bool { return strings.HasPrefix(symbol, prefix) }) {
		p.events[n].Stack = append(p.events[n].Stack, symbol)
	}
}

// take returns the events that were parsed, and forgets them. Except if all are
// wanted, it leaves behind those from the first whose stack may still come, once:
// the next take returns them, with the stack or without.
func (p *parser) take(all bool) (events []Event, lost []string) {
	p.endBegun()
	n := len(p.events)
	for _, due := range p.due {
		if !all && due >= p.held {
			n = min(n, due)
		}
	}
	events, lost = p.events[:n:n], p.lost
	next := parser{stacked: p.stacked, rest: p.rest, inStack: p.inStack, stackOf: max(p.stackOf-n, -1)}
	next.events = slices.Clone(p.events[n:])
	next.held = len(next.events)
	next.last, next.due = behind(p.last, n), behind(p.due, n)
	*p = next
	return events, lost
}

// behind returns the indexes of events when the first n are gone.
func behind(indexes map[key]int, n int) map[key]int {
	left := make(map[key]int)
	for k, i := range indexes {
		if i >= n {
			left[k] = i - n
		}
	}
	return left
}

// context parses the flags of an event, the third of which says in what context
// it happened. If there are seven it is the fourth: before it is one that says
// whether a lazy preemption is due.
func context(flags string) Context {
	at := 2
	if len(flags) > 5 {
		at = 3
	}
	switch flags[at] {
	case 'h', 'H':
		return HardIRQ
	case 's':
		return SoftIRQ
	case 'z', 'Z':
		return NMI
	}
	return Task
}

// Parse parses the text of a file trace or trace_pipe that was written with the
// options of [FS.Create]. The error wraps [ErrLost] if the text says that
// events were lost; the others are returned with it. Any other error says that
// the text is no trace.
func Parse(text string) ([]Event, error) {
	var p parser
	err := p.parse(text + "\n")
	if err == nil && p.begun != "" && len(p.events) == 0 {
		err = fmt.Errorf("line %q is no event", p.begun)
	}
	if err != nil {
		return nil, syserr.In("tracefs", err)
	}
	events, lost := p.take(true)
	if len(lost) > 0 {
		return events, fmt.Errorf("%w: %s", ErrLost, strings.Join(lost, ", "))
	}
	return events, nil
}
