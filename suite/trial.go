package suite

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// trial is a transition that has been set up on the machine.
type trial struct {
	*Runner
	tr     *Transition
	cpus   []int        // to look at
	places []*Placement // to look from

	// One operation has two moments, and a thread for each. So the cycles of
	// at-uevent leave here what they found at the return, and at-return
	// reports it without cycles of its own.
	atReturn map[subject]*result
}

// setUp prepares the machine for a transition, and picks the CPUs to look at
// and the placements to look from. The error is an [*Unsupported] if the
// machine cannot do it.
func (r *Runner) setUp(tr *Transition, undo *undoList) (*trial, error) {
	m := r.machine
	x := &trial{
		Runner: r, tr: tr, cpus: m.Targets, places: []*Placement{m.Root, m.Child}, atReturn: make(map[subject]*result),
	}
	if err := promised(m.Kernel, tr.Since, tr.Until, tr.Except); err != nil {
		return x, err
	}
	prepare := func(prepared Prepared, err error) error {
		if prepared.Undo != nil {
			undo.add(prepared.Undo)
		}
		if prepared.CPUs != nil {
			x.cpus = prepared.CPUs
		}
		return err
	}
	if tr.Setup != nil {
		if err := prepare(tr.Setup(m)); err != nil {
			return x, err
		}
	}
	if tr.Partition != nil {
		place, prepared, err := m.partition(tr.Partition)
		x.places = []*Placement{place}
		if err := prepare(prepared, err); err != nil {
			return x, err
		}
	}
	if len(x.cpus) == 0 {
		return x, errors.New("its Setup has picked no CPU")
	}
	return x, nil
}

// run makes a test of each moment.
func (x *trial) run(t *testing.T) {
	if x.tr.Variants != nil {
		x.variants(t)
		return
	}
	for i, moment := range x.tr.moments() {
		t.Run(string(moment), func(t *testing.T) { x.moment(t, moment, i) })
	}
}

// moment makes a test of each subject at the i-th moment.
func (x *trial) moment(t *testing.T, moment Moment, i int) {
	counted.group(t)
	cpus := x.cpus
	if x.tr.Once {
		if i >= len(cpus) {
			x.skip(t, Unsupportedf("it can be done to a CPU once, and there were only %d CPUs for it", len(cpus)))
		}
		cpus = cpus[i : i+1]
	}
	if x.tr.Together || x.tr.Once {
		x.sharing(t, cpus, moment)
	} else {
		eachSubject(t, x.subjects(), func(t *testing.T, at subject) {
			x.subject(t, at, cpus, func(able []int) (*result, error) { return x.alone(able, moment, at) })
		})
	}
	if x.last(moment) && !x.tr.Once {
		x.own(t, cpus, moment)
	}
}

// sharing makes a test of each subject, all of one cycle.
func (x *trial) sharing(t *testing.T, cpus []int, moment Moment) {
	var names []string
	for _, at := range x.sharers(moment) {
		names = append(names, at.test())
	}
	if len(names) > 0 && len(x.chosenOf(t, names)) == 0 {
		nameOnly(t, names)
		return
	}
	all, err := x.together(cpus, moment, "")
	if err != nil {
		t.Fatalf("%s: %v", x.tr.Name, err)
	}
	if failed := operationFailed(all); failed != "" {
		x.machine.known.watch(t)
		x.machine.known.skip(t, failed)
		t.Fatal(failed)
	}
	eachSubject(t, x.sharers(moment), func(t *testing.T, at subject) {
		x.subject(t, at, cpus, func([]int) (*result, error) { return all[at], all[at].whyNot() })
	})
}

// subjects returns all that apply to the transition, except those with
// operations of their own.
func (x *trial) subjects() []subject {
	var list []subject
	for i := range x.tables.Invariants {
		inv := &x.tables.Invariants[i]
		if inv.Own {
			continue
		}
		from := x.places[:1]
		if inv.Placed {
			from = x.places
		}
		for _, place := range from {
			if x.machine.Booted(inv.Boot) && inv.applies(x.tr, place) {
				list = append(list, subject{inv, place})
			}
		}
	}
	return list
}

// sharers returns the subjects of a cycle that serves all: the rows with
// operations of their own, too, if there can be only one. They are the last to
// look, since that may take long.
func (x *trial) sharers(moment Moment) []subject {
	if x.tr.Once && x.last(moment) {
		return append(x.subjects(), x.owners()...)
	}
	return x.subjects()
}

// eachSubject runs a subtest for each subject: invariant, or
// invariant/placement.
func eachSubject(t *testing.T, rest []subject, f func(t *testing.T, at subject)) {
	for len(rest) > 0 {
		inv := rest[0].inv
		n := 1
		for n < len(rest) && rest[n].inv == inv {
			n++
		}
		of := rest[:n]
		rest = rest[n:]
		t.Run(inv.Name, func(t *testing.T) {
			for _, at := range of {
				if inv.Placed {
					t.Run(at.from.Name, func(t *testing.T) { f(t, at) })
				} else {
					f(t, at)
				}
			}
		})
	}
}

// subject is one case: one invariant at one moment of one transition, from one
// placement. results is called with the CPUs that it can be looked at on, of
// those given.
func (x *trial) subject(t *testing.T, at subject, cpus []int, results func(able []int) (*result, error)) {
	m := x.machine
	counted.test(t)
	m.known.watch(t)
	if err := m.hang.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	m.log.watch(t, m.known)
	var able []int
	var missing error
	for _, cpu := range cpus {
		switch err := at.missing(m, cpu); {
		case err == nil:
			able = append(able, cpu)
		case !IsUnsupported(err):
			t.Fatalf("%s: %v", at.inv.Name, err)
		default:
			missing = err
		}
	}
	if len(able) == 0 {
		x.skip(t, missing)
	}
	res, err := results(able)
	if res == nil {
		t.Fatalf("%s: it could not be looked at when the operation was done, and now it can", at.inv.Name)
	}
	m.attach(t)
	res.attach(t)
	at.attach(t)
	// What was seen counts, though not all could be looked at.
	if err != nil && !(IsUnsupported(err) && res.bad()) {
		x.skipOrFail(t, x.tr.Name, err)
	}
	m.known.skip(t, res.reasons(m)...)
	res.report(t, m)
}

// alone makes the cycles of a case: as often as [Options.Cycles] says on each
// of the CPUs. Those at the uevent look at the return too. If the cycles of
// another transition have gone through this one, they were looked at by then.
func (x *trial) alone(cpus []int, moment Moment, at subject) (*result, error) {
	if moment == AtReturn {
		if x.atReturn[at] != nil {
			return x.atReturn[at], nil
		}
		res := &result{}
		if err := x.cycles(cpus, at, []Moment{moment}, res); err != nil {
			return res, err
		}
		x.times.add(x.tr.Name, res)
		return res, nil
	}
	res, atReturn := &result{}, &result{}
	if p := x.found(at, cpus); p != nil {
		if res, atReturn = p.uevent, p.atReturn; p.err != nil {
			return res, p.err
		}
	} else if err := x.cycles(cpus, at, []Moment{moment, AtReturn}, res, atReturn); err != nil {
		return res, err
	}
	x.times.add(x.tr.Name, res)
	x.times.add(x.tr.Name, &result{windows: atReturn.windows})
	atReturn.ask(x.machine)
	x.atReturn[at] = atReturn
	return res, nil
}

// cycles makes the cycles of a case, and adds what was found at each of the
// moments to one of results.
func (x *trial) cycles(cpus []int, at subject, moments []Moment, results ...*result) error {
	m := x.machine
	if err := m.siblings.set(x.tr.updatesCpusets() && at.inv.Placed); err != nil {
		return err
	}
	there := x.wayThere(at)
	for _, cpu := range cpus {
		for range m.Options.Cycles {
			if there != nil && len(moments) > 1 {
				if err := x.goThere(there, at, cpu); err != nil {
					return err
				}
			}
			if err := x.cycle(x.tr, cpu, at, moments, results...); err != nil {
				return err
			}
		}
		// If all online CPUs are looked at, one of them must be there when the
		// next one goes.
		if len(cpus) > 1 && m.exhaustible() {
			if err := m.bounded(fmt.Sprintf("bringing cpu%d online", cpu), func() error { return m.Ensure(cpu, Online) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// cycle makes one cycle of a case.
func (x *trial) cycle(tr *Transition, cpu int, at subject, moments []Moment, results ...*result) error {
	c, err := Operation{x.machine, tr, cpu, ""}.alone(at, moments...)
	if err != nil {
		return fmt.Errorf("cpu%d: %w", cpu, err)
	}
	for i, f := range c.Findings {
		results[i].add(f)
	}
	return nil
}

// exhaustible reports whether the last CPU would be asked to go if all that are
// looked at went. One that is left to somebody's partition would be taken from
// it.
func (m *Machine) exhaustible() bool {
	return m.Online.Difference(m.Partitioned).Difference(affinity.Of(m.Targets...)).Empty()
}

// together makes the cycles of a transition that is looked at by all invariants
// at once: as often as [Options.Cycles] says, for all CPUs in one.
func (x *trial) together(cpus []int, moment Moment, variant string) (map[subject]*result, error) {
	m := x.machine
	if err := m.hang.err(); err != nil {
		return nil, fmt.Errorf("cannot run: %w", err)
	}
	cycles := m.Options.Cycles
	if x.tr.Once {
		cycles = 1
	}
	if err := m.siblings.set(x.tr.updatesCpusets()); err != nil {
		return nil, err
	}
	// Each of the looks has a thread or more for each CPU, and Go ends a
	// process that has 10000.
	const most = 32
	var groups [][]int
	for range cycles {
		groups = slices.AppendSeq(groups, slices.Chunk(cpus, most))
	}
	all := make(map[subject]*result)
	for _, cpus := range groups {
		op := Operation{m, x.tr, cpus[len(cpus)-1], variant}
		probes, err := x.probes(op, cpus, moment)
		if err != nil {
			return nil, err
		}
		c, err := op.together(cpus, probes, moment)
		if err != nil {
			return nil, err
		}
		for _, f := range c.Findings {
			if all[f.subject] == nil {
				all[f.subject] = &result{}
			}
			if f.missing != nil {
				all[f.subject].missing = f.missing
				continue
			}
			all[f.subject].add(f)
		}
		x.times.add(x.tr.Name, c.once())
	}
	return all, nil
}

// probes returns one for each subject and CPU that it can be looked at on.
func (x *trial) probes(op Operation, cpus []int, moment Moment) ([]*Probe, error) {
	var probes []*Probe
	for _, at := range x.sharers(moment) {
		for _, cpu := range cpus {
			if err := at.missing(x.machine, cpu); err == nil {
				probes = append(probes, op.probe(cpu, at, moment))
			} else if !IsUnsupported(err) {
				return nil, fmt.Errorf("%s: %w", at.inv.Name, err)
			}
		}
	}
	return probes, nil
}
