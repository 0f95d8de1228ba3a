package suite

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/scripted"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// scriptedEvents is a queue of uevents of CPUs: "online cpu3 17", "" for a
// moment at which none is queued, or "ENOBUFS" for an error.
type scriptedEvents []string

func (s *scriptedEvents) TryReceiveInto(ev *uevent.Event) (bool, error) {
	if len(*s) == 0 {
		return false, nil
	}
	next := (*s)[0]
	*s = (*s)[1:]
	switch next {
	case "":
		return false, nil
	case "ENOBUFS":
		return false, unix.ENOBUFS
	}
	return true, scripted.Event(ev, next)
}

func TestAwait(t *testing.T) {
	for _, tt := range []struct {
		name     string
		events   scriptedEvents
		returned bool
		comes    bool
		left     int
		err      error
	}{
		{"at once", scriptedEvents{"online cpu3 7", "online cpu3 8"}, false, true, 1, nil},
		{"after a while", scriptedEvents{"", "", "change cpu3 6", "add lo 7", "online cpu2 8", "", "online cpu3 9"}, false, true, 0, nil},
		{"queued when the operation has returned", scriptedEvents{"online cpu2 7", "online cpu3 8", "x"}, true, true, 1, nil},
		{"not by the time the operation has returned", scriptedEvents{"offline cpu3 7", "", "online cpu3 8"}, true, false, 1, nil},
		{"overrun", scriptedEvents{"ENOBUFS", "online cpu3 8"}, false, false, 1, unix.ENOBUFS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var returned atomic.Bool
			returned.Store(tt.returned)
			at, err := NewEvents(&tt.events).Await(3, "online", &returned)
			assert.ErrorIs(t, err, tt.err)
			assert.Equal(t, tt.comes, !at.IsZero())
			assert.Len(t, tt.events, tt.left)
		})
	}
}

func TestEventsOfACycle(t *testing.T) {
	script := scriptedEvents{"online cpu3 7", "offline cpu3 8"}
	e := NewEvents(&script)
	require.NoError(t, e.Forget())
	assert.NoError(t, e.Check(3, ""), "what was sent before the cycle is forgotten")
	script = scriptedEvents{"online cpu3 12", "online cpu2 11"}
	assert.NoError(t, e.Check(3, "online"))
	assert.NoError(t, e.Check(2, "online"), "the order of the events of two devices is nobody's promise")
	require.NoError(t, e.Forget())
	script = scriptedEvents{"change cpu3 15 SYNTH_UUID=0", "online cpu3 14", "offline cpu3 13 SYNTH_UUID=0"}
	assert.NoError(t, e.Check(3, "online"), "what somebody asks for by the uevent file does not count")
	e.changes = true
	script = scriptedEvents{"change cpu2 16", "online cpu2 12"}
	assert.NoError(t, e.Check(2, "online"), "s390 sends one for each CPU whenever scheduling domains are made anew")
	require.NoError(t, e.Forget())
	script = scriptedEvents{"online cpu3 9"}
	assert.EqualError(t, e.Check(3, "online"), "cpu3 sent a uevent with SEQNUM 9 after one with 14")
	script = scriptedEvents{"online cpu2 12"}
	assert.EqualError(t, e.Check(2, "online"), "cpu2 sent a uevent with SEQNUM 12 after one with 12")
	script = scriptedEvents{"ENOBUFS"}
	assert.ErrorIs(t, e.Check(3, "online"), unix.ENOBUFS)
}

func TestJudgeEvents(t *testing.T) {
	back, stay, gone := []string{"online"}, []string(nil), []string{"offline", "remove"}
	for _, tt := range []struct {
		want   []string
		events []cpuEvent
		says   string
	}{
		{gone, []cpuEvent{{"offline", 7}, {"remove", 8}}, ""},
		{gone, []cpuEvent{{"remove", 7}, {"offline", 8}}, "cpu2 sent remove (SEQNUM 7), offline (SEQNUM 8), want one offline, one remove"},
		{back, []cpuEvent{{"online", 7}}, ""},
		{stay, nil, ""},
		{back, nil, "cpu2 sent no uevent, want one online"},
		{back, []cpuEvent{{"offline", 7}}, "cpu2 sent offline (SEQNUM 7), want one online"},
		{back, []cpuEvent{{"online", 7}, {"online", 8}}, "cpu2 sent online (SEQNUM 7), online (SEQNUM 8), want one online"},
		{stay, []cpuEvent{{"change", 7}}, "cpu2 sent change (SEQNUM 7), want none"},
	} {
		err := judgeEvents(2, tt.want, tt.events)
		if tt.says == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.says)
		}
	}
}
