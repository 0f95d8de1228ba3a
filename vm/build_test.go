package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBuildAsksGo has a go command that makes a program with the number of
// times that it has been asked in it.
func TestBuildAsksGo(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	script := `#!/bin/sh
asked=` + dir + `/asked
echo >>$asked
while [ "$1" != -o ]; do shift; done
wc -l <$asked >$2
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", dir)
	for _, step := range []struct {
		what, sources, want string
		remove              string // what is not in the cache any more
	}{
		{what: "there is no program", sources: "a", want: "1"},
		{what: "nothing has changed", sources: "a", want: "1"},
		{what: "a source has changed", sources: "b", want: "2"},
		{what: "whether a source has changed is not known", sources: "", want: "3"},
		{what: "still not", sources: "", want: "4"},
		{what: "the program is of unknown sources", sources: "b", want: "5"},
		{what: "nothing has changed again", sources: "b", want: "5"},
		{what: "the program is gone", sources: "b", want: "6", remove: "tool-amd64"},
	} {
		if step.remove != "" {
			require.NoError(t, os.Remove(filepath.Join(dir, "hotplugtest", step.remove)))
		}
		t.Setenv(sources, step.sources)
		program, err := Build(t.Context(), "tool", "amd64", "./tool", "build")
		require.NoError(t, err, step.what)
		assert.Equal(t, step.want, strings.TrimSpace(string(program)), step.what)
	}
}
