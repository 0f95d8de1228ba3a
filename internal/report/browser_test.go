package report

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// playwright is what drives the browser, a package for Node.js.
const playwright = "playwright-core@1.65.1"

// TestInBrowser opens the page in headless Chromium, in light and dark, at two
// widths, with mouse and keyboard. It needs chromium, node and npm, and is
// skipped without them.
func TestInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it starts a browser")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s: install nodejs and npm", program)
		}
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium: install it")
	}
	dir := t.TempDir()
	npm := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, playwright)
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	require.NoError(t, err, "%s", out)

	page, large := filepath.Join(dir, "page.html"), filepath.Join(dir, "large.html")
	require.NoError(t, os.WriteFile(page, []byte(html(t, sample(t, filepath.Join(dir, "sample")))), 0o644))
	require.NoError(t, os.WriteFile(large, []byte(html(t, big(t, filepath.Join(dir, "big"), 36, 100))), 0o644))
	script, err := filepath.Abs("testdata/browse.mjs")
	require.NoError(t, err)
	node := exec.CommandContext(t.Context(), "node", script, chromium, page, large)
	node.Dir = dir
	var errs strings.Builder
	node.Stderr = &errs
	out, err = node.Output()
	require.NoError(t, err, "%s", &errs)

	var seen struct {
		Requests, Errors, Grid []string
		Background             map[string]string
		Overflow               map[string]int
		Focused, Outline       string
		Folds                  []bool
		TextBefore, TextAfter  bool
		Text, Toggled, Printed string
		Opened, Rows           int
	}
	require.NoError(t, json.Unmarshal(out, &seen), "%s", out)
	assert.Equal(t, sampleGrid, seen.Grid)
	assert.Empty(t, seen.Errors)
	for _, url := range seen.Requests {
		assert.Regexp(t, `^file://.*/(page|large)\.html`, url, "the page needs another file")
	}
	assert.Equal(t, map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}, seen.Background)
	for width, over := range seen.Overflow {
		assert.LessOrEqual(t, over, 0, "at width %s the page is wider than the window", width)
	}
	assert.Equal(t, "TestOnline/at-uevent✗ 1 of 2◐ 1 of 2", seen.Focused)
	assert.Equal(t, "solid", seen.Outline, "the focus does not show")
	assert.Equal(t, []bool{true, false, true}, seen.Folds)
	assert.False(t, seen.TextBefore, "texts are folded")
	assert.True(t, seen.TextAfter, "a link to a text unfolds it")
	assert.Contains(t, seen.Text, "cpu0, at the uevent of Online: <affinity> & more")
	assert.Equal(t, seen.Background["dark"], seen.Toggled)
	assert.Equal(t, seen.Background["light"], seen.Printed, "paper is white")
	assert.GreaterOrEqual(t, seen.Rows, 1000)
	t.Logf("3 kernels in 12 profiles with 1000 rows open in %d ms of processor time", seen.Opened)
	assert.Positive(t, seen.Opened)
	// It takes about 600 ms. A slow machine may need more.
	assert.Less(t, seen.Opened, 2000)
}
