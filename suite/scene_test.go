package suite

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestActorsThatFail(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	broken := errors.New("broken")
	cleaned := 0
	begins := func(turn func() error, err error) Actor {
		return Actor{Name: "actor", Begin: func(a *Act) (func() error, error) {
			a.Cleanup(func() error { cleaned++; return nil })
			return turn, err
		}}
	}
	x := m.NewScene()
	assert.EqualError(t, x.Start([]Actor{begins(nil, broken)}), "actor: broken")
	assert.ErrorIs(t, x.Stop(), broken)

	x = m.NewScene()
	require.NoError(t, x.Start([]Actor{begins(func() error { return broken }, nil)}))
	require.True(t, WaitFor(TaskTimeout, func() bool { return len(x.acts[0].ended) > 0 }))
	assert.EqualError(t, x.Failed(), "actor: broken")
	assert.NoError(t, x.Stop(), "it is told once")
	assert.NoError(t, x.Stop(), "again")
	assert.Equal(t, 2, cleaned)
}

// A name is for those who read the results: two actors may have the same.
func TestActorsOfOneName(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	var begun []int
	begins := func(which int) Actor {
		return Actor{Name: "actor", Count: func(*Scene) int { return 2 }, Begin: func(a *Act) (func() error, error) {
			begun = append(begun, which, a.N)
			return func() error { <-a.Scene.Done(); return nil }, nil
		}}
	}
	x := m.NewScene()
	require.NoError(t, x.Start([]Actor{begins(1), begins(2)}))
	assert.NoError(t, x.Stop())
	assert.Equal(t, []int{1, 0, 1, 1, 2, 0, 2, 1}, begun)
}

// Two threads of a scene can hang at once: each says so, with the blocked
// tasks, and the first is the one that later tests are told of.
func TestTwoHungWriters(t *testing.T) {
	m, k := scriptedMachine(t, "cpus 0-3\noffline cpu1: hang\noffline cpu3: hang")
	m.log.askForBlockedTasks = func() error { k.Say("sysrq: Show Blocked State\ntask:writer state:D"); return nil }
	m.limits.op = 10 * time.Millisecond
	x := m.NewScene()
	texts := make([]string, 2)
	var both sync.WaitGroup
	for i, cpu := range []int{1, 3} {
		both.Go(func() { texts[i] = x.Set(cpu, Offline).Error() })
	}
	both.Wait()
	for i, what := range []string{"taking cpu1 offline", "taking cpu3 offline"} {
		assert.Contains(t, texts[i], what+" has not finished within 10ms\n    cpu0 hotplug state 236, target 236\n")
		assert.Equal(t, 1, strings.Count(texts[i], "task:writer state:D"), texts[i])
	}
	assert.ErrorContains(t, m.hang.err(), " has not finished, and may hold the kernel's locks")
	assert.NoError(t, hung.err(), "what hangs in a test hangs nobody else")
}

// What a scenario undoes may wait for the locks that an operation holds which
// hangs. Nobody waits for it.
func TestHangBelowCleanup(t *testing.T) {
	r, _ := scriptedRunner(t, "cpus 0-3\noffline cpu3: hang", Tables{})
	r.machine.limits.op = 20 * time.Millisecond
	locked := make(chan struct{})
	defer close(locked)
	sc := Scenario{Name: "sc", Together: true, Cycle: func(x *Scene, cpu int) error {
		defer func() { <-locked }()
		return x.Set(cpu, Offline)
	}}
	played := make(chan error, 1)
	go func() {
		_, err := r.machine.NewScene().play(&sc, 1)
		played <- err
	}()
	select {
	case err := <-played:
		assert.ErrorContains(t, err, "cycle 1: taking cpu3 offline has not finished within 20ms\n")
		assert.ErrorContains(t, err, "and what the scenario undoes has not finished")
	case <-time.After(TaskTimeout):
		t.Error("a scenario waits for what will not come")
	}
}

// Nothing that a scenario is made of is waited for without end.
func TestHangBesideCycle(t *testing.T) {
	for what, scenario := range map[string]func(hangs func(*Scene) error) Scenario{
		"the setup of sc": func(hangs func(*Scene) error) Scenario {
			return Scenario{Name: "sc", Setup: hangs}
		},
		"the last look of sc": func(hangs func(*Scene) error) Scenario {
			return Scenario{Name: "sc", Hold: hangs}
		},
		"the beginning of actor": func(hangs func(*Scene) error) Scenario {
			return Scenario{Name: "sc", Actors: []Actor{{Name: "actor", Begin: func(a *Act) (func() error, error) {
				return nil, hangs(a.Scene)
			}}}}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			locked := make(chan struct{})
			defer close(locked)
			sc := scenario(func(*Scene) error { <-locked; return nil })
			r, _ := scriptedRunner(t, "cpus 0-3", Tables{})
			r.machine.limits.op, r.machine.limits.whole = 20*time.Millisecond, 20*time.Millisecond
			_, err := r.machine.NewScene().play(&sc, 1)
			assert.ErrorContains(t, err, what+" has not finished within 20ms\n")
		})
	}
}
