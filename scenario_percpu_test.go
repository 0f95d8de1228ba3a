//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// As Linux 5.10 and 7.2 print it.
func TestParseDetectors(t *testing.T) {
	timers, err := parseDetectors(`Timer List Version: v0.9
HRTIMER_MAX_CLOCK_BASES: 8
now at 12000000 nsecs

cpu: 0
 clock 0:
  .base:               00000000a
active timers:
 #0: <00000000a>, hrtimer_wakeup, S:01
 # expires at 1-1 nsecs [in 1 to 1 nsecs]
 #1: <00000000b>, watchdog_timer_fn, S:01
cpu: 2
active timers:
 #0: <00000000c>, watchdog_timer_fn, S:01
 #1: <00000000d>, watchdog_timer_fn, S:01

Tick Device: mode:     1
Per CPU device: 0
`)
	require.NoError(t, err)
	assert.Equal(t, map[int]int{0: 1, 2: 2}, timers)
	_, err = parseDetectors("cpu: x\n")
	assert.Error(t, err)
}
