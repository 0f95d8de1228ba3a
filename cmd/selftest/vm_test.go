// The tests in this file run ci/selftest, which boots virtual machines. They
// are skipped unless HOTPLUGTEST_VM=1 asks for them; then none is skipped. They
// assume of the machine what those of cmd/vm do.
//
// An emulated VM boots in 3 s on two idle CPUs, and the tests chosen here take
// 4 s. Patience is for busy ones: all of it ends by itself, so only a hang of
// selftest's own takes that long.
package main_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 3 * time.Minute

// emulators is what a run says of an end that may be QEMU's doing, as that of
// one in a hundred virtual machines is. Twice in a row is something else.
const emulators = "vm: this may be QEMU's doing:"

// selftest runs ci/selftest in an empty directory, and returns that, the exit
// status and what it printed.
func selftest(t *testing.T, args ...string) (dir string, code int, stdout, stderr string) {
	t.Helper()
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	script, err := filepath.Abs("../../ci/selftest")
	require.NoError(t, err)
	var cmd *exec.Cmd
	var out, errs bytes.Buffer
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd = exec.CommandContext(ctx, script, append([]string{"-kernel", "bookworm"}, args...)...)
		cmd.Dir = t.TempDir()
		out.Reset()
		errs.Reset()
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err = cmd.Run(); !bytes.Contains(out.Bytes(), []byte(emulators)) {
			break
		}
		t.Logf("once more, as it is not about selftest:\n%s", &out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v: %v\nstandard output:\n%s\nstandard error:\n%s", cmd, err, &out, &errs)
		}
	})
	return cmd.Dir, cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

type junit struct {
	Failures int `xml:"failures,attr"`
	Suites   []struct {
		Name  string `xml:"name,attr"`
		Cases []struct {
			Name       string `xml:"name,attr"`
			Properties []struct {
				Name  string `xml:"name,attr"`
				Value string `xml:"value,attr"`
			} `xml:"properties>property"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func TestPass(t *testing.T) {
	dir, code, stdout, _ := selftest(t, "-run", "TestSameValue", "-out", "reports")
	assert.Equal(t, 0, code)
	assert.Regexp(t, `(?m)^bookworm: Debian bookworm linux-image-6\.1\.\S+ \S+, 4 CPUs$`, stdout)
	assert.Regexp(t, `(?m)^PASS hotplugtest/bookworm\.TestSameValue/offline/at-return/`, stdout)
	assert.NotContains(t, stdout, "=== ATTR")
	assert.NotContains(t, stdout, "\x1b", "a pipe has no last line that changes")
	assert.NotContains(t, stdout, "\x00")

	// In the directory it was called in, not in the one that it runs in.
	reports := filepath.Join(dir, "reports")
	data, err := os.ReadFile(filepath.Join(reports, "junit.xml"))
	require.NoError(t, err)
	var report junit
	require.NoError(t, xml.Unmarshal(data, &report))
	assert.Zero(t, report.Failures)
	require.Len(t, report.Suites, 1)
	assert.Equal(t, "hotplugtest/bookworm", report.Suites[0].Name)
	probed := 0
	for _, c := range report.Suites[0].Cases {
		assert.True(t, strings.HasPrefix(c.Name, "TestSameValue"), c.Name)
		properties := make(map[string]string)
		for _, p := range c.Properties {
			properties[p.Name] = p.Value
		}
		if properties["probes"] == "" {
			continue // it has the cases below it
		}
		probed++
		assert.Regexpf(t, `^6\.1\.`, properties["kernel"], "%s: kernel", c.Name)
		assert.Regexpf(t, `^\d+(,\d+)*$`, properties["cpus"], "%s: cpus", c.Name)
	}
	assert.Greater(t, probed, 10, "cases that have seen a CPU")

	data, err = os.ReadFile(filepath.Join(reports, "results.json"))
	require.NoError(t, err)
	passed := 0
	for line := range bytes.Lines(data) {
		var event struct{ Action, Package, Test string }
		require.NoErrorf(t, json.Unmarshal(line, &event), "%s", line)
		assert.Equal(t, "hotplugtest/bookworm", event.Package)
		assert.NotEqual(t, "artifacts", event.Action)
		if event.Action == "pass" && event.Test != "" {
			passed++
		}
	}
	assert.Len(t, report.Suites[0].Cases, passed, "both reports are of the same tests")

	console, err := os.ReadFile(filepath.Join(reports, "console.log"))
	require.NoError(t, err)
	assert.Contains(t, string(console), "Linux version 6.1.")

	page, err := os.ReadFile(filepath.Join(reports, "report.html"))
	require.NoError(t, err)
	assert.Regexp(t, `Debian bookworm linux-image-6\.1\.\S+ \S+<br>6\.1\.`, string(page))
	assert.Regexp(t, `sha256 [0-9a-f]{64}<`, string(page))
	assert.Contains(t, string(page), `<a href="./console.log">`)
	assert.Regexp(t, `id="verdict">\d+ passed, \d+ skipped, 0 failed<`, string(page))
	summary, err := os.ReadFile(filepath.Join(reports, "summary.md"))
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^\| bookworm \| 6\.1\.\S+ \| \d+ \| \d+ \| 0 \| 0 \|  \|$`, string(summary))
}

// Each profile is a VM of its own, and all of them are one report. The rows are
// those that need the profile.
func TestProfiles(t *testing.T) {
	dir, code, stdout, _ := selftest(t, "-profile", "maxcpus", "-profile", "cgroup-v1", "-run", "TestOnline/first|TestOffline/at-return/emptied", "-append", "printk.time=1")
	assert.Equal(t, 0, code)
	assert.Regexp(t, `(?m)^bookworm/maxcpus: Debian bookworm .*, 4 CPUs, maxcpus=2$`, stdout)
	data, err := os.ReadFile(filepath.Join(dir, "out/junit.xml"))
	require.NoError(t, err)
	var report junit
	require.NoError(t, xml.Unmarshal(data, &report))
	seen := make(map[string]bool) // which cases were in which suite
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			seen[suite.Name+" "+c.Name] = true
		}
	}
	assert.True(t, seen["hotplugtest/bookworm/maxcpus TestOnline/first/at-uevent/cache"])
	assert.True(t, seen["hotplugtest/bookworm/cgroup-v1 TestOffline/at-return/emptied"])
	assert.False(t, seen["hotplugtest/bookworm/cgroup-v1 TestOnline/first"], "it is not counted where it has no CPU")
	assert.False(t, seen["hotplugtest/bookworm/maxcpus TestOffline/at-return/emptied"])
	for profile, word := range map[string]string{"maxcpus": "maxcpus=2 printk.time=1", "cgroup-v1": "systemd.unified_cgroup_hierarchy=0 printk.time=1"} {
		console, err := os.ReadFile(filepath.Join(dir, "out", profile, "console.log"))
		require.NoError(t, err)
		assert.Contains(t, string(console), word)
	}
}

// A kernel that says on its console, and in its files, that tests have passed
// is not believed, and hides no failure. Here it is its command line that it
// repeats.
func TestForged(t *testing.T) {
	const forged = "--- PASS: TestForged (0.00s)"
	dir, code, _, _ := selftest(t, "-run", "TestSameValue/online/at-return/cpu-online$", "-append", "x=\n\x16"+forged+"\n\x16=== NAME  TestForged\nok")
	assert.Equal(t, 0, code)
	console, err := os.ReadFile(filepath.Join(dir, "out/console.log"))
	require.NoError(t, err)
	assert.Contains(t, string(console), "\x16"+forged, "or this test would be about nothing")
	results, err := os.ReadFile(filepath.Join(dir, "out/results.json"))
	require.NoError(t, err)
	for line := range bytes.Lines(results) {
		var event struct{ Test, Key, Value string }
		require.NoErrorf(t, json.Unmarshal(line, &event), "%s", line)
		if event.Test != "" {
			assert.Regexp(t, "^TestSameValue", event.Test)
		}
		if event.Key == "cmdline" {
			assert.Contains(t, event.Value, "x= \uFFFD"+forged)
		}
	}
}

// With a delay, the bug of 2021 shows in each row about affinity, without a
// crowd of cpusets. It need not show in each probe: if the work of the offline
// before is still waiting, that does the work of the online too.
func TestDelay(t *testing.T) {
	_, code, stdout, _ := selftest(t, "-poke", "cpuset_wait_for_hotplug=ret", "-delay", "cpuset_hotplug_workfn=300ms",
		"-run", "^TestOnline$/^at-.*$/^(affinity|getaffinity)$", "--", "-cpusets", "1", "-cycles", "3")
	assert.Equal(t, 1, code)
	for _, moment := range []string{"at-uevent", "at-return"} {
		for _, row := range []string{"affinity/root-cpuset", "affinity/child-cpuset", "getaffinity/child-cpuset"} {
			assert.Contains(t, stdout, "FAIL hotplugtest/bookworm.TestOnline/"+moment+"/"+row+" ")
		}
	}
	windows := regexp.MustCompile(`broken in \d+ of 6 probes; until it was kept: .* max \d{3,}\.\d+ ms`).FindAllString(stdout, -1)
	assert.Len(t, windows, 2*6, "each row shows its windows as it fails, and in the list at the end; one is longer than 100 ms")
}

// A failure that is tried again is a failure still. With the entry that is
// written for it, the same kernel passes, and without the poke the entry is no
// longer needed. Two VMs at once say the same.
func TestKnown(t *testing.T) {
	const run, poke = "TestSameValue/offline/at-return/(offline-mask|cpu-online)$", "print_cpus_offline=ret0"
	dir, code, stdout, _ := selftest(t, "-run", run, "-poke", poke, "-retry", "1")
	assert.Equal(t, 1, code)
	assert.Regexp(t, `(?m)^broken 2/2: hotplugtest/bookworm TestSameValue/offline/at-return/offline-mask$`, stdout)
	entries := filepath.Join(dir, "out/known-new.json")

	// The failure comes again from an empty directory, and does not on a kernel
	// that is not poked.
	script := filepath.Join(dir, "out/repro/bookworm-TestSameValue-offline-at-return-offline-mask.sh")
	for code, args := range [][]string{{"bookworm"}, nil} {
		repro := exec.Command(script, args...)
		repro.Dir = t.TempDir()
		said, _ := repro.CombinedOutput()
		assert.Equal(t, code, repro.ProcessState.ExitCode(), "%s", said)
	}

	dir, code, stdout, _ = selftest(t, "-run", run, "-poke", poke, "-known", entries, "-baseline", filepath.Join(dir, "out"))
	assert.Equal(t, 0, code)
	assert.Regexp(t, `(?m)^=== KNOWN: hotplugtest/bookworm TestSameValue/offline/at-return/offline-mask `, stdout)
	assert.Regexp(t, `(?m)^DONE 5 tests, 4 known in `, stdout)
	assert.Regexp(t, `(?m)^0 regressions, 0 missing, 1 newly known, 1 the same$`, stdout)
	data, err := os.ReadFile(filepath.Join(dir, "out/junit.xml"))
	require.NoError(t, err)
	assert.Contains(t, string(data), `<skipped message="known: default-testsamevalue-offline-at-return-offline-mask">`)

	_, code, stdout, _ = selftest(t, "-run", run, "-known", entries, "-profile", "default", "-profile", "maxcpus", "-j", "2")
	assert.Equal(t, 0, code)
	assert.Contains(t, stdout, "no longer: default-testsamevalue-offline-at-return-offline-mask (hotplugtest/bookworm)\n")
	packages := regexp.MustCompile(`(?m)^PASS (hotplugtest/\S+?)\.Test`).FindAllStringSubmatch(stdout, -1)
	var order []string
	for _, m := range packages {
		order = append(order, m[1])
	}
	assert.Len(t, slices.Compact(order), 2, "the lines of each VM are together")
}

// What is not a success does not look like one, and says why.
func TestFail(t *testing.T) {
	for _, tt := range []struct {
		name, args     string
		code           int    // 0 stands for 125
		stdout, stderr string // regular expressions of a line
	}{
		{
			name: "no test", args: "-run NoSuchTest",
			stderr: `selftest: no test ran and passed: does -run match any, and are they all skipped\?`,
		},
		{
			name: "a CPU that is not there", args: "-run TestSameValue -- -cpus 9",
			stdout: `.*-cpus 9: cpu9 cannot be used: it is not online`,
			stderr: `selftest: -cpus 9: cpu9 cannot be used: it is not online`,
		},
		{
			name: "a flag that the suite does not have", args: "-run TestSameValue -- -nosuch", code: 2,
			stderr: `selftest: after --: flag provided but not defined: -nosuch .*`,
		},
		{
			name: "one CPU", args: "-smp 1", code: 2,
			stderr: `selftest: -smp 1: the suite needs two CPUs or more, one to take offline and one that stays .*`,
		},
		{
			name: "a poke of what is not there", args: "-run TestSameValue -poke nosuchsymbol=ret",
			stdout: `.*vm: poke: this kernel has no symbol nosuchsymbol`,
		},
		{
			name: "a delay of what is not there", args: "-run TestSameValue -delay nosuchsymbol=1s",
			stdout: `.*vm: delay: this kernel has no symbol nosuchsymbol`,
		},
		{
			name: "no time", args: "-run TestSameValue -timeout 1s",
			stdout: `.*vm: the VM was ended: it was not done after 1s`,
		},
		{
			name: "a panic", args: "-run TestSameValue -append rdinit=/nosuch",
			stdout: `vm: \| .*Kernel panic - not syncing: VFS: Unable to mount root fs.*`,
		},
		{
			name: "no kernel", args: "-kernel ./nosuch",
			stderr: `selftest: no kernel file /.*/nosuch`,
		},
		{
			name: "no test below one", args: "-run TestSameValue/offline/at-retrun",
			stderr: `selftest: no test ran and passed: does -run match any, and are they all skipped\?`,
		},
		{
			name: "no -kernel before it", args: "bzImage -run TestSameValue", code: 2,
			stderr: `selftest: unexpected "bzImage": a kernel is named by -kernel, and flags of the test binary come after -- .*`,
		},
		{
			name: "no such architecture", args: "-arch x86_64", code: 2,
			stderr: `selftest: -arch x86_64: there is no virtual machine for it, only for amd64, arm64 .*`,
		},
		{
			name: "a test that fails", args: "-run TestSameValue/offline/at-return/(offline-mask|cpu-online)$ -poke print_cpus_offline=ret0", code: 1,
			stdout: `.*\.go:\d+: .*offline-mask`,
		},
		{
			name: "no such profile", args: "-profile isolcpu", code: 2,
			stderr: `selftest: invalid value "isolcpu" for flag -profile: there is no such profile, only default, .*`,
		},
		{
			name: "no such flag", args: "-nosuchflag", code: 2,
			stderr: `selftest: flag provided but not defined: -nosuchflag \(ci/selftest -help lists the flags\)`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, code, stdout, stderr := selftest(t, strings.Fields(tt.args)...)
			assert.Equal(t, cmp.Or(tt.code, 125), code)
			assert.Regexp(t, `(?m)^`+tt.stdout+`$`, stdout)
			assert.Regexp(t, `(?m)^`+tt.stderr+`$`, stderr)
			console := regexp.MustCompile(`(?m)^vm: \| .*$`).FindAllString(stdout, -1)
			if len(console) > 0 { // a kernel may print a line twice, in the same microsecond
				log, err := os.ReadFile(filepath.Join(dir, "out/console.log"))
				require.NoError(t, err)
				for _, line := range console {
					printed := strings.Count(string(log), strings.TrimPrefix(line, "vm: | "))
					assert.LessOrEqual(t, strings.Count(stdout, line+"\n"), printed, "shown more often than the kernel printed it: %s", line)
				}
			}
			assert.LessOrEqual(t, len(console), 30)
		})
	}
}
