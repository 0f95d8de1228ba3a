package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A test that a known defect alone makes fail is skipped, and is neither one
// that passes nor one that nobody ran.
func TestKnownDefects(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"known": [
		{"id": "empty-mask", "test": "TestKnownDefects/row", "kernels": [{"from": "2.6"}],
			"symptom": "^the mask is empty", "why": "it forgets masks", "review": "2999-01-01"},
		{"id": "mended", "test": "TestKnownDefects/passes", "kernels": [{"from": "2.6"}],
			"symptom": "^it hangs", "profiles": [], "why": "it hung", "review": "2999-01-01"},
		{"id": "old", "test": "TestKnownDefects/row", "kernels": [{"from": "2.6"}],
			"symptom": "^another reason", "why": "it was so", "review": "2020-01-01"}]}`), 0o644))
	k, err := loadKnown([]string{file})
	require.NoError(t, err)
	before := len(counted.since(0))
	assert.True(t, t.Run("row", func(t *testing.T) {
		counted.test(t)
		k.watch(t)
		k.skip(t, "")
		k.skip(t, "another reason")
		var none *knownDefects
		none.watch(t)
		none.skip(t, "the mask is empty\n    promised: it is not\n    known: it forgets masks")
		k.skip(t, "the mask is empty\n    promised: it is not\n    known: it forgets masks")
		t.Error("the test goes on")
	}))
	t.Run("passes", func(t *testing.T) { counted.test(t); k.watch(t) })
	got := counted.since(before)
	require.Len(t, got, 2)
	assert.Equal(t, ended{t.Name() + "/row", broken, "known: empty-mask"}, got[0])
	assert.Regexp(t, `^hotplugtest: Linux \S+: 1 passed, 0 skipped, 0 failed, 1 by known defects$`, got.summary(false))
	assert.Equal(t, []string{
		"note: " + file + ": old was to be reviewed by 2020-01-01: it is ignored",
		"note: no longer: mended",
	}, k.notes())

	_, err = loadKnown([]string{file, file + ".none"})
	assert.ErrorContains(t, err, "-known open "+file+".none: no such file")
	builtin, err := loadKnown([]string{"builtin"})
	require.NoError(t, err)
	assert.Empty(t, builtin.notes())
}
