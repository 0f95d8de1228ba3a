package suite

import (
	"errors"
	"testing"
)

// variantsOf returns all variants of a transition.
func (r *Runner) variantsOf(tr *Transition) ([]string, error) {
	return bounded(r.machine, "finding the variants of "+tr.Name, func() ([]string, error) { return tr.Variants(r.machine) })
}

// able returns those of the variants that can be done to a CPU.
func (x *trial) able(cpu int, variants []string) ([]string, error) {
	if x.tr.Able == nil {
		return variants, nil
	}
	return bounded(x.machine, "trying the variants of "+x.tr.Name, func() ([]string, error) { return x.tr.Able(x.machine, cpu, variants) })
}

// variants runs a transition once for each of its variants, as a subtest that
// has all invariants in it. An operation comes before its subtest, which must
// not be if it was not applicable.
func (x *trial) variants(t *testing.T) {
	m := x.machine
	cpu := x.cpus[len(x.cpus)-1]
	all, err := x.variantsOf(x.tr)
	if err != nil {
		t.Fatalf("%s: %v", x.tr.Name, err)
	}
	names := x.chosenOf(t, all)
	some := len(names) < len(all)
	if names, err = x.able(cpu, names); err != nil {
		t.Fatalf("%s: %v", x.tr.Name, err)
	}
	done := 0
	for i, name := range names {
		m.log.begin()
		all, err := x.together([]int{cpu}, AtReturn, name)
		said := m.log.end()
		if errors.Is(err, ErrInapplicable) {
			said.report(t, m.known.log)
			continue
		}
		done++
		t.Run(name, func(t *testing.T) {
			counted.test(t)
			m.known.watch(t)
			defer said.report(t, m.known.skip)
			if err != nil {
				t.Fatalf("%s: %v", x.tr.Name, err)
			}
			if failed := operationFailed(all); failed != "" {
				m.known.skip(t, failed)
				t.Fatal(failed)
			}
			m.known.skip(t, sum(all).reasons(m)...)
			var whole result
			for _, at := range x.subjects() {
				if all[at] != nil {
					all[at].report(t, m)
					whole.merge(all[at])
				}
			}
			// A few have them in each case, so that a failure can be run again.
			if i%ownVariants == 0 || some {
				x.ownOfVariant(t, cpu, name, &whole)
			}
			m.attach(t)
			whole.attach(t)
		})
	}
	if done == 0 && some {
		x.skip(t, Unsupportedf("none of the variants that are to be run was applicable"))
	}
	if done == 0 {
		t.Fatalf("%s: none of %d variants was applicable", x.tr.Name, len(names))
	}
}
