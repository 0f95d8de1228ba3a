package explore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A known finding is known in its kernels alone, and nothing else is.
func TestKnown(t *testing.T) {
	const key = "task-in-cpuset: a CPU that came online, and a task in a member"
	assert.True(t, explained(KnownIn(Version{6, 12}), key))
	assert.False(t, explained(KnownIn(Version{6, 1}), key))
	assert.False(t, explained(KnownIn(Version{6, 12}), "task-in-cpuset: a task in a member"))
	assert.False(t, explained(KnownIn(Version{6, 12}), "domains: it"))
}

// Each known finding has a sequence that shows it, by its first line or one
// that begins with also, and breaks a law that there is.
func TestKnownHaveSequences(t *testing.T) {
	files, err := filepath.Glob("testdata/findings/*.txt")
	require.NoError(t, err)
	var keys []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		_, err = ReadSequences(string(text))
		require.NoError(t, err, file)
		for line := range strings.Lines(string(text)) {
			if key, ok := strings.CutPrefix(line, "# "); ok {
				keys = append(keys, strings.TrimPrefix(strings.TrimSpace(key), "also "))
			}
		}
	}
	for _, k := range known {
		law, _, _ := strings.Cut(k.Key, ": ")
		_, err := find(append(laws, Survives), law)
		assert.NoError(t, err)
		shown := k.Row != ""
		for _, key := range keys {
			shown = shown || strings.HasPrefix(key, k.Key)
		}
		assert.True(t, shown, "no file in testdata/findings shows %q", k.Key)
	}
}
