//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLEDCPU(t *testing.T) {
	triggers := []string{"none", "[kbd-numlock]", "cpu", "cpu0", "cpu1", "cpu2", "cpu7"}
	for _, tt := range []struct {
		cpus []int
		cpu  int
		ok   bool
	}{
		{[]int{1, 3}, 1, true},
		{[]int{1, 2}, 2, true},
		{[]int{1, 7, 63}, 7, true}, // a kernel since v6.7, with triggers of eight CPUs
		{[]int{8, 63}, 0, false},
	} {
		cpu, ok := ledCPU(triggers, tt.cpus)
		assert.Equal(t, tt.ok, ok, tt.cpus)
		assert.Equal(t, tt.cpu, cpu, tt.cpus)
	}
}
