package cli

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// module is the directory of the scripts of ci/, relative to this package's.
const module = "../.."

// A fakeGo does for the go command in a script.
type fakeGo struct{ dir string }

// newFakeGo returns one that does what text says, with the file in which to put
// what go build or go test makes as $out.
func newFakeGo(t *testing.T, text string) *fakeGo {
	const head = "#!/bin/sh\nfor arg; do [ \"$last\" != -o ] || out=$arg; last=$arg; done\n"
	g := &fakeGo{dir: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "go"), []byte(head+text), 0o755))
	return g
}

// run runs a script of the module that is at root, in dir.
func (g *fakeGo) run(t *testing.T, root, dir, script string, args ...string) (code int, output string) {
	path, err := filepath.Abs(filepath.Join(root, "ci", script))
	require.NoError(t, err)
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+g.dir+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+t.TempDir(), "HOT_ADD=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// A source that does not build is no verdict of the scripts that have one.
func TestNoBuild(t *testing.T) {
	for _, script := range []string{"compare", "explore", "report", "selftest", "widen"} {
		for _, status := range []int{1, 127} {
			code, output := newFakeGo(t, fmt.Sprintf("exit %d\n", status)).run(t, module, t.TempDir(), script)
			assert.Equal(t, Untold, code, "ci/%s, go exits %d: %s", script, status, output)
		}
	}
}

// scriptIn puts a script into a module of its own, and returns its directory.
func scriptIn(t *testing.T, script string) (root string) {
	root = t.TempDir()
	text, err := os.ReadFile(filepath.Join(module, "ci", script))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(root, "ci"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "ci", script), text, 0o755))
	return root
}

// ci/selftest is built anew if any file has changed that it embeds.
func TestEmbedded(t *testing.T) {
	root := scriptIn(t, "selftest")
	program := newFakeGo(t, `[ "$1" = version ] || { printf '#!/bin/sh\necho "$HOTPLUGTEST_SOURCES"\n' >"$out/selftest"; chmod +x "$out/selftest"; }`)
	pattern := regexp.MustCompile(`(?m)^//go:embed (.*)$`)
	code, before := program.run(t, root, root, "selftest")
	require.Zero(t, code, before)
	embedded := 0
	require.NoError(t, fs.WalkDir(os.DirFS(module), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(module, path))
		require.NoError(t, err)
		for _, m := range pattern.FindAllSubmatch(text, -1) {
			file := filepath.Join(root, filepath.Dir(path), string(m[1]))
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte("changed"), 0o644))
			code, after := program.run(t, root, root, "selftest")
			require.Zero(t, code, after)
			assert.NotEqual(t, before, after, "%s embeds %s", path, m[1])
			before = after
			embedded++
		}
		return nil
	}))
	assert.NotZero(t, embedded)
}

// A kernel is named from where a script was started.
func TestKernelOfScript(t *testing.T) {
	for _, script := range []string{"killtest", "asfound"} {
		root := scriptIn(t, script)
		require.NoError(t, os.MkdirAll(filepath.Join(root, "machine", script), 0o755))
		here := t.TempDir()
		program := newFakeGo(t, `{ echo '#!/bin/sh'; echo 'for arg; do echo "<$arg>"; done'; } >"$out"; chmod +x "$out"`)
		for _, name := range []string{"../linux", "sid", "a b", ""} {
			args := []string{name}
			if script == "killtest" {
				args = []string{"-kernel", name}
			}
			code, output := program.run(t, root, here, script, args...)
			assert.Zero(t, code, output)
			assert.Contains(t, output, "<exec>\n<-C>\n<"+here+">\n<-kernel>\n<"+name+">\n", "ci/%s %q", script, name)
		}
	}
}
