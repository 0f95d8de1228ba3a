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
