//go:build !selftest

package hotplugtest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without the tag selftest the test binary also has the tests of the rows.
func init() { options.OtherTests = true }

// As a regular file it would never be newer than the last run.
func TestNeverCached(t *testing.T) {
	target, err := os.Readlink("testdata/never-cached")
	require.NoError(t, err)
	assert.Equal(t, "/proc/self/stat", target)
}
