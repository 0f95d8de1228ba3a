package tsc

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMeasure(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		assert.Zero(t, measure())
		assert.Empty(t, BootArg())
		return
	}
	first, second := measure(), measure()
	if first == 0 || second == 0 {
		t.Skip("the machine is too busy to measure anything")
	}
	assert.Greater(t, first, 100)
	assert.InEpsilon(t, first, second, 0.01)
	assert.Regexp(t, `^tsc_early_khz=[0-9]+000$`, BootArg())
}
