package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

// What keeps the siblings from being made or switched may be over when the next
// row needs them.
func TestSiblingsAfterAFailure(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"proc/self/mountinfo": "30 22 0:25 / /cg rw - cgroup2 cgroup2 rw\n", "cg/cgroup.controllers": "cpuset\n", "cg/1": "",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte(text), 0o644))
	}
	h, err := cpuset.New(root)
	require.NoError(t, err)
	c := &siblings{parent: h.Root(), count: 3}
	assert.ErrorIs(t, c.set(true), os.ErrExist)

	require.NoError(t, os.Remove(filepath.Join(root, "cg/1")))
	assert.ErrorIs(t, c.set(true), os.ErrNotExist, "there is no cgroup.subtree_control")
	for _, name := range []string{"0", "1", "2"} {
		assert.DirExists(t, filepath.Join(root, "cg", name))
	}

	control := filepath.Join(root, "cg/cgroup.subtree_control")
	require.NoError(t, os.WriteFile(control, nil, 0o644))
	assert.NoError(t, c.set(true))
	written, err := os.ReadFile(control)
	require.NoError(t, err)
	assert.Equal(t, "+cpuset\n", string(written))
}
