package explore

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// A Runner performs sequences on a machine and judges each step. Make one with
// [NewRunner].
type Runner struct {
	Target   *Target
	Observer *Observer
	Laws     []Law
	Facts    *Facts

	// Begin is called before each step, with its number in the sequence. nil: it
	// is not called.
	Begin func(n int)

	// Stats are the figures of all sequences so far.
	Stats Stats

	// known reports whether a broken law was found before: what becomes of it then
	// does not matter. nil: none was.
	known  func(Violation) bool
	states map[uint64]bool
	seed   maphash.Seed
}

// Stats are figures of a run.
type Stats struct {
	Sequences, Steps int

	// States is the number of different states that were seen. It is bounded by
	// maxStates.
	States int

	// Kernel is the time that the steps themselves took, Look that of the
	// snapshots, Judge that of the laws, Wait that to see what becomes of a broken
	// one, and Total that of all.
	Kernel, Look, Judge, Wait, Total time.Duration
}

// Add adds the figures of another run. States are no sum: two runs may have
// seen the same.
func (s *Stats) Add(other Stats) {
	s.Sequences, s.Steps = s.Sequences+other.Sequences, s.Steps+other.Steps
	s.States = max(s.States, other.States)
	s.Kernel, s.Look, s.Judge = s.Kernel+other.Kernel, s.Look+other.Look, s.Judge+other.Judge
	s.Wait, s.Total = s.Wait+other.Wait, s.Total+other.Total
}

// String says how fast the run was, and what it spent its time with.
func (s Stats) String() string {
	total := max(s.Total.Seconds(), 0.001)
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / total }
	return fmt.Sprintf("%d sequences, %d steps in %.0f s: %.1f a second; %.0f%% of the time in operations, %.0f%% in snapshots, %.0f%% in laws, %.0f%% waiting",
		s.Sequences, s.Steps, s.Total.Seconds(), float64(s.Steps)/total, percent(s.Kernel), percent(s.Look), percent(s.Judge), percent(s.Wait))
}

// maxStates bounds what the runner remembers of the states it has seen.
const maxStates = 1 << 16

// NewRunner returns a runner of the laws.
func NewRunner(t *Target, o *Observer, laws []Law, f *Facts) *Runner {
	return &Runner{Target: t, Observer: o, Laws: laws, Facts: f, states: make(map[uint64]bool), seed: maphash.MakeSeed()}
}

// An Outcome is what became of a sequence.
type Outcome struct {
	// Results are those of the steps that were performed: all, unless a law was
	// broken.
	Results []Result

	// Steps are those that were performed, and if the sequence came to its end
	// those that undid it.
	Steps []Line

	// Broken are the laws that the last step broke. nil: none.
	Broken []Violation

	// Log is what the kernel logged in that step.
	Log []string

	// Spoiled says how the machine differs from what it was before the
	// sequence, though all was undone, or what the kernel has complained of: of
	// its own state, which no file shows. What is seen after that proves nothing.
	Spoiled string

	// Left is the same as a broken law, unless it is among Broken and wanted. nil:
	// the sequence left nothing.
	Left *Left
}

// settleTime is how long a law that lags has, and how long it takes until a
// broken one is said to stay so.
const settleTime = 500 * time.Millisecond

// Run performs a sequence from the state that the machine is in, and undoes it.
// It ends with the first step that breaks a law of which wanted returns true;
// nil: any. The error says why there is no verdict: the machine could not be
// read, or not be restored.
func (r *Runner) Run(lines []Line, wanted func(Violation) bool) (*Outcome, error) {
	start := time.Now()
	defer func() { r.Stats.Total += time.Since(start) }()
	r.Stats.Sequences++
	r.forgetWarnings()
	if err := r.Target.StartTasks(); err != nil {
		return nil, err
	}
	defer r.Observer.Forget()
	defer r.Target.StopTasks()
	base, err := r.Observer.Look()
	if err != nil {
		return nil, err
	}
	w := &walk{runner: r, base: base, before: base, earlier: []*Snapshot{base}, wanted: wanted, outcome: &Outcome{}}
	err = w.steps(lines)
	end := w.before
	undo := r.Target.Undo(base)
	if err == nil && w.outcome.Broken == nil {
		err = w.steps(undo)
	}
	// A law that is broken while the machine is taken back does not keep it from
	// that.
	rest := func() []Line { return undo[min(max(len(w.outcome.Steps)-len(lines), 0), len(undo)):] }
	for _, l := range rest() {
		r.Target.Do(l)
	}
	if err == nil && w.outcome.Broken == nil && r.otherRoad() && roadAllowed(lines) && road(base, end) != nil {
		err = w.byOtherRoad(end, len(lines))
	}
	if err == nil && w.outcome.Broken == nil {
		err = w.late()
	}
	if err == nil && (w.outcome.Broken != nil || wanted != nil) {
		err = w.spoiled(rest())
	}
	w.complained(rest())
	return w.outcome, err
}

// complained tells of a complaint of the kernel's: the machine is spoiled, and
// unless it is among the broken laws that are wanted, it is what the sequence has
// left.
func (w *walk) complained(rest []Line) {
	o, complaint := w.outcome, w.runner.Observer.complaint
	if complaint == nil {
		return
	}
	o.Spoiled = cmp.Or(o.Spoiled, complaint.Seen)
	isIt := func(v Violation) bool { return v.Law == logLaw.Name && (w.wanted == nil || w.wanted(v)) }
	if o.Left == nil && !slices.ContainsFunc(o.Broken, isIt) {
		o.Left = &Left{*complaint, slices.Concat(o.Steps, rest)}
	}
}

// forgetWarnings lets the kernel's warnings that come once a boot come again.
func (r *Runner) forgetWarnings() {
	_ = sysfs.WriteLine(r.Target.Path("/sys/kernel/debug/clear_warn_once"), "1")
}

// otherRoad reports whether the state at the end of a sequence is to be made
// again by another road. It takes as long as a dozen steps.
func (r *Runner) otherRoad() bool {
	_, err := find(r.Laws, roadLaw.Name)
	return err == nil
}

// walk is the way through one sequence.
type walk struct {
	runner       *Runner
	base, before *Snapshot
	earlier      []*Snapshot // since the last step that was more than a CPU online or offline
	wanted       func(Violation) bool
	outcome      *Outcome

	// What was done beside the steps, on another road, and was logged there.
	beside        []Line
	besideResults []Result
	log           []kmsg.Record
}

// late judges what the kernel has logged since the last step: on another road,
// or in work that it left for later.
func (w *walk) late() error {
	r := w.runner
	log, err := r.Observer.readLog()
	if err != nil {
		return err
	}
	law, err := find(r.Laws, logLaw.Name)
	if err != nil {
		return nil // nobody asks
	}
	s := &Snapshot{Log: slices.Concat(w.log, log)}
	broken := Judge([]Law{law}, r.Facts.Version, &Case{Base: w.base, Before: w.before, After: s})
	if !w.stops(broken) {
		return nil
	}
	o := w.outcome
	o.Broken, o.Steps, o.Results = broken, slices.Concat(o.Steps, w.beside), slices.Concat(o.Results, w.besideResults)
	o.note(s.Log)
	return nil
}

// note takes over what the kernel has logged.
func (o *Outcome) note(log []kmsg.Record) {
	for _, record := range log {
		o.Log = append(o.Log, record.String())
	}
}

// steps performs lines until a law is broken.
func (w *walk) steps(lines []Line) error {
	for _, l := range lines {
		broken, err := w.step(l)
		if err != nil || broken != nil {
			w.outcome.Broken = broken
			return err
		}
	}
	return nil
}

// step performs a line and judges it.
func (w *walk) step(l Line) ([]Violation, error) {
	r := w.runner
	if r.Begin != nil {
		r.Begin(len(w.outcome.Steps))
	}
	result := r.Target.Do(l)
	r.Stats.Steps++
	r.Stats.Kernel += result.Took
	w.outcome.Steps, w.outcome.Results = append(w.outcome.Steps, l), append(w.outcome.Results, result)
	looked := time.Now()
	after, err := r.Observer.LookAfter(l)
	r.Stats.Look += time.Since(looked)
	if err != nil {
		return nil, err
	}
	if after.state != w.before.state || after.state == 0 {
		r.count(after)
	}
	c := &Case{Base: w.base, Before: w.before, Step: l, Result: result, After: after}
	if _, ok := plugged(l); !ok {
		w.earlier = nil
	}
	c.Earlier = w.earlier
	broken, err := w.judge(c)
	if err == nil && broken != nil {
		// A task that is gone looks like a kernel that refuses.
		if lost := r.Target.Lost(); lost != nil {
			return nil, fmt.Errorf("no verdict: the tasks %v have ended, which no step makes them do", lost)
		}
	}
	after = c.After
	w.before = after
	w.earlier = append(w.earlier, after)
	if broken != nil {
		w.outcome.note(after.Log)
	}
	return broken, err
}

// judge returns the laws that the case breaks and that are wanted. One that
// lags is broken only if it stays so.
func (w *walk) judge(c *Case) ([]Violation, error) {
	r := w.runner
	start := time.Now()
	broken := Judge(r.Laws, r.Facts.Version, c)
	r.Stats.Judge += time.Since(start)
	if !w.stops(broken) {
		return nil, nil
	}
	// While a sequence is reduced, or another has shown it, what becomes of it is
	// known.
	unimportant := w.wanted != nil || r.known != nil && !slices.ContainsFunc(broken, func(v Violation) bool { return !r.known(v) })
	if unimportant && !r.lags(c.Step, broken) {
		return broken, nil
	}
	late := *c
	var later []Violation
	_, err := r.settle(func(now *Snapshot) bool {
		now.follow(late.After)
		late.After = now
		later = Judge(r.Laws, r.Facts.Version, &late)
		return later == nil // what the kernel has logged does not heal
	})
	if err != nil {
		return nil, err
	}
	c.After.Log, c.After.Uevents, c.After.Heard = late.After.Log, late.After.Uevents, late.After.Heard
	var all []Violation
	for _, v := range broken {
		stays := slices.ContainsFunc(later, func(l Violation) bool { return l.Key() == v.Key() })
		switch {
		case !stays && r.lags(c.Step, []Violation{v}):
			continue
		case stays:
			v.Lasted = stayed
		default:
			v.Lasted = healed
		}
		all = append(all, v)
	}
	// What the kernel has complained of meanwhile is said once.
	for _, v := range later {
		if v.Law == logLaw.Name && !slices.ContainsFunc(broken, wantedKey(v)) {
			v.Lasted = stayed
			all = append(all, v)
		}
	}
	if !w.stops(all) {
		c.After = late.After // what the next step is compared with
		return nil, nil
	}
	return all, nil
}

// settle looks at the machine until done says so of a state or settleTime is
// over, and returns the last state. No event tells that what the kernel does
// later is done.
func (r *Runner) settle(done func(now *Snapshot) bool) (now *Snapshot, err error) {
	waited := time.Now()
	defer func() { r.Stats.Wait += time.Since(waited) }()
	// Most is done in a few milliseconds, and a look takes a CPU from it.
	for pause := settleTime / 128; ; pause = min(2*pause, settleTime/20) {
		now, err = r.Observer.Look()
		if err != nil || done(now) || time.Since(waited) > settleTime {
			return now, err
		}
		time.Sleep(pause)
	}
}

// What becomes of a broken law.
const (
	stayed = "stays"
	healed = "heals"
)

// lags reports whether one of the broken laws does. After an rmdir(2) all do:
// it returns before the kernel has taken the cpuset's CPUs back, which
// css_killed_work_fn() does in a workqueue.
func (r *Runner) lags(step Line, broken []Violation) bool {
	if slices.ContainsFunc(step.Commands, func(c Command) bool { return c.Op == Rmdir }) {
		return true
	}
	return slices.ContainsFunc(broken, func(v Violation) bool {
		law, err := find(r.Laws, v.Law)
		return err == nil && law.Lags
	})
}

// stops reports whether one of the broken laws ends the sequence.
func (w *walk) stops(broken []Violation) bool {
	if w.wanted == nil {
		return len(broken) > 0
	}
	return slices.ContainsFunc(broken, w.wanted)
}

// count counts the state, if it is a new one.
func (r *Runner) count(s *Snapshot) {
	var sum uint64
	var h maphash.Hash
	h.SetSeed(r.seed)
	for key, value := range s.Readings {
		h.Reset()
		h.WriteString(string(key))
		h.WriteByte(0)
		h.WriteString(value)
		sum += h.Sum64() // the same in any order
	}
	if len(r.states) < maxStates {
		r.states[sum] = true
	}
	r.Stats.States = len(r.states)
}
