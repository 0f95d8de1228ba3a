package suite

import (
	"errors"
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
			m.progress.Add(1)
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
