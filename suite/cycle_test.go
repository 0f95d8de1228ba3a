package suite

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An operation may be over before anybody has seen that it began.
func TestUeventOfAQuickOperation(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	tr := offline
	for range 50 {
		require.NoError(t, m.Ensure(3, Online))
		require.NoError(t, m.Events.Forget())
		looks := 0
		out, err := Operation{m, &tr, 3, ""}.atUevent(func(time.Time) { looks++ }, func(operate func() Outcome) error {
			operate()
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 1, looks)
		require.Equal(t, &tr, out.Transition)
		require.Positive(t, out.toUevent())
		require.False(t, out.missed())
	}
	begun, done := make(chan struct{}), make(chan error, 1)
	close(begun)
	for range 100 { // whichever of the two is seen first
		done <- unix.EIO
		require.NoError(t, beginning(begun, done))
		require.ErrorIs(t, <-done, unix.EIO)
	}
	_, err := Operation{m, &tr, 3, ""}.atUevent(nil, func(func() Outcome) error { return unix.EPERM })
	assert.ErrorIs(t, err, unix.EPERM, "it has not begun")
}

// What makes progress is waited for, however long it takes.
func TestBounded(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	// A busy machine may stop a thread for a second.
	m.limits.whole = 4 * time.Second
	begin := time.Now()
	value, err := bounded(m, "a long operation", func() (int, error) {
		for time.Since(begin) < m.limits.whole*3/2 {
			time.Sleep(time.Millisecond)
			m.Progress()
		}
		return 7, unix.EIO
	})
	assert.Equal(t, 7, value)
	assert.ErrorIs(t, err, unix.EIO)
	assert.NoError(t, m.hang.err())

	over := make(chan struct{})
	defer close(over)
	_, err = bounded(m, "an operation that stops", func() (int, error) {
		m.progress.Add(1)
		<-over
		return 0, nil
	})
	assert.ErrorContains(t, err, "an operation that stops has not finished within 4s")
}

// A task that is lost after the look is a failure of a cycle of many, too.
func TestLostInAGroup(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	lost := mask
	lost.Arm = func(p *Probe) (Check, error) {
		p.lost = errors.New("a task is lost")
		return mask.Arm(p)
	}
	op := Operation{m, &offline, 3, ""}
	probes := []*Probe{op.probe(3, subject{&mask, m.Root}, AtReturn), op.probe(3, subject{&lost, m.Root}, AtReturn)}
	c, err := op.together([]int{3}, probes, AtReturn)
	assert.EqualError(t, err, "mask: a task is lost")
	assert.Len(t, c.Findings, 2)
}

// The probes of a cycle that serves many look one after the other, each as soon
// as the one before it has looked once: one that keeps looking, since its
// promise is broken, does not keep the others from it.
func TestTogetherInOrder(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	var mu sync.Mutex
	var order []string
	looked := make(chan struct{}) // closed when the last has looked
	row := func(name string, see func() error) *Invariant {
		return &Invariant{Name: name, Arm: func(*Probe) (Check, error) {
			return func() error {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				return see()
			}, nil
		}}
	}
	broken := row("broken", func() error {
		select {
		case <-looked:
			return nil
		default:
			return unix.EIO
		}
	})
	last := row("last", func() error { close(looked); return nil })
	op := Operation{m, &offline, 3, ""}
	var probes []*Probe
	for _, inv := range []*Invariant{broken, row("second", func() error { return nil }), last} {
		probes = append(probes, op.probe(3, subject{inv, m.Root}, AtReturn))
	}
	c, err := op.together([]int{3}, probes, AtReturn)
	require.NoError(t, err)
	first := slices.DeleteFunc(slices.Clone(order[1:]), func(name string) bool { return name == "broken" })
	assert.Equal(t, []string{"second", "last"}, first)
	assert.Equal(t, "broken", order[0])
	assert.ErrorIs(t, c.Findings[0].Err, unix.EIO)
	assert.False(t, c.Findings[0].Never, "it was kept when the last had looked")
	assert.NoError(t, c.Findings[2].Err)
}

// What a probe has to say when nobody listens any more is not lost: one could
// not enter its cpuset, and another could not leave it.
func TestGroupErrors(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	op := Operation{m, &offline, 3, ""}
	probes := []*Probe{op.probe(3, subject{&mask, m.Root}, AtReturn), op.probe(3, subject{&mask, m.Root}, AtReturn)}
	probes[1].Cleanup(func() { probes[1].lost = unix.EBUSY })
	tr := with(offline, func(tr *Transition) { tr.Prepare = func(*Machine, int) error { return unix.EPERM } })
	op.Transition = &tr
	_, err := op.together([]int{3}, probes, AtReturn)
	assert.ErrorIs(t, err, unix.EPERM)
	assert.ErrorIs(t, err, unix.EBUSY)
}
