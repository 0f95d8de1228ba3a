//go:build !selftest

package hotplugtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// A CPU that was offline too late has shown nothing: there is another try, and
// without one in time the row is skipped.
func TestUntilInTime(t *testing.T) {
	const zeroLag = 1600 * time.Millisecond
	good, late := sleeperTry{offline: zeroLag - 1, zeroLag: zeroLag}, sleeperTry{offline: zeroLag, zeroLag: zeroLag}
	moved := sleeperTry{moved: true, zeroLag: zeroLag}
	tries := func(list ...sleeperTry) (made int, err error) {
		err = untilInTime(3, func() (sleeperTry, error) {
			made++
			if made > len(list) {
				return sleeperTry{}, unix.EBUSY
			}
			return list[made-1], nil
		})
		return made, err
	}
	for _, tt := range []struct {
		list []sleeperTry
		made int
		skip string // why it is skipped; "": it passes
	}{
		{[]sleeperTry{good}, 1, ""},
		{[]sleeperTry{late, moved, late, late, good}, 5, ""},
		{[]sleeperTry{late, {offline: 2 * time.Second, zeroLag: zeroLag}, late, late, late, good}, 5, "cpu3 was not offline before a deadline task's " +
			"zero-lag time: after 1.6s of 1.6s, 2s of 1.6s, 1.6s of 1.6s, 1.6s of 1.6s, 1.6s of 1.6s"},
		{[]sleeperTry{moved, late, moved, moved, moved}, 5, "cpu3 was not offline before a deadline task's zero-lag time: after 1.6s of 1.6s; " +
			"in 4 of 5 tries, the task was moved to another CPU"},
		{[]sleeperTry{moved, moved, moved, moved, moved}, 5, "a deadline task was moved to another CPU, in 5 of 5 tries"},
	} {
		made, err := tries(tt.list...)
		assert.Equal(t, tt.made, made)
		if tt.skip == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.skip)
			assert.True(t, suite.IsUnsupported(err))
		}
	}
	made, err := tries(late)
	assert.ErrorIs(t, err, unix.EBUSY)
	assert.Equal(t, 2, made)
}

func TestZeroLag(t *testing.T) {
	assert.Equal(t, 1600*time.Millisecond, sleeper{promised: smallPromise, used: smallPromise.uses()}.zeroLag())
}

// A task that was not stopped in time owes more than a period.
func TestOwes(t *testing.T) {
	p := promise{5 * time.Millisecond, 100 * time.Millisecond}
	for used, want := range map[time.Duration]time.Duration{
		0: 100 * time.Millisecond, 5 * time.Millisecond: 200 * time.Millisecond, 60 * time.Millisecond: 1300 * time.Millisecond,
	} {
		assert.Equal(t, want, p.owes(used), used)
	}
}
