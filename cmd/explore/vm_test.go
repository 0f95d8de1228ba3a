// The tests in this file run ci/explore, which boots virtual machines. They are
// skipped unless HOTPLUGTEST_VM=1 asks for them.
//
// A VM boots in 3 s on two idle CPUs. Patience is for busy ones.
package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/explore"
)

const patience = 3 * time.Minute

// run runs ci/explore in an empty directory, and returns the exit status and
// what it printed.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	script, err := filepath.Abs("../../ci/explore")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, append([]string{"-for", "20s", "-scripts=false"}, args...)...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v: %v\nstandard output:\n%s\nstandard error:\n%s", cmd, err, &out, &errs)
		}
	})
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// A kernel that has nothing to explore is told of in one line, and has no
// verdict.
func TestNothingToExplore(t *testing.T) {
	code, _, stderr := run(t, "-kernel", "bookworm", "-append", "cgroup_disable=cpuset")
	assert.Equal(t, 125, code)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	assert.Contains(t, stderr, "explore: bookworm: this kernel cannot be explored: it has no cpusets")
}

// A VM that dies before anything is explored is no finding.
func TestDiesAtOnce(t *testing.T) {
	code, _, stderr := run(t, "-kernel", "bookworm", "-append", "rdinit=/nosuch")
	assert.Equal(t, 125, code)
	assert.Contains(t, stderr, "explore: bookworm: the kernel panicked before the program started")
}

// What the explorer has found shows again, on the kernel that it was found on, in
// one of ten tries.
func TestFindings(t *testing.T) {
	const dir = "../../explore/testdata/findings"
	recordings, err := explore.Recordings(dir)
	require.NoError(t, err)
	require.NotEmpty(t, recordings)
	for _, r := range recordings {
		t.Run(r.Name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, r.Name+".txt"))
			require.NoError(t, err)
			// Some take a task that wakes up at the right moment. The first that shows
			// it is the last one.
			path := filepath.Join(t.TempDir(), "sequences.txt")
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(string(text)+"\n", 10)), 0o644))
			args := []string{"-replay", path, "-kernel", r.Kernel}
			if r.Profile != "" {
				args = append(args, "-profile", r.Profile)
			}
			// A try that spoils the machine in another way is the last one there.
			var lacks []string
			for range 3 {
				code, stdout, _ := run(t, args...)
				lacks = slices.DeleteFunc(append([]string{r.Key}, r.Also...), func(key string) bool {
					return strings.Contains(stdout, "BROKEN: "+key+": ")
				})
				if len(lacks) == 0 {
					assert.Equal(t, 1, code)
					break
				}
			}
			assert.Empty(t, lacks, "did not show in three VMs")
		})
	}
}
