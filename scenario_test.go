//go:build !selftest

package hotplugtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/suite"
)

// What actors do needs no privilege, so they can be tried where no CPU goes
// offline: each has turns, and ends.
func TestActors(t *testing.T) {
	m := suite.NewMachine(suite.Facts{Targets: []int{firstCPU(t)}}, nil, nil, nil)
	for _, actor := range []Actor{hogs, forks, files, pipes, timerfds, nanosleeps, identities} {
		x := m.NewScene()
		require.NoError(t, x.Start([]Actor{actor}), actor.Name)
		assert.True(t, suite.WaitFor(suite.TaskTimeout, func() bool { return x.Turns() > 2*uint64(x.Threads()) }), "%s: no turns", actor.Name)
		assert.NoError(t, x.Failed())
		assert.NoError(t, x.Stop(), actor.Name)
	}
}

func firstCPU(t *testing.T) int {
	cpus, err := affinity.Get(0)
	require.NoError(t, err)
	cpu, ok := cpus.First()
	require.True(t, ok)
	return cpu
}

// The row quota may run for days.
func TestQuotaLimit(t *testing.T) {
	assert.Equal(t, 540*time.Millisecond, quotaLimit(time.Second))
	assert.Equal(t, 50*time.Hour+40*time.Millisecond, quotaLimit(100*time.Hour))
}

// What the tasks of the row deadline leave is less than what goes with a CPU of
// a third of the fastest's speed, and its deadline server comes free (5 %).
func TestDeadlineShares(t *testing.T) {
	const limit, slow, server = 95, 100 / 3, 5 // % of a fast CPU
	for cpus := 2; cpus < 40; cpus++ {
		room := (time.Duration(cpus-1)*100 + slow) * limit * deadlinePeriod / 100 / 100
		for n, threads := 0, 3*cpus+deadlinesOfRest; n < threads; n++ {
			if share := deadlineShare(n, threads); share <= room {
				room -= share
			}
		}
		assert.Less(t, room+deadlinePeriod*server/100, deadlinePeriod*slow/100*limit/100, "%d CPUs", cpus)
	}
}

func TestMasks(t *testing.T) {
	for _, tt := range []struct {
		online affinity.CPUSet
		free   []int
		want   int
	}{
		{affinity.Of(0, 1, 2, 3), []int{1, 2, 3}, 8},
		{affinity.Of(0, 1, 2, 3), []int{0, 1, 2, 3}, 15},
		{affinity.Of(0, 5), []int{5}, 2},
	} {
		list := masks(tt.online, tt.free)
		seen := make(map[string]bool)
		for _, mask := range list {
			assert.False(t, mask.Empty())
			assert.True(t, mask.Difference(tt.online).Empty())
			seen[mask.String()] = true
		}
		assert.Len(t, seen, tt.want)
		assert.True(t, list[0].Equal(tt.online))
		assert.True(t, list[len(list)-1].Equal(tt.online))
	}
}

func TestIdleTimes(t *testing.T) {
	times, err := idleTimes("cpu  1 2 3 30 9 7\ncpu0 1 2 3 10 5 7\ncpu11 1 2 3 20 4 7\nintr 1 2 3\n")
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"cpu0": 15, "cpu11": 24}, times)
	for _, text := range []string{"cpu0 1 2 3 4\n", "cpu0 1 2 3 4 x\n"} {
		_, err := idleTimes(text)
		assert.ErrorContains(t, err, "/proc/stat: line", text)
	}
}

func FuzzIdleTimes(f *testing.F) {
	f.Add("cpu  1 2 3 30 9 7\ncpu0 1 2 3 10 5 7\ncpu11 1 2 3 20 4 7\nintr 1 2 3\n")
	f.Add("cpu0 1 2 3 4\n")
	f.Add("cpu0 1 2 3 4 x\n")
	f.Fuzz(func(t *testing.T, stat string) {
		once, err := idleTimes(stat)
		if err != nil {
			assert.ErrorContains(t, err, "/proc/stat: line")
			return
		}
		twice, err := idleTimes(stat + "\n" + stat)
		require.NoError(t, err)
		assert.Len(t, twice, len(once))
		for cpu, idle := range once {
			assert.Equal(t, 2*idle, twice[cpu])
		}
	})
}

func TestGoOn(t *testing.T) {
	last := make(map[string]uint64)
	assert.NoError(t, goOn(last, map[string]uint64{"cpu0": 10, "cpu1": 20}))
	assert.NoError(t, goOn(last, map[string]uint64{"cpu0": 10}))
	assert.EqualError(t, goOn(last, map[string]uint64{"cpu0": 11, "cpu1": 18}), "cpu1 was idle for 20 ticks, and now for 18")
	assert.NoError(t, goOn(last, map[string]uint64{"cpu1": 19}), "a tick may be in the other field")
}

// What a kernel is known to panic in, however it is booted, is left out of the
// virtual machines of whole runs: what comes after it would be lost.
func TestPanicking(t *testing.T) {
	var panicking []string
	for _, sc := range Default().Scenarios {
		for _, d := range sc.Known {
			if d.Signature != nil && d.Signature.Crash && d.Signature.Profiles == nil {
				assert.True(t, sc.Destructive, sc.Name)
				panicking = append(panicking, sc.Name)
			}
		}
	}
	assert.ElementsMatch(t, profile.Panicking, panicking)
}
