package lab

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The key is another one when the kernel was built anew, or a source has
// changed, and not when a run has left its reports.
func TestKey(t *testing.T) {
	t.Chdir(t.TempDir())
	image := filepath.Join(t.TempDir(), "bzImage")
	write := func(file, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	write(image, "old")
	write("suite/row.go", "package suite")
	key := func() string {
		k, err := Key("the kernel", image)
		require.NoError(t, err)
		return k
	}
	last := key()
	assert.Regexp(t, "^the kernel [0-9a-f]{64}$", last)
	for file, text := range map[string]string{image: "new", "suite/row.go": "package suite // changed", "go.mod": "module m"} {
		write(file, text)
		assert.NotEqual(t, last, key(), file)
		last = key()
	}
	write("out/results.json", "{}")
	write(".git/objects.go", "")
	assert.Equal(t, last, key())
	_, err := Key("the kernel", "none")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
