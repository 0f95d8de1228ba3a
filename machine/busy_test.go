package machine

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// A directory that stays busy is tried for a while in all, however often it is
// to be removed, and not as fast as a CPU can.
func TestUntilFree(t *testing.T) {
	defer func(was time.Duration) { exitLimit = was }(exitLimit)
	exitLimit = 300 * time.Millisecond
	const dir = "/sys/fs/cgroup/hotplugtest-1"
	var s Snapshot
	tries, freed := 0, 0
	busy := func() error { tries++; return failed("rmdir", dir, unix.EBUSY) }
	free := func(time.Time) error { freed++; return nil }

	start := time.Now()
	assert.ErrorIs(t, s.untilFree(dir, busy, free), unix.EBUSY)
	assert.GreaterOrEqual(t, time.Since(start), exitLimit)
	assert.Greater(t, tries, 1)
	// 50 us, 100 us, … 25.6 ms, and 50 ms from then on: 10 and 5 pauses.
	assert.LessOrEqual(t, tries, 20)
	assert.Equal(t, tries-1, freed)

	tries = 0
	for range 10 {
		assert.ErrorIs(t, s.untilFree(dir, busy, free), unix.EBUSY)
	}
	assert.Equal(t, 10, tries, "the time for it is over")

	// When it is gone, another one of its name has its own time.
	assert.NoError(t, s.untilFree(dir, func() error { return nil }, free))
	tries = 0
	assert.NoError(t, s.untilFree(dir, func() error {
		if tries++; tries < 5 {
			return unix.EBUSY
		}
		return nil
	}, nil))
	assert.Equal(t, 5, tries)

	// The next suite of a process has its own time, for a directory of the same
	// name as well.
	assert.NotContains(t, s.busySince, dir, "it is gone")
	assert.ErrorIs(t, s.untilFree(dir, busy, free), unix.EBUSY)
	var next Snapshot
	assert.ErrorIs(t, next.untilFree(dir, busy, free), unix.EBUSY)
	assert.Greater(t, next.busySince[dir], s.busySince[dir])

	// What cannot be freed is not waited for.
	ours := errors.New("it has a thread of this process")
	tries = 0
	assert.Equal(t, ours, s.untilFree(dir+"/ours", busy, func(time.Time) error { return ours }))
	assert.Equal(t, 1, tries)
}
