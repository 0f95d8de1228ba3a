package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

// Another run, of ci/selftest too, may be writing into the same -out.
func TestInUse(t *testing.T) {
	out := t.TempDir()
	unlock, err := cli.LockOut(out)
	require.NoError(t, err)
	defer unlock()
	o, err := parse([]string{"-kernel", "/none/linux", "-out", out})
	require.NoError(t, err)
	assert.Equal(t, &cli.InUse{Dir: out}, o.explore(t.Context()))
}
