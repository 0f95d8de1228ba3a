package cpuhp_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// The tests in this file need the machine for themselves: root, sysfs on /sys,
// and a second CPU that can be taken offline.

// kernel returns the running kernel's sysfs, and its last CPU that can go
// offline, which it brings back when the test ends.
func kernel(t *testing.T) (sys cpuhp.FS, victim int) {
	t.Helper()
	machine.Claim(t)
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	cpus, why, err := sys.Hotpluggable()
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	victim, ok := cpus.Intersect(online).Last()
	require.True(t, ok && online.Count() > 1, "no CPU to spare among %s; not hotpluggable: %v", online, why)
	t.Cleanup(func() { assert.NoError(t, sys.SetOnline(victim, true)) })
	return sys, victim
}

// Offline and online again: the masks, the file, the states and the topology
// follow at once.
func TestKernelSetOnline(t *testing.T) {
	sys, victim := kernel(t)
	before, err := sys.Online()
	require.NoError(t, err)
	states, err := sys.States()
	require.NoError(t, err)
	first, last := states[0], states[len(states)-1]
	assert.Equal(t, "offline", first.Name)
	assert.Equal(t, "online", last.Name)

	for _, tt := range []struct {
		online bool
		state  int
	}{
		{false, first.ID},
		{false, first.ID}, // the same again is no error
		{true, last.ID},
		{true, last.ID},
	} {
		require.NoError(t, sys.SetOnline(victim, tt.online))
		want := before
		if !tt.online {
			want = before.Without(victim)
		}

		online, err := sys.Online()
		require.NoError(t, err)
		assert.Equal(t, want.String(), online.String())
		offline, err := sys.Offline()
		require.NoError(t, err)
		assert.Equal(t, !tt.online, offline.Has(victim), "offline is %s", offline)
		is, err := sys.IsOnline(victim)
		require.NoError(t, err)
		assert.Equal(t, tt.online, is)
		state, target, err := sys.State(victim)
		require.NoError(t, err)
		assert.Equal(t, tt.state, state)
		assert.Equal(t, tt.state, target)

		siblings, err := sys.ThreadSiblings(victim)
		if tt.online {
			require.NoError(t, err)
			assert.True(t, siblings.Has(victim), "siblings are %s", siblings)
		} else {
			assert.ErrorIs(t, err, unix.ENOENT)
		}
	}
}

func TestKernelSetOnlineError(t *testing.T) {
	sys, _ := kernel(t)
	possible, err := sys.Possible()
	require.NoError(t, err)
	last, _ := possible.Last()
	for _, online := range []bool{true, false} {
		err = sys.SetOnline(last+1, online)
		assert.ErrorIs(t, err, unix.ENOENT)
		assert.ErrorContains(t, err, fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online: ENOENT", last+1))
	}
}

// What the kernel says about its CPUs fits together.
func TestKernelTopology(t *testing.T) {
	sys, _ := kernel(t)
	online, err := sys.Online()
	require.NoError(t, err)
	present, err := sys.Present()
	require.NoError(t, err)
	possible, err := sys.Possible()
	require.NoError(t, err)
	assert.Empty(t, online.Difference(present).String(), "online, but not present")
	assert.Empty(t, present.Difference(possible).String(), "present, but not possible")

	for cpu := range online.All() {
		siblings, err := sys.ThreadSiblings(cpu)
		require.NoError(t, err)
		for sibling := range siblings.All() {
			theirs, err := sys.ThreadSiblings(sibling)
			require.NoError(t, err)
			assert.True(t, siblings.Equal(theirs), "cpu%d has %s, cpu%d has %s", cpu, siblings, sibling, theirs)
		}
		// without CONFIG_NUMA
		if _, err := sys.Node(cpu); !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
	}

	control, active, err := sys.SMT()
	require.NoError(t, err)
	assert.NotEmpty(t, control)
	assert.False(t, active && control == "off", "SMT is off, and active")
}
