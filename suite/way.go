package suite

import (
	"errors"
	"slices"
)

// onTheWay is what tests have found on the way to their own operation, for the
// tests that report it: a CPU that must be offline before it is brought online
// has to be taken offline.
type onTheWay map[*Transition]map[subject]*foundEarlier

// foundEarlier is what the cycles of one case have found before its test ran.
type foundEarlier struct {
	cpus             []int
	uevent, atReturn *result
	err              error // why they ended early
}

// plain reports whether cycles of t change one CPU, by itself, and nothing but
// its online file is needed before.
func (t *Transition) plain() bool {
	return t.Before != t.After && t.Uevent != "" && t.Err == 0 && t.Setup == nil && t.Prepare == nil && t.Partition == nil &&
		t.Variants == nil && !t.Together && !t.Once && !t.Sleep && !t.RolledBack && !t.Destructive
}

// wayThere returns the transition that the CPU, which is online between two
// tests, has to go through before each cycle of a case, if that is a case of a
// later test. It returns nil if there is none.
func (x *trial) wayThere(at subject) *Transition {
	if x.tr.Before != Offline || !x.tr.plain() {
		return nil
	}
	for i := len(x.tables.Transitions) - 1; i >= 0 && &x.tables.Transitions[i] != x.tr; i-- {
		tr := &x.tables.Transitions[i]
		if tr.plain() && tr.Before == x.tr.After && tr.After == x.tr.Before && x.machine.Booted(tr.Boot) &&
			promised(x.machine.Kernel, tr.Since, tr.Until, tr.Except) == nil && at.inv.applies(tr, at.from) {
			return tr
		}
	}
	return nil
}

// goThere makes a cycle of tr, and leaves for tr's own test what was found. That
// may be left out. So the error says if the operation hangs or fails, and what
// the kernel complains of is for the test that runs.
func (x *trial) goThere(tr *Transition, at subject, cpu int) error {
	p := x.way[tr][at]
	if p == nil {
		p = &foundEarlier{uevent: &result{}, atReturn: &result{}}
		if x.way == nil {
			x.way = make(onTheWay)
		}
		if x.way[tr] == nil {
			x.way[tr] = make(map[subject]*foundEarlier)
		}
		x.way[tr][at] = p
	}
	if p.err != nil {
		return nil
	}
	if !slices.Contains(p.cpus, cpu) {
		p.cpus = append(p.cpus, cpu)
	}
	before := len(p.uevent.failed)
	p.err = x.cycle(tr, cpu, at, []Moment{AtUevent, AtReturn}, p.uevent, p.atReturn)
	if x.machine.hang.any() {
		return p.err
	}
	p.uevent.ask(x.machine)
	p.atReturn.ask(x.machine)
	if failed := p.uevent.failed; len(failed) > before {
		return errors.New(failed[before].failure())
	}
	return nil
}

// found returns what was left for a case, once, if that is of the same CPUs, or
// something is wrong with it.
func (x *trial) found(at subject, cpus []int) *foundEarlier {
	p := x.way[x.tr][at]
	delete(x.way[x.tr], at)
	if p != nil && (p.err != nil || p.uevent.bad() || p.atReturn.bad() || slices.Equal(p.cpus, cpus)) {
		return p
	}
	return nil
}
