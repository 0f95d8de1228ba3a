package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// The last CPU that is not isolated stays.
func TestGoes(t *testing.T) {
	for isolated, want := range map[string]int{"": 3, "0-2": 2, "0-1": 3, "1-3": 3} {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/devices/system/cpu")
		for cpu := range 4 {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, fmt.Sprintf("cpu%d", cpu)), 0o755))
			if cpu > 0 {
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("cpu%d/online", cpu)), []byte("1\n"), 0o644))
			}
		}
		for name, text := range map[string]string{"present": "0-3", "possible": "0-3", "online": "0-3", "isolated": isolated} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644))
		}
		sys, err := cpuhp.New(root)
		require.NoError(t, err)
		got, err := goes(sys)
		require.NoError(t, err)
		assert.Equal(t, want, got, isolated)
	}
}
