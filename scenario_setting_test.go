//go:build !selftest

package hotplugtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An IRQ that its driver has a hint for, the driver may move when a CPU goes.
func TestHinted(t *testing.T) {
	for hint, want := range map[string]bool{"0\n": false, "00000000,00000000\n": false, "f\n": true, "00000001,00000000\n": true} {
		i := irq(t.TempDir())
		require.NoError(t, os.WriteFile(i.file("affinity_hint"), []byte(hint), 0o644))
		assert.Equal(t, want, i.hinted(), hint)
	}
	assert.False(t, irq(filepath.Join(t.TempDir(), "4")).hinted(), "no such file")
}
