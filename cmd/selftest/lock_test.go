package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

// A run that finds another one in its -out, or a script of an earlier one, ends
// before it removes a report.
func TestInUse(t *testing.T) {
	for _, busy := range []string{"", "repro/bookworm-TestX.out"} {
		out := t.TempDir()
		results := filepath.Join(out, "results.json")
		require.NoError(t, os.WriteFile(results, nil, 0o644))
		unlock, err := cli.LockOut(filepath.Join(out, busy))
		require.NoError(t, err)
		defer unlock()
		o, err := parse([]string{"-kernel", "/nonexistent", "-out", out})
		require.NoError(t, err)
		assert.Equal(t, &cli.InUse{Dir: filepath.Join(out, busy)}, o.test(t.Context()))
		assert.FileExists(t, results)
	}
}
