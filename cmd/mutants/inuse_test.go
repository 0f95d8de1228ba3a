package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

// Another run may be writing the reports of this kernel.
func TestInUse(t *testing.T) {
	out := t.TempDir()
	dir := filepath.Join(out, "bookworm")
	unlock, err := cli.LockOut(dir)
	require.NoError(t, err)
	defer unlock()
	o, err := parse([]string{"-kernel", "bookworm", "-run", "^none$", "-out", out})
	require.NoError(t, err)
	assert.Equal(t, &cli.InUse{Dir: dir}, o.run(t.Context()))
}
