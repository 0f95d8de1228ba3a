package cpuhp_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// Whoever asks is told of each write that takes CPUs offline or online.
func TestAfterWrite(t *testing.T) {
	dir := t.TempDir()
	for _, attr := range []string{"cpu1/online", "smt/control"} {
		path := filepath.Join(dir, "sys/devices/system/cpu", attr)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	sys, err := cpuhp.New(dir)
	require.NoError(t, err)
	wrote := 0
	told := sys.AfterWrite(func() { wrote++ })
	require.NoError(t, told.SetOnline(1, false))
	assert.Equal(t, 1, wrote)
	require.NoError(t, told.SetSMT("off"))
	assert.Equal(t, 2, wrote)
	assert.Error(t, told.SetOnline(2, false))
	require.NoError(t, sys.SetOnline(1, true), "another value of the same files")
	assert.Equal(t, 2, wrote)
}
