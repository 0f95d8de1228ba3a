package suite

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Scenario is something that goes on while CPUs go offline and online, and what
// must hold then: a row of [Tables]. It is for promises that are not about one
// CPU at one moment, which are an [Invariant].
type Scenario struct {
	// Name is as in a test's name.
	Name string
	// Promise is what holds.
	Promise string
	// Source is where that is promised, or the commit that mended it when it
	// was broken.
	Source string
	// Known are defects of some kernels that the row finds.
	Known []Defect
	// Since, Until and Except say which kernels promise it, as in
	// [Transition].
	Since, Until Version
	Except       []Span

	// Destructive marks a row that may crash or hang a broken kernel: see
	// [Options].
	Destructive bool

	// Needs returns an [*Unsupported] if this machine cannot show the promise.
	// nil: every machine can.
	Needs func(m *Machine) error

	// Setup prepares the scene before the actors begin. nil: nothing must be
	// prepared.
	Setup func(x *Scene) error

	// Actors act while the CPUs go offline and online.
	Actors []Actor

	// Cycle is what a CPU does. It is called for each of the CPUs in turn, as
	// often as [Options.Cycles] says. nil: [Scene.OffAndOn].
	Cycle func(x *Scene, cpu int) error

	// Together makes Cycle be called for the last of the CPUs alone, as it
	// takes more of them along.
	Together bool

	// Hold is what is checked when all CPUs are back, while the actors still
	// act. nil: nothing more.
	Hold func(x *Scene) error
}

// RunScenarios runs each of the scenarios as a subtest of t.
func (r *Runner) RunScenarios(t *testing.T) {
	r.machine.known.call(t, "TestScenario")
	for i := range r.tables.Scenarios {
		sc := &r.tables.Scenarios[i]
		t.Run(sc.Name, func(t *testing.T) { r.scenario(t, sc) })
	}
}

func (r *Runner) scenario(t *testing.T, sc *Scenario) {
	m := r.machine
	counted.test(t)
	m.known.watch(t)
	m.attach(t)
	if err := m.hang.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	if err := promised(m.Kernel, sc.Since, sc.Until, sc.Except); err != nil {
		r.skip(t, err)
	}
	if sc.Destructive && !m.Options.Destructive {
		r.skip(t, errDestructive)
	}
	if sc.Needs != nil {
		if err := sc.Needs(m); err != nil {
			r.skipOrFail(t, sc.Name, err)
		}
	}
	m.log.watch(t, m.known)
	// What happens does not depend on how soon it is looked at.
	if err := m.siblings.set(false); err != nil {
		t.Fatal(err)
	}
	x := m.NewScene()
	cycles, err := x.play(sc, m.Options.Cycles)
	t.Attr("cycles", strconv.Itoa(cycles))
	t.Attr("time-per-cycle", ms(time.Since(x.begin)/time.Duration(max(cycles, 1))))
	notes := x.noted()
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		t.Attr(name, ms(notes[name]))
		t.Attr(name+"-ns", samplesOf(notes[name]).String())
	}
	switch {
	case IsUnsupported(err):
		r.skip(t, err)
	case err != nil:
		text := sc.describe(err, m.Kernel)
		m.known.skip(t, text)
		t.Error(text)
	}
}

// play is a scenario from the beginning to the end.
func (x *Scene) play(sc *Scenario, repeat int) (cycles int, err error) {
	m := x.Machine
	if sc.Setup != nil {
		err = m.bounded("the setup of "+sc.Name, func() error { return sc.Setup(x) })
	}
	if err == nil {
		err = x.Start(sc.Actors)
	}
	cycle, cpus := sc.Cycle, x.Targets()
	if cycle == nil {
		cycle = (*Scene).OffAndOn
	}
	if sc.Together {
		cpus = cpus[len(cpus)-1:]
	}
	for range repeat {
		for _, cpu := range cpus {
			if err == nil {
				cycles++
				// Whatever hangs, in Do or beside it.
				err = m.bounded("scenario "+sc.Name, func() error {
					return x.unlessStuck(func() error { return cycle(x, cpu) })
				})
				if err != nil {
					err = fmt.Errorf("cycle %d: %w", cycles, err)
				}
			}
		}
	}
	if err == nil && sc.Hold != nil {
		err = m.bounded("the last look of "+sc.Name, func() error { return sc.Hold(x) })
	}
	err = errors.Join(err, x.Stop())
	if !m.hang.any() {
		// Whatever went wrong, the CPUs come back.
		err = errors.Join(err, m.bounded("bringing all CPUs online", func() (err error) {
			for cpu := range m.Usable.All() {
				err = errors.Join(err, m.Ensure(cpu, Online))
			}
			return err
		}))
	}
	// Nobody may take the uevents of a scene for their own.
	return cycles, errors.Join(err, m.Events.Drain())
}

// describe says what a kernel developer wants to know of a scenario that went
// wrong on kernel v.
func (sc *Scenario) describe(err error, v Version) string {
	return fmt.Sprintf("%s\n    promised: %s\n    seen:     %s\n    source:   %s%s", sc.Name, sc.Promise,
		strings.ReplaceAll(err.Error(), "\n", "\n              "), sc.Source, knownText(sc.Known, v))
}
