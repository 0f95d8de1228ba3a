package explore

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// someFinding is a finding with every kind of fact.
func someFinding() *Finding {
	return &Finding{
		Violation: Violation{
			Law: "partitions-disjoint", Touches: "isolated partition and the root cpuset", Lasted: stayed,
			Seen: "$A is isolated, but its CPU 1 is in $R too",
			Facts: []Fact{
				{"$A/cpuset.cpus.partition", "isolated"}, {"$R/cpuset.cpus.effective", "0-3"}, {"/proc/stat#cpus", "0 2"},
				{"/proc/schedstat#cpu0", "05 0f"}, {"/proc/schedstat#cpu2", ""},
			},
		},
		Steps:    []string{"mkdir $A", "echo 1-2 > $A/cpuset.cpus", "echo 0 > /sys/devices/system/cpu/cpu1/online", "echo isolated > $A/cpuset.cpus.partition"},
		Results:  []string{"", "", "EBUSY", ""},
		Original: 40, Shown: 10, Tried: 10, Seed: 1, Number: 2, Kernel: "6.12.0",
		Log: []string{"first", "second"},
	}
}

// runScript runs the script of a finding on a tree that stands for a machine,
// and returns its output and its exit status.
func runScript(t *testing.T, f *Finding, root string) (string, int) {
	t.Helper()
	law, err := find(append(slices.Clone(laws), Survives), f.Violation.Law)
	require.NoError(t, err)
	var script strings.Builder
	require.NoError(t, f.Script(&script, law))
	text := strings.NewReplacer("/sys/", root+"/sys/", "/proc/s", root+"/proc/s", "/proc/mounts", root+"/proc/mounts").Replace(script.String())
	// rmdir of a cgroup removes its files; mkdir makes them.
	text = "mkdir() { command mkdir $1 && : > $1/cpuset.cpus && : > $1/cpuset.cpus.partition; }\nrmdir() { rm -r $1; }\n" + text
	out, err := exec.Command("sh", "-c", text).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// machineTree is a machine on which the facts of someFinding are so.
func machineTree(t *testing.T) string {
	root := t.TempDir()
	for path, text := range map[string]string{
		"sys/fs/cgroup/cgroup.controllers": "cpu cpuset io\n", "sys/fs/cgroup/cpuset.cpus.effective": "0-3\n",
		"sys/fs/cgroup/cgroup.subtree_control": "", "sys/devices/system/cpu/cpu1/online": "1\n", "proc/stat": stat, "proc/schedstat": schedstat,
	} {
		write(t, root, path, text)
	}
	return root
}

// The script exits 1 if all is read that cannot be, 0 if one thing is not, and
// 125 if it cannot tell. It leaves the machine as it was.
func TestScript(t *testing.T) {
	root := machineTree(t)
	out, status := runScript(t, someFinding(), root)
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "BROKEN at try 1: partitions-disjoint: isolated partition and the root cpuset")
	assert.Contains(t, out, "cpuset.cpus.effective is '0-3'")
	assert.NoDirExists(t, filepath.Join(root, "sys/fs/cgroup/a"))
	online, err := os.ReadFile(filepath.Join(root, "sys/devices/system/cpu/cpu1/online"))
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(online))

	for path, text := range map[string]string{
		"sys/fs/cgroup/cpuset.cpus.effective": "0,2-3\n", "proc/stat": "cpu 1\ncpu0 1\n", "proc/schedstat": "cpu0 1\ncpu2 1\n",
	} {
		root := machineTree(t)
		write(t, root, path, text)
		out, status := runScript(t, someFinding(), root)
		assert.Equal(t, 0, status, "%s: %s", path, out)
		assert.Contains(t, out, "not broken")
	}
	write(t, root, "sys/fs/cgroup/cgroup.controllers", "cpu io\n")
	out, status = runScript(t, someFinding(), root)
	assert.Equal(t, 125, status, out)
	assert.Contains(t, out, "cannot tell: there is no cpuset controller of cgroup v2")
}

// A finding that shows at times is tried several times. Its tasks run until the
// end, and no longer.
func TestScriptTries(t *testing.T) {
	f := someFinding()
	f.Shown = 2
	f.Steps = append(f.Steps, "echo $T1 > $A/cpuset.cpus & echo $T2 > $A/cpuset.cpus & wait")
	f.Violation.Facts[1].Value = "0-7"
	out, status := runScript(t, f, machineTree(t))
	assert.Equal(t, 0, status, out)
	assert.Equal(t, 25, strings.Count(out, "cpuset.cpus.effective is '0-3'"), out)
}

// A kernel that comes to the end of the steps that another one crashed in is
// not broken. Where a shell can read nothing that is wrong, it cannot tell.
func TestScriptWithoutFacts(t *testing.T) {
	f := someFinding()
	f.Violation = Violation{Law: Survives.Name, Touches: "crash in f", Seen: "the kernel crashed"}
	out, status := runScript(t, f, machineTree(t))
	assert.Equal(t, 0, status, out)
	assert.Contains(t, out, "not broken")
	f.Violation.Law = "undone"
	out, status = runScript(t, f, machineTree(t))
	assert.Equal(t, 125, status, out)
	assert.Contains(t, out, "cannot tell")
}

// Each try begins on the machine that the first one began on: with all threads,
// and with the masks that there were.
func TestScriptRestores(t *testing.T) {
	f := someFinding()
	const smt, workqueues = cpuDir + "smt/control", workqueueDir + "cpumask"
	f.Steps = append(f.Steps, "echo off > "+smt, "echo 3 > "+workqueues)
	root := machineTree(t)
	write(t, root, smt, "on\n")
	write(t, root, workqueues, "ff\n")
	out, status := runScript(t, f, root)
	assert.Equal(t, 1, status, out)
	for path, want := range map[string]string{smt: "on\n", workqueues: "ff\n"} {
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		assert.Equal(t, want, string(text), path)
	}
}

// A complaint has other numbers each time, and characters that mean something
// to grep or to the shell. The script finds it all the same.
func TestScriptLog(t *testing.T) {
	for text, again := range map[string]string{
		"watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [sh:123]":                         "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [sh:99]",
		"BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 30s!":         "BUG: workqueue lockup - pool cpus=2 node=0 flags=0x4 nice=0 stuck for 61s!",
		"BUG: using smp_processor_id() in preemptible [00000000] code: it's \"$HOME\" `x`/1": "BUG: using smp_processor_id() in preemptible [00000000] code: it's \"$HOME\" `x`/2",
		"INFO: task kworker/1:2:345 blocked for more than 120 seconds.":                      "INFO: task kworker/0:1:77 blocked for more than 241 seconds.",
	} {
		broken := complaints([]kmsg.Record{{Text: text}})
		require.Len(t, broken, 1, text)
		same := complaints([]kmsg.Record{{Text: again}})
		assert.Equal(t, broken[0].Touches, same[0].Touches)
		for log, want := range map[string]string{text: "1", again: "1", "BUG: another": "0"} {
			script := "dmesg() { echo first; echo \"reproducer $$\"; cat log; }\nbroken=1\n" +
				"prints() { value=$(eval \"$1\"); [ \"$value\" = \"$2\" ] || broken=0; }\n" + broken[0].Facts[0].shell(2) + "\necho $broken"
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = t.TempDir()
			write(t, cmd.Dir, "log", log+"\n")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err)
			assert.Equal(t, want, strings.TrimSpace(string(out)), log)
		}
	}
}

// A kernel that refuses the last step, or takes one that another refused, is not
// broken.
func TestScriptLastStep(t *testing.T) {
	for _, last := range []struct{ step, result string }{
		{"echo 0 > /sys/devices/system/cpu/cpu9/online", ""}, {"echo 0 > /sys/devices/system/cpu/cpu1/online", "EBUSY"},
	} {
		f := someFinding()
		f.Steps, f.Results = append(f.Steps, last.step), append(f.Results, last.result)
		out, status := runScript(t, f, machineTree(t))
		assert.Zero(t, status, out)
	}
}

// Each step says what it does, and what it was refused with.
func TestScriptComments(t *testing.T) {
	law, err := find(laws, "domains")
	require.NoError(t, err)
	var script strings.Builder
	require.NoError(t, someFinding().Script(&script, law))
	for _, line := range []string{
		"\tmkdir $A # make a cgroup\n", "\techo isolated > $A/cpuset.cpus.partition || broken=0 # make it an isolated partition\n",
		"\techo 0 > /sys/devices/system/cpu/cpu1/online # take CPU 1 offline: EBUSY\n", "# Promised: " + law.Text,
	} {
		assert.Contains(t, script.String(), line)
	}
	f := someFinding()
	f.Steps = []string{"reboot"}
	assert.ErrorIs(t, f.Script(&script, law), ErrLine)
}

// The report has what somebody needs who has never heard of the explorer.
func TestSave(t *testing.T) {
	law, err := find(laws, "partitions-disjoint")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, someFinding().Save(dir, law, []Verdict{{Kernel: "Debian sid", Status: "broken"}, {Kernel: "Debian bookworm", Status: "not broken"}}))
	dir = filepath.Join(dir, "partitions-disjoint-isolated-partition-and-the-root-cpuset")
	report, err := os.ReadFile(filepath.Join(dir, "report.md"))
	require.NoError(t, err)
	for _, text := range []string{
		law.Text, law.Source, "| Debian bookworm | not broken |", "shown in 10 of 10 runs", "    echo 0 > /sys/devices/system/cpu/cpu1/online  # EBUSY\n",
		"    $R/cpuset.cpus.effective: 0-3\n", "    second\n", "Half a second later it was still so.", "seed 1, sequence 2",
	} {
		assert.Contains(t, string(report), text)
	}
	sequence, err := os.ReadFile(filepath.Join(dir, "sequence.txt"))
	require.NoError(t, err)
	all, err := ReadSequences(string(sequence))
	require.NoError(t, err)
	assert.Equal(t, someFinding().Steps, texts(all[0]))
}

// Findings whose long names begin alike have directories of their own.
func TestSlug(t *testing.T) {
	f, g := someFinding(), someFinding()
	f.Violation.Touches = strings.Repeat("cpuset.cpus.effective, ", 8) + "cpuset.cpus.isolated"
	g.Violation.Touches = strings.Repeat("cpuset.cpus.effective, ", 8) + "cpuset.mems"
	assert.NotEqual(t, f.Slug(), g.Slug())
	assert.LessOrEqual(t, len(f.Slug()), maxSlug)
	assert.Equal(t, "partitions-disjoint-isolated-partition-and-the-root-cpuset", someFinding().Slug())
}

// What is left of a machine that died is the sequence, with the step that it
// died in.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new/sequence.txt")
	j, err := OpenJournal(path)
	require.NoError(t, err)
	defer j.Close()
	require.NoError(t, j.Begin(Begin{Number: 1, Why: "explore", Lines: []string{"mkdir $B", "rmdir $B", "mkdir $C"}}))
	require.NoError(t, j.Step(0))
	require.NoError(t, j.Begin(Begin{Number: 2, Why: "explore", Lines: []string{"mkdir $A", "rmdir $A", "mkdir $C"}}))
	require.NoError(t, j.Step(0))
	require.NoError(t, j.Step(1))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	all, err := ReadSequences(string(text))
	require.NoError(t, err)
	assert.Equal(t, []string{"mkdir $A", "rmdir $A"}, texts(all[0]))
	require.NoError(t, j.Step(3))
	_, err = OpenJournal("/dev/null/x/y")
	assert.ErrorContains(t, err, "/dev/null")
	full, err := OpenJournal("/dev/full")
	require.NoError(t, err)
	defer full.Close()
	assert.ErrorContains(t, full.add("x"), "no space left")

	none := &Journal{}
	assert.NoError(t, none.Begin(Begin{Number: 1, Lines: []string{"mkdir $B"}}))
	assert.NoError(t, none.Step(0))
	assert.NoError(t, none.Close())
}
