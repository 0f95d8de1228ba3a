package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherTest is a test of another module's. The kernel of the README's command
// is Debian trixie's.
const otherTest = `package other

import (
	"os"
	"strings"
	"testing"
)

func TestKernel(t *testing.T) {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || !strings.HasPrefix(string(release), "6.12.") {
		t.Fatalf("%s %v", release, err)
	}
}
`

// What the README says of other modules is run as it stands there, in a module
// that takes this one from the checkout.
func TestOtherModule(t *testing.T) {
	needVM(t)
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^    (go get -tool \S+/cmd/vm)\n    (go test -exec .*)$`).FindSubmatch(readme)
	require.NotNil(t, commands, "README.md has the two commands, one after the other")
	snippet := regexp.MustCompile("(?ms)^```go\n(func TestHotplug.*?)^```$").FindSubmatch(readme)
	require.NotNil(t, snippet, "README.md has a test that runs the suite")
	get := regexp.MustCompile("`(go get github.com/\\S+)`").FindSubmatch(readme)
	require.NotNil(t, get, "README.md has the command that gets the suite")

	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"go.mod":        "module example.com/other\n\ngo 1.25.0\n\nreplace github.com/hotplugtest/hotplugtest => " + checkout + "\n",
		"go.sum":        string(sums),
		"other_test.go": otherTest,
		"suite_test.go": "//go:build suite\n\npackage other\n\nimport (\n\t\"testing\"\n\n\t\"github.com/hotplugtest/hotplugtest\"\n)\n\n" + string(snippet[1]),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	// This machine's module cache is all that is asked for modules: this module
	// has no version there, and what it needs has been built already.
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	proxy := "GOPROXY=file://" + filepath.Join(strings.TrimSpace(string(cache)), "cache/download")
	for _, command := range []string{string(commands[1]), string(get[1]), "go vet -tags suite .", string(commands[2])} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOSUMDB=off", proxy)
		said, err := cmd.CombinedOutput()
		require.NoErrorf(t, err, "%s\n%s", command, said)
		if command == string(commands[2]) {
			assert.Regexp(t, `(?m)^ok\s+example.com/other\s`, string(said))
		}
	}
}
