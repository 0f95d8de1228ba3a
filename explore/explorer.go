package explore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// An Explorer draws sequences, runs them, and reduces those that break a law.
type Explorer struct {
	Runner *Runner
	Tables Tables

	// Seed decides what is drawn, and First is the number of the first sequence.
	Seed, First uint64

	// Length is the number of steps of a sequence. 0: 40.
	Length int

	// Found are the keys of findings that are counted and not reduced again.
	Found []string

	// Known are findings that are counted and not reduced at all.
	Known []Known

	// Most is the number of new findings that ends the run. 0: no number does.
	Most int

	// Kernel is the release of the kernel, for the findings.
	Kernel string

	// Report is told what happens. nil: nobody is.
	Report func(Event)

	found   []string // keys that are not reduced again
	news    int      // findings that were told of
	spoiled string   // how the machine was spoiled while a finding was reduced
	left    *Left    // the same as a law that is broken
}

// An Event is something that the explorer tells of. One of the fields is set.
type Event struct {
	Begin   *Begin     `json:",omitempty"` // a sequence begins
	Step    *int       `json:",omitempty"` // the step with this number begins
	Broken  *Violation `json:",omitempty"` // a new one, which is about to be reduced
	Finding *Finding   `json:",omitempty"` // a new one, reduced
	Spoiler *Finding   `json:",omitempty"` // a new one, which spoils the machine: it must be reduced in fresh ones
	Again   *string    `json:",omitempty"` // the key of one that is known
	Stats   *Stats     `json:",omitempty"` // so far
	Trouble *string    `json:",omitempty"` // why the machine cannot go on
	Tried   *Tried     `json:",omitempty"` // what became of a sequence that was given
}

// Begin says that a sequence begins.
type Begin struct {
	Number uint64
	Why    string   // "explore", "shrink" or "replay"
	Lines  []string `json:",omitempty"`
	Cgroup int      `json:",omitempty"` // see [Finding]
}

// Tried says what became of a sequence that was given.
type Tried struct {
	Number  uint64
	Steps   []string
	Results []string
	Broken  []Violation
	Log     []string
}

const defaultLength = 40

// Time that a finding may take to be reduced, and how often it is tried then.
const (
	shrinkTime = 2 * time.Minute
	rateTime   = time.Minute
	rateRuns   = 10
	luckyTries = 3
)

// ErrSpoiled is wrapped by the error of [Explorer.Run] if a sequence left a
// machine that is not as it was, or a kernel that has complained of itself: only
// a fresh one can be explored.
var ErrSpoiled = errors.New("what the machine shows from now on proves nothing")

// Run explores until ctx is done. The error says why the machine cannot go on:
// it could not be read, or it wraps [ErrSpoiled].
func (e *Explorer) Run(ctx context.Context) error {
	length := e.Length
	if length == 0 {
		length = defaultLength
	}
	e.found, e.news = slices.Clone(e.Found), 0
	e.Runner.known = func(v Violation) bool { return !e.unknown(v.Key()) }
	defer func() { e.Runner.known = nil }()
	for n := e.First; ctx.Err() == nil && (e.Most == 0 || e.news < e.Most); n++ {
		lines, err := Sequence(e.Seed, n, length, e.Runner.Facts, e.Tables.Actions)
		if err != nil {
			return err
		}
		e.tell(Event{Begin: &Begin{Number: n, Why: "explore", Lines: texts(lines)}})
		out, err := e.Runner.Run(lines, nil)
		if err == nil {
			err = e.broken(ctx, n, out)
		}
		stats := e.Runner.Stats
		e.tell(Event{Stats: &stats})
		if err != nil {
			return fmt.Errorf("sequence %d: %w", n, err)
		}
	}
	return nil
}

// broken tells of the laws that sequence n broke. The error wraps [ErrSpoiled].
func (e *Explorer) broken(ctx context.Context, n uint64, out *Outcome) error {
	spoiled, told := out.Spoiled, false
	for _, v := range out.Broken {
		if key := v.Key(); !e.unknown(key) {
			e.tell(Event{Again: &key})
			continue
		}
		e.tell(Event{Broken: &v})
		f := &Finding{
			Violation: v, Steps: texts(out.Steps), Results: resultTexts(out), Original: len(out.Steps), Kernel: e.Kernel, Log: out.Log,
			Seed: e.Seed, Number: n, Shown: 1, Tried: 1, Cgroup: e.Runner.Facts.Cgroup,
		}
		if spoiled == "" {
			reduced := *f
			if spoiled = e.reduce(ctx, out, v, &reduced); spoiled == "" {
				f = &reduced
			}
		}
		e.found = append(append(e.found, f.Violation.Key()), f.Also...)
		told = true
		if spoiled != "" {
			e.tell(Event{Spoiler: f})
			continue
		}
		e.tell(Event{Finding: f})
	}
	if spoiled != "" {
		if out.Spoiled == "" {
			e.tellLeft(n, e.left)
		} else if !told { // else that is told of
			e.tellLeft(n, out.Left)
		}
		return fmt.Errorf("%w: %s", ErrSpoiled, spoiled)
	}
	return nil
}

// tellLeft tells of what sequence n, or one that was tried in its place, has
// left.
func (e *Explorer) tellLeft(n uint64, left *Left) {
	if left == nil {
		return
	}
	key := left.Violation.Key()
	if !e.unknown(key) {
		e.tell(Event{Again: &key})
		return
	}
	e.tell(Event{Broken: &left.Violation})
	e.found = append(e.found, key)
	e.tell(Event{Spoiler: &Finding{
		Violation: left.Violation, Steps: texts(left.Steps), Original: len(left.Steps), Kernel: e.Kernel,
		Seed: e.Seed, Number: n, Shown: 1, Tried: 1, Cgroup: e.Runner.Facts.Cgroup,
	}})
}

// unknown reports whether the key of a finding is a new one.
func (e *Explorer) unknown(key string) bool {
	return !slices.Contains(e.found, key) && !IsKnown(e.Known, key)
}

// Replay runs sequences that are given, and tells of each. It ends a sequence
// at the first law that is broken, of those whose key is law; "": any. If there
// is a law, the first sequence that breaks it is the last one. The error is as
// that of Run.
func (e *Explorer) Replay(sequences [][]Line, law string) error {
	var wanted func(Violation) bool
	if law != "" {
		wanted = func(v Violation) bool { return v.Key() == law }
	}
	for n, lines := range sequences {
		e.tell(Event{Begin: &Begin{Number: uint64(n), Why: "replay", Lines: texts(lines)}})
		out, err := e.Runner.Run(lines, wanted)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", n, err)
		}
		broken := out.Broken
		if out.Left != nil && (wanted == nil || wanted(out.Left.Violation)) {
			broken = append(slices.Clip(broken), out.Left.Violation)
		}
		e.tell(Event{Tried: &Tried{Number: uint64(n), Steps: texts(out.Steps), Results: resultTexts(out), Broken: broken, Log: out.Log}})
		switch {
		case law != "" && broken != nil:
			return nil
		case out.Spoiled != "":
			return fmt.Errorf("sequence %d: %w: %s", n, ErrSpoiled, out.Spoiled)
		}
	}
	return nil
}

func (e *Explorer) tell(event Event) {
	if event.Begin != nil {
		event.Begin.Cgroup = e.Runner.Facts.Cgroup
	}
	if event.Finding != nil || event.Spoiler != nil {
		e.news++
	}
	if e.Report != nil {
		e.Report(event)
	}
}

// reduce shrinks the sequence of a finding, and finds out how often it shows.
// It returns how the machine was spoiled meanwhile, or "".
func (e *Explorer) reduce(ctx context.Context, out *Outcome, v Violation, f *Finding) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shrinkTime)
	defer cancel()
	e.spoiled, e.left = "", nil
	tries := 1
	if v.Lasted == healed || !e.always(ctx, out.Steps, v, f) {
		tries = luckyTries
	}
	var steps []Line
	if tries > 1 && e.spoiled == "" {
		steps = e.moment(ctx, out.Steps, f)
	}
	if steps == nil && tries > 1 {
		tries = e.tries(ctx, out.Steps, v, f)
	}
	if e.spoiled != "" || tries == 0 {
		return e.spoiled
	}
	if steps == nil {
		steps = e.shrink(ctx, out.Steps, v, tries)
	}
	v = f.Violation
	limited, stop := context.WithTimeout(context.WithoutCancel(ctx), rateTime)
	defer stop()
	shown, tried, last := e.rate(limited, steps, v, rateRuns)
	if tries == 1 && shown < tried {
		// It was luck that it showed each time before.
		tries = luckyTries
		steps = e.shrink(ctx, steps, v, tries)
		shown, tried, last = e.rate(limited, steps, v, rateRuns)
	}
	if last == nil && tries > 1 {
		if _, _, last = e.rate(limited, again(steps), v, rateRuns); last != nil {
			shown, tried = 1, max(len(last.Steps)-len(steps)+1, 1)
			n := shortest(len(steps), len(last.Steps))
			last.Steps, last.Results = last.Steps[:n], last.Results[:n]
		}
	}
	if last != nil {
		f.Shown, f.Tried = shown, tried
		f.show(last.Broken, texts(last.Steps), resultTexts(last), last.Log)
	}
	return e.spoiled
}

// show takes over what a run of fewer steps has shown: facts, results and log
// are those of this run. A law may have been broken when the steps were undone,
// which then are among them.
func (f *Finding) show(broken []Violation, steps, results, log []string) {
	f.Steps, f.Results, f.Log = steps, results, log
	for _, w := range broken {
		if w.Key() == f.Violation.Key() {
			lasted := f.Violation.Lasted
			f.Violation = w
			f.Violation.Lasted = lasted
		} else {
			f.Also = append(f.Also, w.Key())
		}
	}
}

// shrink shrinks the steps of a finding that shows in one of several tries.
func (e *Explorer) shrink(ctx context.Context, steps []Line, v Violation, tries int) []Line {
	return Shrink(steps, func(candidates [][]Line) int {
		return slices.IndexFunc(candidates, func(part []Line) bool { return e.shows(ctx, part, v, tries) })
	})
}

// always reports whether the finding shows each time that its steps are
// repeated. It counts the runs in f.
func (e *Explorer) always(ctx context.Context, lines []Line, v Violation, f *Finding) bool {
	shown, tried, _ := e.rate(ctx, lines, v, 3)
	f.Shown, f.Tried = f.Shown+shown, f.Tried+tried
	return shown == tried
}

// tries returns how often a sequence must be tried until a finding that does
// not show always has most likely shown, or 0 if it does not show again. It
// counts the runs in f.
func (e *Explorer) tries(ctx context.Context, lines []Line, v Violation, f *Finding) int {
	shown, tried, _ := e.rate(ctx, again(lines), v, 3)
	f.Shown, f.Tried = f.Shown+shown, f.Tried+tried
	if shown == 0 {
		return 0
	}
	return max(min(int(math.Ceil(2*float64(tried)/float64(shown))), rateRuns), 2)
}

// shows reports whether lines break the law of v in one of several tries. What
// showed each time must do so twice: once may be an accident, of which the rest
// would then be made.
func (e *Explorer) shows(ctx context.Context, lines []Line, v Violation, tries int) bool {
	if ctx.Err() != nil {
		return false
	}
	if tries == 1 {
		first, _, _ := e.rate(ctx, lines, v, 1)
		if first == 0 {
			return false
		}
		second, _, _ := e.rate(ctx, lines, v, 1)
		return second > 0
	}
	for n := 0; n < tries && ctx.Err() == nil; n++ {
		if shown, _, _ := e.rate(ctx, again(lines), v, 1); shown > 0 {
			return true
		}
	}
	return false
}

// wantedKey returns a function that reports whether a violation is the same as
// v.
func wantedKey(v Violation) func(Violation) bool {
	return func(w Violation) bool { return w.Key() == v.Key() }
}

// rate returns in how many of n runs lines break the law of v, and the outcome
// of the last of those. There are fewer runs if ctx is done, but one at least,
// and none any more once one has spoiled the machine.
func (e *Explorer) rate(ctx context.Context, lines []Line, v Violation, n int) (shown, tried int, last *Outcome) {
	for e.spoiled == "" && (tried == 0 || tried < n && ctx.Err() == nil) {
		e.tell(Event{Begin: &Begin{Why: "shrink", Lines: texts(lines)}})
		out, err := e.Runner.Run(lines, wantedKey(v))
		tried++
		if err != nil {
			e.spoiled = err.Error()
			break
		}
		e.spoil(out, "")
		if out.Broken != nil {
			shown++
			last = out
		}
	}
	return shown, tried, last
}

// spoil takes over how a run has left the machine, of which nothing may be
// known.
func (e *Explorer) spoil(out *Outcome, unknown string) {
	e.spoiled = unknown
	if out != nil {
		e.spoiled, e.left = cmp.Or(out.Spoiled, unknown), out.Left
	}
}

// resultTexts returns the results of an outcome's steps.
func resultTexts(out *Outcome) []string {
	var all []string
	for _, r := range out.Results {
		all = append(all, r.String())
	}
	return all
}
