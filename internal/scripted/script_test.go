package scripted

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/uevent"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// A script that says nothing is an error: else a test would pass by a typo.
func TestParse(t *testing.T) {
	k := &Kernel{rules: make(map[string][]rule)}
	for script, says := range map[string]string{
		"cpus x":                `line "cpus x"`,
		"offline":               "is not OPERATION cpuN: RULE",
		"offline cpu1: fails":   `"fails" says nothing`,
		"offline cpu1: takes x": `invalid duration "x"`,
		"offline cpu1: half x":  `line "offline cpu1: half x"`,
		"offline cpu1: hang":    "",
		"fixed 0\n\nonline 1":   "",
	} {
		if err := k.parse(script); says == "" {
			assert.NoError(t, err, script)
		} else {
			assert.ErrorContains(t, err, says, script)
		}
	}
	r, err := parseRule("log a: b, c; log d; takes 1ms; uevent change; EBUSY")
	require.NoError(t, err)
	assert.Equal(t, rule{errno: unix.EBUSY, log: "a: b, c\nd\n", takes: time.Millisecond, uevents: []string{"change"}}, r)
}

// Rules of one operation are for one time each, the last for all later times.
func TestKernel(t *testing.T) {
	k := New(t, "cpus 0-1\noffline cpu1: EIO\noffline cpu1: right")
	assert.EqualError(t, k.SetOnline(1, false), `cpuhp: write "0" to /sys/devices/system/cpu/cpu1/online: EIO (input/output error)`)
	for range 2 {
		assert.NoError(t, k.SetOnline(1, false))
		assert.NoError(t, k.SetOnline(1, true))
	}
	assert.NoError(t, k.SetOnline(0, false))
	assert.ErrorIs(t, k.SetOnline(1, false), unix.EBUSY, "the last one")
	var ev uevent.Event
	for _, want := range []string{"offline@/devices/system/cpu/cpu1 SEQNUM=1", "online@/devices/system/cpu/cpu1 SEQNUM=2"} {
		queued, err := k.TryReceiveInto(&ev)
		require.NoError(t, err)
		assert.True(t, queued)
		assert.Equal(t, want, ev.String())
	}
	k.Say("one\ntwo")
	records, err := k.Log.Read()
	require.NoError(t, err)
	assert.Len(t, records, 2)
}
