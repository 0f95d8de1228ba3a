package suite

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/known"
)

// soak is CPUs that go offline and online for a long time, under one workload
// after another.
type soak struct {
	machine   *Machine
	test      string // its name
	begin     time.Time
	steps     []step
	rounds    int // through the steps, by which the CPU is chosen
	results   []*soakResult
	current   *soakResult
	said      time.Time // when the last progress line was written
	lastCount uint64    // of cycles by then
	stop      error     // why it is over
}

// step is an operation of a soak, and when what is looked at.
type step struct {
	transition *Transition
	moment     Moment
	at         subject
}

// Workload is what a machine is busy with while CPUs go offline and online: a
// row of [Tables].
type Workload struct {
	Name   string
	Actors []Actor
}

// soakResult is what a workload has seen, in a fixed amount of memory.
type soakResult struct {
	workload *Workload
	turns    uint64    // how often it was its turn
	probes   uint64    // operations with a look each
	windows  histogram // of broken promises
	returns  histogram // what the operations took
	failures uint64
	texts    []string // of the first of them
	known    []*soakKnown
}

// soakKnown is a known defect that a workload has met. What it does is none of
// the workload's failures.
type soakKnown struct {
	defect *known.Entry
	texts  []string // of the first times that read otherwise
}

// cycles returns the number of offline/online round trips.
func (r *soakResult) cycles() uint64 { return r.probes / 2 }

const (
	soakTurn  = time.Minute // for which a workload has its turn; less where it would not be the turn of all
	soakTexts = 5           // failures that are described of each workload
)

// Soak takes CPUs offline and online for as long as [Options.Soak] says, under
// each of the workloads in turn. The rows that are marked for it say what is
// done and checked, at the uevent and at the return, from the child cpuset. It
// ends with the first failure unless [Options.SoakContinue] is set. An
// interrupt ends it too, with the report, and as a failure.
//
// Each workload becomes a subtest, at the end. Before that, lines on standard
// output that begin with [SoakPrefix] tell how it is going.
func (r *Runner) Soak(t *testing.T) {
	m := r.machine
	counted.group(t)
	m.known.call(t, "TestSoak")
	limit := m.Options.Soak
	if limit <= 0 {
		t.Fatal("no time to soak for: -soak")
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < limit {
		t.Fatalf("-soak %v does not fit in the time that the tests have, which is up in %v: add -timeout 0", limit, time.Until(deadline).Round(time.Second))
	}
	ctx, cancel := signal.NotifyContext(t.Context(), unix.SIGINT, unix.SIGTERM)
	defer cancel()
	k, err := r.newSoak()
	if err != nil {
		t.Fatal(err)
	}
	k.test = t.Name()
	turn := max(min(soakTurn, limit/time.Duration(len(k.results))), time.Second)
	for i := 0; k.stop == nil && time.Since(k.begin) < limit; i++ {
		k.turn(ctx, k.results[i%len(k.results)], min(turn, limit-time.Since(k.begin)))
	}
	if k.total().cycles() > k.lastCount {
		k.progress()
	}
	k.report(t)
	if errors.Is(k.stop, errInterrupted) {
		t.Errorf("interrupted after %v of %v", time.Since(k.begin).Round(time.Second), limit)
	}
	if !m.hang.any() {
		if err := m.SetAll(m.Usable, Online); err != nil {
			t.Error(err)
		}
	}
}

// What ends a soak before its time.
var (
	errInterrupted  = errors.New("interrupted")
	errFirstFailure = errors.New("a failure")
)

func (r *Runner) newSoak() (*soak, error) {
	m := r.machine
	// The window in which a stale cpuset shows is what matters.
	if err := m.siblings.set(true); err != nil {
		return nil, err
	}
	k := &soak{machine: m, begin: time.Now(), said: time.Now()}
	place := m.Child
	// One that loses the CPUs which go is no place to see them come back from.
	if place.Missing != nil || place.DropsOffline {
		place = m.Root
	}
	for _, moment := range []Moment{AtUevent, AtReturn} {
		// What takes the CPU offline comes first: it is online.
		for _, before := range []State{Online, Offline} {
			k.steps = append(k.steps, r.tables.steps(before, moment, place)...)
		}
	}
	if len(k.steps) == 0 {
		return nil, errors.New("no transition and no invariant of the tables is for a soak")
	}
	for i := range r.tables.Workloads {
		k.results = append(k.results, &soakResult{workload: &r.tables.Workloads[i]})
	}
	if len(k.results) == 0 {
		return nil, errors.New("the tables have no workload")
	}
	return k, nil
}

// steps returns the rows for a soak that begin with a CPU in a state.
func (t *Tables) steps(before State, moment Moment, from *Placement) (steps []step) {
	for i := range t.Transitions {
		tr := &t.Transitions[i]
		if !tr.Soak || tr.Before != before || !slices.Contains(tr.moments(), moment) {
			continue
		}
		for j := range t.Invariants {
			if inv := &t.Invariants[j]; inv.Soak && inv.applies(tr, from) {
				steps = append(steps, step{tr, moment, subject{inv, from}})
			}
		}
	}
	return steps
}

// turn is a workload's turn.
func (k *soak) turn(ctx context.Context, r *soakResult, length time.Duration) {
	k.current = r
	r.turns++
	k.machine.log.begin()
	x := k.machine.NewScene()
	err := x.Start(r.workload.Actors)
	for end := time.Now().Add(length); err == nil && k.stop == nil && time.Now().Before(end); {
		for _, step := range k.steps {
			if k.stop == nil {
				k.step(step)
			}
		}
		k.rounds++
		err = x.Failed()
		if ctx.Err() != nil {
			k.stop = errInterrupted
		}
		if since := time.Since(k.said); since > k.interval() {
			k.progress()
		}
	}
	if err = errors.Join(err, x.Stop()); err != nil {
		k.fail(err.Error())
	}
	if err := k.machine.log.end().judge(); err != nil {
		k.fail(err.Error())
	}
	if k.machine.hang.any() {
		k.stop = errFirstFailure
	}
}

// step makes one operation on the CPU whose turn it is.
func (k *soak) step(step step) {
	m, r := k.machine, k.current
	op := Operation{m, step.transition, m.Targets[k.rounds%len(m.Targets)], ""}
	m.log.begin()
	c, err := op.alone(step.at, step.moment)
	said := m.log.end().judge()
	r.probes++
	if err != nil {
		k.fail(fmt.Sprintf("%v: %v", op, err))
	} else {
		k.judge(c)
	}
	if said != nil {
		k.fail(fmt.Sprintf("during %v: %v", op, said))
	}
	if m.hang.any() {
		k.stop = errFirstFailure
	}
}

// judge notes what a cycle has shown.
func (k *soak) judge(c Cycle) {
	r := k.current
	r.returns.add(c.Outcome.toReturn())
	for _, f := range c.Findings {
		if f.Err != nil {
			r.windows.add(f.Window)
			k.fail(f.describe(k.machine))
		}
	}
	if failure := c.Outcome.failure(); failure != "" {
		k.fail(failure)
	} else if c.Outcome.missed() {
		k.fail(c.Outcome.missing())
	}
}

// fail notes a failure. One by a known defect does not end the soak.
func (k *soak) fail(text string) {
	r := k.current
	if defect := k.machine.known.of(k.test+"/"+r.workload.Name, text); defect != nil {
		r.met(defect, text)
		return
	}
	r.failures++
	if len(r.texts) < soakTexts {
		r.texts = append(r.texts, fmt.Sprintf("after %v, in cycle %d: %s", time.Since(k.begin).Round(time.Millisecond), (k.total().probes+1)/2, text))
	}
	if !k.machine.Options.SoakContinue {
		k.stop = errFirstFailure
	}
}

// met notes a failure by a known defect.
func (r *soakResult) met(defect *known.Entry, text string) {
	i := slices.IndexFunc(r.known, func(met *soakKnown) bool { return met.defect.ID == defect.ID })
	if i < 0 {
		i = len(r.known)
		r.known = append(r.known, &soakKnown{defect: defect})
	}
	if met := r.known[i]; len(met.texts) < soakTexts && !slices.Contains(met.texts, text) {
		met.texts = append(met.texts, text)
	}
}

// total is what all workloads have seen.
func (k *soak) total() *soakResult {
	total := &soakResult{}
	for _, r := range k.results {
		total.probes += r.probes
		total.failures += r.failures
		total.windows.merge(&r.windows)
		total.returns.merge(&r.returns)
	}
	return total
}

// interval is the time between two progress lines: short at first, when one
// wants to know whether it works at all.
func (k *soak) interval() time.Duration {
	if time.Since(k.begin) < 10*time.Minute {
		return 5 * time.Second
	}
	return time.Minute
}

// SoakPrefix begins each line that tells of the progress of a soak, for programs
// that show it at once.
const SoakPrefix = "soak: "

// progress writes a progress line.
func (k *soak) progress() {
	total := k.total()
	now := time.Now()
	rate := float64(total.cycles()-k.lastCount) / max(now.Sub(k.said).Seconds(), 0.001)
	k.said, k.lastCount = now, total.cycles()
	worst := "none"
	if total.windows.count > 0 {
		worst = ms(total.windows.max)
	}
	fmt.Printf(SoakPrefix+"%v of %v, %d cycles, %.1f cycles/s, workload %s, %d failures, worst window %s\n",
		now.Sub(k.begin).Round(time.Second), k.machine.Options.Soak, total.cycles(), rate, k.current.workload.Name, total.failures, worst)
}

// report makes a subtest of each workload that had its turn.
func (k *soak) report(t *testing.T) {
	total := k.total()
	k.machine.attach(t)
	took := time.Since(k.begin)
	t.Attr("elapsed", took.Round(time.Millisecond).String())
	t.Attr("cycles-per-second", strconv.FormatFloat(float64(total.cycles())/took.Seconds(), 'f', 2, 64))
	total.attach(t)
	for _, r := range k.results {
		if r.turns == 0 {
			continue
		}
		t.Run(r.workload.Name, func(t *testing.T) {
			counted.test(t)
			k.machine.known.watch(t)
			r.attach(t)
			t.Logf("%d cycles in %d turns; to the return: %v", r.cycles(), r.turns, &r.returns)
			for _, text := range r.texts {
				t.Error(text)
			}
			if more := r.failures - uint64(len(r.texts)); more > 0 {
				t.Errorf("and %d failures more", more)
			}
			r.tellKnown(t, k.machine.known)
		})
	}
	if total.cycles() == 0 {
		t.Error("no cycle was made")
	}
}

// tellKnown makes t one that fails by the known defects that were met, if it
// does not fail by others.
func (r *soakResult) tellKnown(t *testing.T, defects *knownDefects) {
	if len(r.known) == 1 {
		defects.skip(t, r.known[0].texts...)
	}
	for _, met := range r.known {
		switch {
		case t.Failed():
			t.Log(skipText(met.defect, met.texts))
		case !defects.log(t, met.texts...):
			t.Error(strings.Join(met.texts, "\n"))
		}
	}
}

// attach makes what was measured attributes of the test.
func (r *soakResult) attach(t *testing.T) {
	t.Attr("cycles", strconv.FormatUint(r.cycles(), 10))
	t.Attr("probes", strconv.FormatUint(r.probes, 10))
	t.Attr("failures", strconv.FormatUint(r.failures, 10))
	if r.returns.count > 0 {
		t.Attr("time-to-return", r.returns.String())
		t.Attr("time-to-return-ns", r.returns.samples().String())
	}
	if r.windows.count > 0 {
		t.Attr("window", r.windows.String())
		t.Attr("window-ns", r.windows.samples().String())
	}
}
