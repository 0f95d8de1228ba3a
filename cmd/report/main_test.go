package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseError(t *testing.T) {
	for args, want := range map[string]string{
		"":              "give the directory of a run, or several",
		"-format xml a": "-format xml: there is no such format, only html, markdown",
		"-tests a":      "flag provided but not defined: -tests",
	} {
		_, err := parse(strings.Fields(args))
		assert.EqualError(t, err, want, args)
	}
}

// Paths are relative to where the script was started, and links on the page to
// where that is.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		text := `{"Action":"fail","Package":"hotplugtest/k` + name + `","Test":"TestA"}` + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "results.json"), []byte(text), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "console.log"), nil, 0o644))
	}
	report := func(args ...string) string {
		o, err := parse(append([]string{"-C", dir}, args...))
		require.NoError(t, err)
		var b strings.Builder
		require.NoError(t, o.report(&b))
		return b.String()
	}
	page := filepath.Join(dir, "b", "both.html")
	assert.Equal(t, page+": 0 passed, 0 skipped, 2 failed\n", report("-out", "b/both.html", "a", "b"))
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(text), `<a href="./../a/console.log">`)
	assert.Contains(t, string(text), `<a href="./console.log">`)

	report("a")
	assert.FileExists(t, filepath.Join(dir, "report.html"))
	assert.Contains(t, report("-format", "markdown", "-out", "-", "a"), "| ka |")

	o, err := parse([]string{"-C", dir, "nothing"})
	require.NoError(t, err)
	assert.EqualError(t, o.report(&strings.Builder{}), "open "+dir+"/nothing: no such file or directory")
}
