package suite

import "slices"

// pairs is what was found by cycles that another transition had made on the way
// to its own: a CPU that must be offline before it is brought online has to be
// taken offline.
type pairs map[*Transition]map[subject]*pair

// pair is what the cycles of one case have found.
type pair struct {
	cpus             []int
	uevent, atReturn *result
	err              error // why they ended early
}

// alone reports whether cycles of t change one CPU, by itself, and nothing but
// its online file is needed before.
func (t *Transition) alone() bool {
	return t.Before != t.After && t.Uevent != "" && t.Err == 0 && t.Setup == nil && t.Prepare == nil && t.Partition == nil &&
		t.Variants == nil && !t.Together && !t.Once && !t.Sleep && !t.RolledBack && !t.Destructive
}

// wayThere returns the transition that the CPU, which is online between two
// tests, has to go through before each cycle of a case, if that is a case of a
// later test. It returns nil if there is none.
func (x *trial) wayThere(at subject) *Transition {
	if x.tr.Before != Offline || !x.tr.alone() {
		return nil
	}
	for i := len(x.tables.Transitions) - 1; i >= 0 && &x.tables.Transitions[i] != x.tr; i-- {
		tr := &x.tables.Transitions[i]
		if tr.alone() && tr.Before == x.tr.After && tr.After == x.tr.Before && x.machine.Booted(tr.Boot) &&
			promised(x.machine.Kernel, tr.Since, tr.Until, tr.Except) == nil && at.inv.applies(tr, at.from) {
			return tr
		}
	}
	return nil
}

// goThere makes a cycle of tr, and leaves for tr's own test what was found. What
// the kernel complains of meanwhile is for the test that runs: tr's own may be
// left out. The error says that it hangs.
func (x *trial) goThere(tr *Transition, at subject, cpu int) error {
	p := x.pairs[tr][at]
	if p == nil {
		p = &pair{uevent: &result{}, atReturn: &result{}}
		if x.pairs == nil {
			x.pairs = make(pairs)
		}
		if x.pairs[tr] == nil {
			x.pairs[tr] = make(map[subject]*pair)
		}
		x.pairs[tr][at] = p
	}
	if p.err != nil {
		return nil
	}
	if !slices.Contains(p.cpus, cpu) {
		p.cpus = append(p.cpus, cpu)
	}
	p.err = x.cycle(tr, cpu, at, []Moment{AtUevent, AtReturn}, p.uevent, p.atReturn)
	if x.machine.hang.any() {
		return p.err
	}
	p.uevent.ask(x.machine)
	p.atReturn.ask(x.machine)
	return nil
}

// found returns what was left for a case, once, if that is of the same CPUs.
func (x *trial) found(at subject, cpus []int) *pair {
	p := x.pairs[x.tr][at]
	delete(x.pairs[x.tr], at)
	if p == nil || !slices.Equal(p.cpus, cpus) {
		return nil
	}
	return p
}
