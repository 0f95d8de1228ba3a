package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

// Another run may be writing the reports of this kernel.
func TestInUse(t *testing.T) {
	w, err := parse([]string{"-kernel", "/none/linux", "-out", t.TempDir()})
	require.NoError(t, err)
	unlock, err := cli.LockOut(w.reports())
	require.NoError(t, err)
	defer unlock()
	assert.Equal(t, &cli.InUse{Dir: w.reports()}, w.run(t.Context()))
}
