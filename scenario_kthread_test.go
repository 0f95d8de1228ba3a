//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// When a CPU comes online, the kernel takes those that are offline out of the
// masks of unbound workers. They run where they ran.
func TestThreadsMoved(t *testing.T) {
	online := affinity.Of(0, 1, 2)
	for _, tt := range []struct{ before, after, says string }{
		{"0-2", "0-2", ""},
		{"0-127", "0-2", ""},
		{"0-2", "0-127", ""},
		{"0-127", "0-1", "now, thread 7 may run on CPUs 0-1, and might on 0-127"},
		{"1", "0-127", "now, thread 7 may run on CPUs 0-127, and might on 1"},
		{"1", "x", "now, thread 7 may run on CPUs x, and might on 1"},
	} {
		err := threadsMoved(map[string]string{"7": tt.before, "8": "0"}, map[string]string{"7": tt.after, "9": "1"}, online, "now")
		if tt.says == "" {
			assert.NoError(t, err, tt)
		} else {
			assert.EqualError(t, err, tt.says)
		}
	}
}

// A kcompactd that lost its CPUs before the row is judged, not left to whoever may
// have moved it: a broken kernel loses them in the first operation of the run.
func TestOfNode(t *testing.T) {
	cpus, online := affinity.Of(2, 3), affinity.Of(0, 1, 2, 3)
	for mask, want := range map[string]bool{
		"2-3": true, "2-4": true, // CPU 4 of the node was offline before
		"0-3": true, "0-127": true, // lost
		"2": false, "0-1": false, "1-3": false, "x": false, // moved
	} {
		assert.Equal(t, want, ofNode(mask, cpus, online), mask)
	}
}
