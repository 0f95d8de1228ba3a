//go:build !selftest

package hotplugtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A machine that is not asleep when the alarm comes does not wake.
func TestAlarmAfter(t *testing.T) {
	assert.Equal(t, 5*time.Second, alarmAfter(4))
	assert.Equal(t, 30*time.Second, alarmAfter(256))
}

// The kernel makes whoever reads wakeup_count wait for the end of an event.
func TestActiveWakeup(t *testing.T) {
	dir := t.TempDir()
	source := func(number, name, active string) {
		path := filepath.Join(dir, "wakeup"+number)
		require.NoError(t, os.MkdirAll(path, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(path, "name"), []byte(name+"\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(path, "active_time_ms"), []byte(active+"\n"), 0o644))
	}
	assert.Empty(t, activeWakeup(filepath.Join(dir, "none")))
	source("0", "alarmtimer", "0")
	assert.Empty(t, activeWakeup(dir))
	source("1", "charger", "17")
	assert.Equal(t, "charger", activeWakeup(dir))
}
