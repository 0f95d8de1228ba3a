package suite

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// ownRow is a row with operations of its own, which notes what it was called
// for. Its check returns what see says.
func ownRow(calls *[]string, see func() error) Invariant {
	return Invariant{
		Name: "own", Promise: "it holds", Source: "a document", Own: true, Repeat: 3,
		Arm: func(p *Probe) (Check, error) {
			call := p.Transition.Name + " " + string(p.Moment) + " " + p.From.Name
			*calls = append(*calls, call)
			p.BeforeOperation(func() { *calls = append(*calls, "begins") })
			p.AfterWrite(func() { *calls = append(*calls, "written") })
			return func() error { return see() }, nil
		},
	}
}

// A row with operations of its own looks at the last moment alone, from the
// root cpuset, and is told of the beginning and of the write. It gets the
// operations that it asks for, except after a transition of which one cycle
// serves all.
func TestOwn(t *testing.T) {
	var calls []string
	tables := rows(offline, with(online, func(tr *Transition) { tr.Name, tr.Together = "Together", true }))
	tables.Invariants = append(tables.Invariants, ownRow(&calls, func() error { return nil }))
	p := playRows(t, "cpus 0-3", tables, nil)
	var want []string
	for range 6 {
		want = append(want, "Offline at-return root-cpuset", "begins", "written")
	}
	want = append(want, "Together at-return root-cpuset", "begins", "written")
	assert.Equal(t, want, calls)
	assert.Equal(t, "pass", p.verdicts["Offline/at-return/own"])
	assert.Equal(t, "pass", p.verdicts["Together/at-return/own"])
	assert.NotContains(t, p.verdicts, "Offline/at-uevent/own")
	attrs := p.attributes("Offline/at-return/own")
	assert.Equal(t, "6", attrs["probes"])
	assert.Equal(t, "1,3", attrs["cpus"])
	assert.NotEmpty(t, attrs["time-to-return-ns"])
	assert.Equal(t, "3", p.attributes("Together/at-return/own")["cpus"], "the last of them")
}

// What a cycle that ended before its operation has left does not begin with the
// next one.
func TestBeforeOperation(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	(&Probe{View: View{Machine: m}}).BeforeOperation(func() { t.Error("it is called for another cycle") })
	op := Operation{Machine: m, Transition: &offline, CPU: 3}
	assert.NoError(t, op.prepare([]int{3}))
	assert.NoError(t, op.do().Err)
}

// What can be done to a CPU once is shared.
func TestOwnOnce(t *testing.T) {
	var calls []string
	tables := rows(with(offline, func(tr *Transition) { tr.Once = true }))
	tables.Invariants = append(tables.Invariants, ownRow(&calls, func() error { return nil }))
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, []string{"Offline at-return root-cpuset", "begins", "written"}, calls)
	assert.Equal(t, "pass", p.verdicts["Offline/at-return/own"])
}

// An error of the check may know for how long the promise was broken: then
// there is no second look, and no further operation.
func TestLasting(t *testing.T) {
	var calls []string
	looks := 0
	tables := rows(offline)
	tables.Invariants = append(tables.Invariants, ownRow(&calls, func() error {
		looks++
		return &LastingError{Err: errors.New("one\ntwo"), Window: 1500 * time.Microsecond}
	}))
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, "fail", p.verdicts["Offline/at-return/own"])
	assert.Equal(t, 2, looks, "one operation on each of two CPUs")
	assert.Contains(t, p.text, "seen:     one\ntwo\nlasted:   1.500 ms\n")
	assert.Equal(t, "1500000 1500000", p.attributes("Offline/at-return/own")["window-ns"])

	tables.Invariants[len(tables.Invariants)-1] = ownRow(&calls, func() error {
		return &LastingError{Err: errors.New("one"), Window: -1}
	})
	p = playRows(t, "cpus 0-3", tables, nil)
	assert.Contains(t, p.text, "lasted:   longer than 1s, when it was last looked at")
}

// A check that cannot be made fails the test, and breaks no promise.
func TestUnchecked(t *testing.T) {
	var calls []string
	for name, change := range map[string]func(*Transition){
		"alone": func(*Transition) {}, "shared": func(tr *Transition) { tr.Once = true },
	} {
		tables := rows(with(offline, change))
		tables.Invariants = append(tables.Invariants, ownRow(&calls, func() error { return &UncheckedError{Err: unix.ENOSPC} }))
		p := playRows(t, "cpus 0-3", tables, nil)
		assert.Contains(t, p.text, "Offline: "+map[string]string{"alone": "cpu1: ", "shared": "own: "}[name]+"no space left on device", name)
		assert.NotContains(t, p.text, "promised:", name)
	}
}

// One that cannot be made on this machine is a skip, and hides nothing of what
// the others have seen.
func TestUncheckedUnsupported(t *testing.T) {
	var calls []string
	for name, change := range map[string]func(*Transition){
		"alone": func(*Transition) {}, "shared": func(tr *Transition) { tr.Once = true },
	} {
		tables := rows(with(offline, change))
		tables.Invariants[0].Arm = func(*Probe) (Check, error) { return func() error { return unix.EINVAL }, nil }
		tables.Invariants = append(tables.Invariants, ownRow(&calls, func() error { return &UncheckedError{Err: Unsupportedf("it is too busy")} }))
		p := playRows(t, "cpus 0-3", tables, nil)
		assert.Equal(t, "fail", p.verdicts["Offline/at-return/mask"], name)
		assert.Equal(t, "skip: "+map[string]string{"alone": "cpu1", "shared": "own"}[name]+": it is too busy", p.verdicts["Offline/at-return/own"], name)
	}
}

type closer struct{ closed int }

func (c *closer) Close() error    { c.closed++; return nil }
func (c *closer) Notes() []string { return []string{NotePrefix + "it is so"} }

// An instrument is made once a run, when it is first asked for.
func TestInstrument(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	r := &Runner{machine: m}
	made := &closer{}
	opened := 0
	open := func() (Instrument, error) { opened++; return made, nil }
	for range 2 {
		is, err := m.Instrument("a", open)
		assert.NoError(t, err)
		assert.Same(t, made, is)
		_, err = m.Instrument("b", func() (io.Closer, error) { opened++; return nil, unix.EPERM })
		assert.ErrorIs(t, err, unix.EPERM)
	}
	assert.Equal(t, 2, opened)
	r.machine.Away = affinity.Of(3)
	assert.Equal(t, []string{"note: it is so", "note: CPUs 3 were offline, and were left so"}, r.Notes())
	r.machine.Away = affinity.CPUSet{}
	assert.NoError(t, m.closeInstruments())
	assert.NoError(t, m.closeInstruments())
	assert.Equal(t, 1, made.closed)
	assert.Empty(t, r.Notes())
}
