//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseTimerInterrupts(t *testing.T) {
	const text = "           CPU0       CPU2\n  4:         10         20  IO-APIC   4-edge      ttyS0\nERR:          0\nLOC:       1729        507   Local timer interrupts\n"
	n, err := parseTimerInterrupts(text, 2)
	require.NoError(t, err)
	assert.Equal(t, 507, n)
	_, err = parseTimerInterrupts(text, 1)
	assert.EqualError(t, err, "no column of cpu1")
	_, err = parseTimerInterrupts("   CPU0\n 4: 1\n\n", 0)
	assert.EqualError(t, err, "no line LOC")
}
