//go:build !selftest

package hotplugtest

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
)

func TestScenarioTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, sc := range Scenarios {
		assert.Regexp(t, `^[a-z-]+$`, sc.Name)
		assert.False(t, seen[sc.Name], "two scenarios %s", sc.Name)
		seen[sc.Name] = true
		assert.NotEmpty(t, sc.Promise, sc.Name)
		assert.NotEmpty(t, sc.Source, "%s: where is that promised?", sc.Name)
		assert.True(t, len(sc.Actors) > 0 || sc.Cycle != nil, "%s: nothing goes on", sc.Name)
	}
	seen = make(map[string]bool)
	for _, w := range Workloads {
		assert.Regexp(t, `^[a-z-]+$`, w.Name)
		assert.False(t, seen[w.Name], "two workloads %s", w.Name)
		seen[w.Name] = true
	}
}

// What actors do needs no privilege, so they can be tried where no CPU goes: each has turns, and ends.
func TestActors(t *testing.T) {
	s := &Suite{places: []*placement{{missing: "here"}, {missing: "here"}}, targets: []int{firstCPU(t)}}
	for _, actor := range []Actor{hogs, forks, files, pipes, timerfds, nanosleeps} {
		x := s.newScene()
		require.NoError(t, x.start([]Actor{actor}), actor.Name)
		for _, act := range x.acts {
			assert.True(t, waitFor(goesOn, func() bool { return act.turns.Load() > 2 }), "%s: no turns", actor.Name)
		}
		assert.NoError(t, x.failed())
		assert.NoError(t, x.stop(), actor.Name)
	}
}

func firstCPU(t *testing.T) int {
	cpus, err := affinity.Get(0)
	require.NoError(t, err)
	cpu, ok := cpus.First()
	require.True(t, ok)
	return cpu
}

func TestActorsThatFail(t *testing.T) {
	s := &Suite{places: []*placement{{}, {}}}
	broken := errors.New("broken")
	cleaned := 0
	begins := func(turn func() error, err error) Actor {
		return Actor{Name: "actor", Begin: func(a *Act) (func() error, error) {
			a.Cleanup(func() error { cleaned++; return nil })
			return turn, err
		}}
	}
	x := s.newScene()
	assert.EqualError(t, x.start([]Actor{begins(nil, broken)}), "actor: broken")
	assert.ErrorIs(t, x.stop(), broken)

	x = s.newScene()
	require.NoError(t, x.start([]Actor{begins(func() error { return broken }, nil)}))
	require.True(t, waitFor(goesOn, func() bool { return len(x.acts[0].ended) > 0 }))
	assert.EqualError(t, x.failed(), "actor: broken")
	assert.NoError(t, x.stop(), "it is told once")
	assert.Equal(t, 2, cleaned)
}

func TestScenarioDescribe(t *testing.T) {
	sc := &Scenario{Name: "row", Promise: "it holds", Source: "a document"}
	assert.Equal(t, "row\n    promised: it holds\n    seen:     one\n              two\n    source:   a document", sc.describe(errors.New("one\ntwo")))
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
	assert.EqualError(t, goOn(last, map[string]uint64{"cpu0": 11, "cpu1": 19}), "cpu1 was idle for 20 ticks, and now for 19")
}

func TestHistogram(t *testing.T) {
	var h, other histogram
	for i := range 1000 {
		d := time.Duration(i+1) * time.Millisecond
		if i%2 == 0 {
			h.add(d)
		} else {
			other.add(d)
		}
	}
	h.merge(&other)
	h.merge(&histogram{})
	assert.EqualValues(t, 1000, h.count)
	assert.InEpsilon(t, 500*time.Millisecond, h.quantile(50), 0.1)
	assert.InEpsilon(t, 990*time.Millisecond, h.quantile(99), 0.1)
	assert.Equal(t, time.Second, h.quantile(100))
	assert.Equal(t, "min 1.000 ms", h.String()[:12])

	var one histogram
	one.add(0)
	one.add(1000 * time.Hour)
	assert.Equal(t, 1000*time.Hour, one.quantile(100))
}
