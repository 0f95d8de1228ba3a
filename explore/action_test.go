package explore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// someFacts are those of a machine with everything.
func someFacts() *Facts {
	f := &Facts{
		Version: Version{7, 2}, Cgroup: 2, CPUs: affinity.Of(0, 1, 2, 3), Pluggable: affinity.Of(1, 2, 3), Exists: func(string) bool { return true },
		FailStates: []int{0, 100, 236}, IRQs: []int{4}, Levels: []string{"core"},
	}
	return f
}

// A sequence is drawn again from its seed and number, and others are different.
func TestSequence(t *testing.T) {
	draw := func(seed, number uint64) string {
		drawn, err := Sequence(seed, number, 40, someFacts(), Default().Actions)
		require.NoError(t, err)
		return FormatSequences(drawn)
	}
	assert.Equal(t, draw(1, 2), draw(1, 2))
	assert.NotEqual(t, draw(1, 2), draw(1, 3))
	assert.NotEqual(t, draw(1, 2), draw(2, 2))
}

// On a machine of more than 32 CPUs a mask of taskset(1) has no commas, which
// not each taskset takes.
func TestManyCPUs(t *testing.T) {
	f := someFacts()
	f.CPUs, f.Pluggable = affinity.Of(0, 40, 1030), affinity.Of(40, 1030)
	masks := make(map[string]bool)
	for number := range uint64(50) {
		drawn, err := Sequence(1, number, 40, f, Default().Actions)
		require.NoError(t, err)
		for _, l := range drawn {
			for _, c := range l.Commands {
				if c.Op == Taskset {
					set, err := parseHex(c.Value)
					require.NoError(t, err)
					masks[set.String()] = true
				}
			}
		}
	}
	for _, want := range []string{"0", "40", "0,40", "1030", "0,1030", "40,1030", "0,40,1030", "1031"} {
		assert.True(t, masks[want], want)
	}
}

// Each action is drawn, writes lines that can be parsed, keeps to the CPUs that
// it was given, and with few exceptions to cgroups of its own.
func TestActions(t *testing.T) {
	f := someFacts()
	f.CPUs, f.Pluggable = affinity.Of(2, 3), affinity.Of(3)
	for _, a := range Default().Actions {
		d := NewDrawer(rand.New(rand.NewPCG(1, 1)), f)
		for _, made := range []string{"mkdir $A", "mkdir $A/x", "mkdir $B"} {
			d.note(lines(t, made)[0])
		}
		d.offline = affinity.Of(3)
		drawn := 0
		for range 100 {
			if a.Name == "offline" {
				d.offline = affinity.CPUSet{}
			}
			text := a.Draw(d)
			if text == "" {
				continue
			}
			drawn++
			l, err := ParseLine(text)
			require.NoError(t, err, a.Name)
			assert.Equal(t, text, l.String())
			named, _ := touchesCPUs(l)
			for _, cpu := range named {
				assert.Equal(t, 3, cpu, text)
			}
		}
		assert.NotZero(t, drawn, a.Name)
	}
}

// A random part of the actions is drawn, never what the machine has no use for.
func TestSwarm(t *testing.T) {
	f := someFacts()
	f.Levels, f.Version = nil, Version{5, 10}
	kinds := make(map[string]bool)
	for n := range uint64(50) {
		drawn, err := Sequence(1, n, 40, f, Default().Actions)
		require.NoError(t, err)
		var words []string
		for _, l := range drawn {
			assert.NotContains(t, l.String(), "/sys/power/state")
			assert.NotContains(t, l.String(), "cpuset.cpus.exclusive")
			assert.NotContains(t, l.String(), "chrt -d", "it is Linux 5.10")
			words = append(words, l.Commands[0].file())
		}
		kinds[fmt.Sprint(len(words), strings.Contains(strings.Join(words, " "), "cpumask"))] = true
	}
	assert.Greater(t, len(kinds), 1)
}

// Of somebody else's actions, few or none may be for the machine.
func TestFewActions(t *testing.T) {
	draw := func(*Drawer) string { return "mkdir $A" }
	none := Action{Name: "none", Needs: func(*Facts) string { return "it never is" }, Draw: draw}
	for _, actions := range [][]Action{nil, {none}, {none, none, none}} {
		_, err := Sequence(1, 1, 5, someFacts(), actions)
		assert.ErrorContains(t, err, fmt.Sprintf("of %d actions none is for this machine", len(actions)))
	}
	drawn, err := Sequence(1, 1, 5, someFacts(), []Action{none, none, {Name: "any", Draw: draw}})
	require.NoError(t, err)
	assert.Len(t, drawn, 5)
}

// An action of somebody else's that writes no line of shell is named.
func TestBadAction(t *testing.T) {
	_, err := Sequence(1, 1, 5, someFacts(), []Action{{Name: "theirs", Draw: func(*Drawer) string { return "reboot" }}})
	require.ErrorIs(t, err, ErrLine)
	assert.ErrorContains(t, err, "action theirs")
}
