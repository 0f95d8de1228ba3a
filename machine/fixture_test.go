package machine_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stat and status of a thread, as in proc(5).
func stat(tid int, name string, flags, start int) string {
	return fmt.Sprintf("%d (%s) S 1 %d %d 0 -1 %d 1 2 3 4 5 6 7 8 20 0 1 0 %d 9 9\n", tid, name, tid, tid, flags, start)
}

func status(cpus string) string {
	return "Name:\tx\nTgid:\t7\nCpus_allowed:\tf\nCpus_allowed_list:\t" + cpus + "\nMems_allowed:\t1\n"
}

// tree makes a machine of text files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	change(t, root, map[string]string{cpu + "online": "0-3\n"})
	change(t, root, files)
	return root
}

// change writes files of a machine, and removes those whose text is "-".
func change(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		if files[name] == "-" {
			require.NoError(t, os.RemoveAll(path))
			continue
		}
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		writeFile(t, path, files[name])
	}
}

func writeFile(tb testing.TB, path, text string) {
	tb.Helper()
	require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(tb, os.WriteFile(path, []byte(text), 0o644))
}
