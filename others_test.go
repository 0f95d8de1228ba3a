//go:build !selftest

package hotplugtest_test

import (
	"os"
	"path/filepath"
	"strings"
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

// The binary that runs on other kernels has the suite's tests alone: a test of a
// parser would pass there, whatever the kernel does, and count as a result.
func TestUnitTestsAreTagged(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.Contains(string(text), "\npackage hotplugtest\n") || strings.HasPrefix(string(text), "package hotplugtest\n") {
			assert.True(t, strings.HasPrefix(string(text), "//go:build !selftest\n"), "%s lacks //go:build !selftest", file)
		}
	}
}
