package hotplugtest

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soak is CPUs that come and go for a long time, under one workload after another.
type soak struct {
	suite     *Suite
	begin     time.Time
	place     *placement // that the probes are made from
	affinity  *Invariant
	steps     []step
	rounds    int // through the steps, by which the CPU is chosen
	results   []*soakResult
	current   *soakResult
	said      time.Time // when the last progress line was written
	lastCount uint64    // of cycles by then
	stop      error     // why it is over
}

// step is an operation of a soak, and when the promise is looked at.
type step struct {
	transition *Transition
	moment     Moment
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
}

// cycles are there and back.
func (r *soakResult) cycles() uint64 { return r.probes / 2 }

const (
	soakTurn  = time.Minute // for which a workload has its turn; less where it would not be the turn of all
	soakTexts = 5           // failures that are described of each workload
)

// Soak takes CPUs offline and online for as long as [Options.Soak] says, under each of the [Workloads] in turn, and looks
// each time from the child cpuset whether a thread can be pinned to the CPU: at the uevent and at the return. It ends with
// the first failure unless [Options.SoakContinue] is set. An interrupt ends it too, with the report, and as a failure.
//
// Each workload becomes a subtest, at the end. Before that, lines on standard output that begin with "soak: " tell how it is
// going.
func (s *Suite) Soak(t *testing.T) {
	counted.group(t)
	limit := s.opts.Soak
	if limit <= 0 {
		t.Fatal("no time to soak for: -soak")
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < limit {
		t.Fatalf("-soak %v does not fit in the time that the tests have, which is up in %v: add -timeout 0", limit, time.Until(deadline).Round(time.Second))
	}
	ctx, cancel := signal.NotifyContext(t.Context(), unix.SIGINT, unix.SIGTERM)
	defer cancel()
	k, err := s.newSoak()
	if err != nil {
		t.Fatal(err)
	}
	turn := max(min(soakTurn, limit/time.Duration(len(Workloads))), time.Second)
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
	if !s.hung.any() {
		if err := s.setAll(s.usable, true); err != nil {
			t.Error(err)
		}
	}
}

// What ends a soak before its time.
var (
	errInterrupted  = errors.New("interrupted")
	errFirstFailure = errors.New("a failure")
)

func (s *Suite) newSoak() (*soak, error) {
	// The window in which a stale cpuset shows is what matters.
	if err := s.crowd.set(true); err != nil {
		return nil, err
	}
	k := &soak{suite: s, begin: time.Now(), said: time.Now(), place: s.places[1]}
	// One that loses the CPUs which go is no place to see them come back from.
	if k.place.missing != "" || k.place.losing {
		k.place = s.places[0]
	}
	i := slices.IndexFunc(Invariants, func(inv Invariant) bool { return inv.Name == "affinity" })
	if i < 0 {
		return nil, errors.New("no invariant affinity")
	}
	k.affinity = &Invariants[i]
	// Each operation is looked at in both ways.
	for _, moment := range []Moment{AtUevent, AtReturn} {
		for _, name := range []string{"Offline", "Online"} {
			i := slices.IndexFunc(Transitions, func(tr Transition) bool { return tr.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("no transition %s", name)
			}
			k.steps = append(k.steps, step{&Transitions[i], moment})
		}
	}
	for i := range Workloads {
		k.results = append(k.results, &soakResult{workload: &Workloads[i]})
	}
	return k, nil
}

// turn is a workload's turn.
func (k *soak) turn(ctx context.Context, r *soakResult, length time.Duration) {
	k.current = r
	r.turns++
	k.suite.said.begin()
	x := k.suite.newScene()
	err := x.start(r.workload.Actors)
	for end := time.Now().Add(length); err == nil && k.stop == nil && time.Now().Before(end); {
		for _, step := range k.steps {
			if k.stop == nil {
				k.step(step)
			}
		}
		k.rounds++
		err = x.failed()
		if ctx.Err() != nil {
			k.stop = errInterrupted
		}
		if since := time.Since(k.said); since > k.interval() {
			k.progress()
		}
	}
	if err = errors.Join(err, x.stop()); err != nil {
		k.fail(err.Error())
	}
	if err := k.suite.said.end().judge(); err != nil {
		k.fail(err.Error())
	}
	if k.suite.hung.any() {
		k.stop = errFirstFailure
	}
}

// step makes one operation on the CPU whose turn it is.
func (k *soak) step(step step) {
	s, r := k.suite, k.current
	cpu := s.targets[k.rounds%len(s.targets)]
	c := &Cycle{CPU: cpu, Transition: step.transition, Moment: step.moment, suite: s}
	p := c.probe(cpu, slot{k.affinity, k.place})
	s.said.begin()
	err := c.alone(p)
	said := s.said.end().judge()
	r.probes++
	r.returns.add(c.toReturn)
	if p.checkErr != nil {
		r.windows.add(p.window)
		k.fail(p.describe())
	}
	if err = errors.Join(err, step.transition.judge(c.err)); err == nil && c.missed {
		err = fmt.Errorf("no %s uevent was sent", step.transition.Uevent)
	}
	if err != nil {
		k.fail(fmt.Sprintf("%v: %v", c, err))
	}
	if said != nil {
		k.fail(fmt.Sprintf("during %v: %v", c, said))
	}
	if s.hung.any() {
		k.stop = errFirstFailure
	}
}

// fail notes a failure.
func (k *soak) fail(text string) {
	r := k.current
	r.failures++
	if len(r.texts) < soakTexts {
		r.texts = append(r.texts, fmt.Sprintf("after %v, in cycle %d: %s", time.Since(k.begin).Round(time.Millisecond), (k.total().probes+1)/2, text))
	}
	if !k.suite.opts.SoakContinue {
		k.stop = errFirstFailure
	}
}

// failed is the error of an actor that has ended before the scene.
func (x *Scene) failed() error {
	for _, act := range x.acts {
		select {
		case err := <-act.ended:
			act.ended <- nil
			if err != nil {
				return fmt.Errorf("%s: %w", act.name, err)
			}
		default:
		}
	}
	return nil
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

// interval is the time between two progress lines: short at first, when one wants to know whether it works at all.
func (k *soak) interval() time.Duration {
	if time.Since(k.begin) < 10*time.Minute {
		return 5 * time.Second
	}
	return time.Minute
}

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
	fmt.Printf("soak: %v of %v, %d cycles, %.1f cycles/s, workload %s, %d failures, worst window %s\n",
		now.Sub(k.begin).Round(time.Second), k.suite.opts.Soak, total.cycles(), rate, k.current.workload.Name, total.failures, worst)
}

// report makes a subtest of each workload that had its turn.
func (k *soak) report(t *testing.T) {
	total := k.total()
	for _, f := range k.suite.facts {
		t.Attr(f[0], f[1])
	}
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
			r.attach(t)
			for _, text := range r.texts {
				t.Error(text)
			}
			if more := r.failures - uint64(len(r.texts)); more > 0 {
				t.Errorf("and %d failures more", more)
			}
			t.Logf("%d cycles in %d turns; to the return: %v", r.cycles(), r.turns, &r.returns)
		})
	}
	if total.cycles() == 0 {
		t.Error("no cycle was made")
	}
}

// attach makes what was measured attributes of the test.
func (r *soakResult) attach(t *testing.T) {
	t.Attr("cycles", strconv.FormatUint(r.cycles(), 10))
	t.Attr("probes", strconv.FormatUint(r.probes, 10))
	t.Attr("failures", strconv.FormatUint(r.failures, 10))
	if r.returns.count > 0 {
		t.Attr("time-to-return", r.returns.String())
	}
	if r.windows.count > 0 {
		t.Attr("window", r.windows.String())
	}
}
