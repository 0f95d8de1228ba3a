//go:build !selftest

package hotplugtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// A server has more interrupts than one CPU has vectors: the kernel refuses,
// long before the last CPU, and nothing must be different then.
func TestNoRoomForInterrupts(t *testing.T) {
	const line = "CPU 1 has 183 vectors, 122 available. Cannot disable CPU"
	for _, tt := range []struct {
		name  string
		says  string
		wrong func(m *scripted)
		want  string // the reason for which the row is skipped
		err   []string
	}{
		{
			name: "refused", says: line,
			want: "cpu3 cannot be the last one: the other CPUs have no room for the interrupts of cpu1 (ENOSPC): " + line,
		},
		{
			name: "refused without a word",
			want: "cpu3 cannot be the last one: the other CPUs have no room for the interrupts of cpu1 (ENOSPC): the kernel's log does not say how many",
		},
		{
			name: "half-way", says: line, wrong: func(m *scripted) { m.state[1] = 87 },
			err: []string{"cpuhp: offline cpu1: no space left on device, and then:",
				"cpu1/hotplug/state is 87, and was 236", "cpu1/hotplug/target is 0, and was 236",
				"    promised: a refused operation changes nothing and sends no uevent", "    source:   " + docHotplug + ": a failed operation is rolled back"},
		},
		{
			name: "with a uevent", says: line, wrong: func(m *scripted) { m.send("offline", 1) },
			err: []string{"cpuhp: offline cpu1: no space left on device, and then:", "cpu1 sent offline (SEQNUM 2), want none"},
		},
		{
			name: "and offline", says: line, wrong: func(m *scripted) { m.online = m.online.Without(1) },
			err: []string{"the online mask is 2-3, and was 1-3", "the offline mask is 0-1, and was 0", "cpu1/online is false, and was true"},
		},
		{
			name: "with a complaint", says: line + "\nWARNING: CPU: 1 PID: 7 at kernel/cpu.c", err: []string{"the kernel's log has a complaint (warning)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, s := newScripted(t)
			m.wrong = tt.wrong
			m.refuse = func(cpu int, online bool) error {
				if cpu != 1 || online {
					return nil
				}
				if tt.says != "" {
					m.say("%s", tt.says)
				}
				return unix.ENOSPC
			}
			_, undo, missing, err := s.only(3, affinity.Of(0, 1, 2), "the last one")
			assert.Equal(t, tt.want, missing)
			if tt.err == nil {
				assert.NoError(t, err)
			}
			for _, text := range tt.err {
				assert.ErrorContains(t, err, text)
			}
			assert.True(t, m.online.Has(2), "cpu2 was taken offline though cpu1 had been refused")
			m.refuse = nil
			assert.NoError(t, undo())
			assert.Equal(t, "0-3", m.online.String())
		})
	}
}

func TestLastCPU(t *testing.T) {
	m, s := newScripted(t)
	cpus, undo, missing, err := makeLast(s)
	assert.NoError(t, err)
	assert.Empty(t, missing)
	assert.Equal(t, []int{3}, cpus)
	assert.Equal(t, "3", m.online.String())
	assert.ErrorIs(t, m.SetOnline(3, false), unix.EBUSY)
	assert.NoError(t, undo())
	assert.Equal(t, "0-3", m.online.String())

	m.refuse = func(int, bool) error { m.say("WARNING: no"); return unix.EIO }
	_, undo, missing, err = makeLast(s)
	assert.ErrorIs(t, err, unix.EIO)
	assert.True(t, strings.Contains(err.Error(), "the kernel's log has a complaint (warning)"), "%v", err)
	assert.Empty(t, missing)
	assert.NoError(t, undo())

	m.refuse = func(int, bool) error { m.say("CPU 0 is stuck"); return unix.EIO }
	_, undo, _, err = makeLast(s)
	assert.ErrorContains(t, err, "the kernel's log of it:\n    [    1.000000] CPU 0 is stuck")
	assert.NoError(t, undo())
}
