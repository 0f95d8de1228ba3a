package explore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A line is the same after it was written and parsed.
func TestParseLine(t *testing.T) {
	for _, text := range []string{
		"echo 0 > /sys/devices/system/cpu/cpu1/online",
		"echo > $A/cpuset.cpus",
		"echo 1-2,4 > $A/x/y/cpuset.cpus",
		"echo $T1 > $A/cgroup.procs",
		"echo +cpuset > $R/cgroup.subtree_control",
		"echo 20000 100000 > $B/cpu.max",
		"mkdir $A/x", "rmdir $A/x", "taskset -p 6 $T1",
		"echo 3 > /proc/irq/4/smp_affinity; rmdir $A",
		"echo 1 > $A/cpuset.cpus & taskset -p f $T2 & wait",
	} {
		l, err := ParseLine(text)
		require.NoError(t, err, text)
		assert.Equal(t, text, l.String())
	}
}

// What a shell would take for something else, and what no target can perform, is
// refused, by name.
func TestParseLineRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"":                              "a step is echo VALUE > PATH",
		"rm -rf /":                      "a step is",
		"echo 1":                        "there is no > PATH",
		"echo `id` > /x":                "the VALUE may have",
		"echo -n 1 > /x":                "the VALUE may have",
		"echo 1 > x":                    "the PATH must begin",
		"echo 1 > /a/../b":              "the PATH must begin",
		"echo 1 > /a b":                 "the PATH must begin",
		"mkdir $A/x y":                  "the PATH must begin",
		"taskset 6 $T1":                 "want taskset -p MASK TASK",
		"taskset -p 6 1":                "want a hexadecimal MASK",
		"taskset -p zz $T1":             "want a hexadecimal MASK",
		"mkdir $A; reboot":              "a step is",
		"echo 1 > /x & echo 2 > y&wait": "the PATH must begin",
	} {
		_, err := ParseLine(text)
		require.ErrorIs(t, err, ErrLine, text)
		assert.ErrorContains(t, err, why, text)
	}
}

// What a target does is what a shell does: same files, same successes.
func TestDoIsShell(t *testing.T) {
	lines := []string{
		"mkdir $A", "mkdir $A/x", "mkdir $A", "echo 1-3 > $A/cpus", "echo > $A/empty", "echo 20 100 > $A/max",
		"rmdir $A", "mkdir $B; rmdir $B", "mkdir $C & echo 2 > $A/x/cpus & wait", "echo 1 > $B/none", "rmdir $C",
	}
	byUs, byShell := t.TempDir(), t.TempDir()
	for _, dir := range []string{byUs, byShell} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/x"), 0o755))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "a")))
	}
	target := NewTarget(byUs, "", "")
	script := "A=" + byShell + "/a B=" + byShell + "/b C=" + byShell + "/c\n"
	var failed []string
	for _, text := range lines {
		l, err := ParseLine(text)
		require.NoError(t, err)
		touch(t, byUs, l, target)
		if target.Do(l).Failed() {
			failed = append(failed, text)
		}
		script += "{ " + text + "; }\n"
	}
	out, _ := exec.Command("sh", "-c", script).CombinedOutput()
	assert.Equal(t, tree(t, byShell), tree(t, byUs), "%s", out)
	assert.Equal(t, []string{"mkdir $A", "rmdir $A", "echo 1 > $B/none"}, failed, "%s", out)
}

// touch makes the files that a line writes to, as cgroups have theirs: a target
// creates none.
func touch(t *testing.T, root string, l Line, target *Target) {
	for _, c := range l.Commands {
		path := target.Path(c.Path)
		if c.Op == Write && exists(filepath.Dir(path)) {
			require.NoError(t, os.WriteFile(path, nil, 0o644))
		}
	}
}

// tree returns the files below a directory and what is in them.
func tree(t *testing.T, root string) string {
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		b.WriteString(name)
		if !d.IsDir() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.WriteString(": " + string(text))
		}
		b.WriteString("\n")
		return nil
	}))
	return b.String()
}
