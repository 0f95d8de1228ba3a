package known

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

type record struct{ id, kernel, profile, test, file string }

// recorded are real failures of the defects that the module knows, one or more
// of each.
var recorded = []record{
	{"lone-isolated", "6.12.117+deb13-amd64", "isolcpus-one", "TestOffline/at-return/affinity/root-cpuset", "lone-isolated"},
	{"dying-not-vacated", "6.12.117+deb13-amd64", "default", "TestScenario/trace-marker", "dying-not-vacated-scenario"},
	{"dying-not-vacated", "6.12.117+deb13-amd64", "default", "TestRollback/online/188:workqueue:online", "dying-not-vacated"},
	{"dying-not-vacated", "6.12.117+deb13-amd64", "default", "TestOnline/at-uevent/uevent", "dying-not-vacated-online"},
	{"deadline-bandwidth", "6.12.117+deb13-amd64", "default", "TestOnline/at-uevent/offline-mask", "deadline-bandwidth"},
	{"last-housekeeping", "7.2.13+deb14-amd64", "isolcpus", "TestRefused/last-housekeeping/at-return", "last-housekeeping"},
	{"isolated-primary", "7.2.13+deb14-amd64", "isolcpus-suspend", "TestSuspend/last-housekeeping/after-resume", "isolated-primary"},
	{"isolated-primary", "6.12.117+deb13-amd64", "isolcpus-suspend", "TestSuspend/last-housekeeping/after-resume", "isolated-primary-trixie"},
	{"isolated-primary", "6.1.0-50-amd64", "isolcpus-suspend", "TestSuspend/last-housekeeping/after-resume", "isolated-primary-bookworm"},
	{"io-workers", "6.1.0-50-amd64", "default", "TestScenario/io-workers", "io-workers-bookworm"},
	{"io-workers", "7.2.13+deb14-amd64", "default", "TestScenario/io-workers", "io-workers"},
	{"policy-loses-nodes", "6.1.0-50-amd64", "default", "TestScenario/memory-policy", "policy-loses-nodes"},
	{"partition-frees-kthreads", "6.1.0-50-amd64", "numa", "TestScenario/kernel-threads-partition", "partition-frees-kthreads"},
	{"partition-frees-kthreads", "6.1.0-50-amd64", "nohz_full", "TestScenario/kernel-threads-partition", "partition-frees-kthreads-nohz"},
	{"partition-frees-node-threads", "6.12.117+deb13-amd64", "numa", "TestScenario/kernel-threads-partition", "partition-frees-kthreads-trixie"},
	{"memcg-adds-anew", "5.10.0-32-amd64", "default", "TestScenario/memory-counters", "memcg-adds-anew"},
	{"torn-list", "6.1.0-50-amd64", "default", "TestScenario/readers", "torn-list"},
	{"torn-list", "7.2.13+deb14-amd64", "default", "TestScenario/readers", "torn-list-sid"},
	{"shrunk-list", "7.2.13+deb14-amd64", "default", "TestScenario/readers", "shrunk-list"},
	{"cache-keeps-offline", "6.12.117+deb13-amd64", "default", "TestOffline/at-uevent/cache-sharers", "cache-keeps-offline"},
	{"cache-keeps-offline", "6.12.117+deb13-amd64", "default", "TestRollback/online/155:perf:online", "cache-keeps-offline-rollback"},
	{"cache-keeps-offline", "6.12.117+deb13-amd64", "default", "TestScenario/description", "cache-keeps-offline-description"},
	{"isolated-partition", "7.2.13+deb14-amd64", "default", "TestScenario/suspend-isolated", "isolated-partition"},
	{"offline-divides", "7.2.13+deb14-amd64", "default", "TestScenario/deadline-ended", "offline-divides"},
	{"taken-back-twice", "6.1.0-50-amd64", "default", "TestScenario/deadline-taken-back", "taken-back-twice-bookworm"},
	{"taken-back-twice", "7.2.13+deb14-amd64", "default", "TestScenario/deadline-taken-back", "taken-back-twice"},
	{"soft-timers-lost", "5.10.0-32-amd64", "lowres-modules", "TestScenario/soft-timers", "soft-timers-lost"},
	{"relative-divides", "6.1.0-50-amd64", "numa", "TestMemory/relative-policy/at-uevent", "relative-divides"},
}

// loadBuiltin loads the list once: an emulated processor takes seconds for it.
var loadBuiltin = sync.OnceValues(func() (*Loader, error) {
	l := &Loader{Profiles: profiles, Today: today}
	return l, l.Load(Builtin)
})

func ofBuiltin(t *testing.T, kernel, profile string) *Matcher {
	t.Helper()
	l, err := loadBuiltin()
	require.NoError(t, err)
	m := l.Matcher(Where{Profile: profile, Arch: "amd64"})
	m.Kernel(kernel)
	return m
}

// On a real machine, an entry is about the ways to boot that it sees.
func TestBooted(t *testing.T) {
	l, err := loadBuiltin()
	require.NoError(t, err)
	output, err := os.ReadFile(filepath.Join("testdata", "partition-frees-kthreads-trixie.txt"))
	require.NoError(t, err)
	for _, tt := range []struct {
		booted []string
		want   string
	}{
		{nil, "new"}, {[]string{"smt"}, "new"}, {[]string{"smt", "numa"}, "partition-frees-node-threads"},
	} {
		m := l.Matcher(Where{Arch: "amd64"})
		m.Kernel("6.12.117+deb13-amd64")
		m.Booted(tt.booted)
		assert.Equal(t, tt.want, verdict(m, "TestScenario/kernel-threads-partition", string(output)), tt.booted)
	}
}

// verdict gives the output to the method that is for it.
func verdict(m *Matcher, test, output string) string {
	e := m.Failed(test, output)
	if own, report, crashed := strings.Cut(output, "\nvm: "); crashed {
		e = m.Crashed(test, own, runnerPrefix+report)
	}
	if e == nil {
		return "new"
	}
	return e.ID
}

func TestBuiltin(t *testing.T) {
	l := &Loader{Profiles: profiles, Today: today}
	require.NoError(t, l.Load(Builtin))
	for _, e := range l.entries {
		shown := slices.ContainsFunc(recorded, func(r record) bool { return r.id == e.ID })
		assert.True(t, shown, "%s: there is no recorded failure of it", e.ID)
	}
	for _, r := range recorded {
		t.Run(r.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", r.file+".txt"))
			require.NoError(t, err)
			output := string(data)
			assert.Equal(t, r.id, verdict(ofBuiltin(t, r.kernel, r.profile), r.test, output))

			for _, other := range []struct{ what, kernel, profile, test, output string }{
				{"another kernel", "5.4.300", r.profile, r.test, output},
				{"no kernel told", "", r.profile, r.test, output},
				{"another test", r.kernel, r.profile, "TestSMT/off", output},
				{"a test whose name has it", r.kernel, r.profile, "TestMine/" + r.test, output},
				{"something else beside it", r.kernel, r.profile, r.test, "    trial.go:9: cpu3 is lost\n" + output},
				{"something else after it", r.kernel, r.profile, r.test, strings.Replace(output, "\nvm: ", "\n    trial.go:9: cpu3 is lost\n\nvm: ", 1) + "    trial.go:9: cpu3 is lost\n"},
				{"a panic of the test", r.kernel, r.profile, r.test, "panic: runtime error\n" + output},
				{"no text", r.kernel, r.profile, r.test, ""},
				// It names the defect, as each failure of the row does.
				{"an explanation", r.kernel, r.profile, r.test, "    a.go:1: it is gone\n            known:    Offline of cpu1: EBUSY, Dying CPU not properly vacated! partition_sched_domains\n"},
			} {
				if strings.HasPrefix(other.what, "something else after") && strings.Contains(output, "vm: ") {
					other.output = strings.TrimSuffix(other.output, "    trial.go:9: cpu3 is lost\n")
				}
				assert.Equal(t, "new", verdict(ofBuiltin(t, other.kernel, other.profile), other.test, other.output), other.what)
			}
			if r.profile != "default" {
				assert.Equal(t, "new", verdict(ofBuiltin(t, r.kernel, "default"), r.test, output), "another profile")
			}
		})
	}
}

// Failures of kernels that are broken on purpose stay new, even if the kernel,
// the profile and the test are those that the entry is about. An entry that
// bounds how many tests fail by it may take as many: a poked kernel can show
// the very symptom, but not in one test. The failures are real: see poked.json.
func TestBuiltinBreadth(t *testing.T) {
	data, err := os.ReadFile("testdata/poked.json")
	require.NoError(t, err)
	type failure struct{ test, output string }
	runs := make(map[string][]failure)
	total := 0
	for e, err := range testjson.Read(bytes.NewReader(data)) {
		require.NoError(t, err)
		if e.Action == "output" {
			runs[e.Package] = append(runs[e.Package], failure{e.Test, e.Output})
			total++
		}
	}
	assert.Greater(t, total, 80, "failures")
	l := &Loader{Profiles: profiles, Today: today}
	require.NoError(t, l.Load(Builtin))
	for _, e := range l.entries {
		tried := false
		for _, failures := range runs {
			tried = tried || slices.ContainsFunc(failures, func(f failure) bool { return e.test.MatchString(f.test) })
		}
		assert.True(t, tried, "%s: no kernel that is broken on purpose fails a test that it is about", e.ID)
	}
	for run, failures := range runs {
		for _, r := range recorded {
			for name, rename := range map[string]func(string) string{
				"its own name": func(test string) string { return test },
				"the entry's":  func(string) string { return r.test },
			} {
				m := ofBuiltin(t, r.kernel, r.profile)
				var taken []string
				for _, f := range failures {
					if verdict(m, rename(f.test), f.output) != "new" {
						taken = append(taken, f.test)
					}
				}
				most := 0
				for e := range m.count {
					most += e.Most
				}
				assert.LessOrEqual(t, len(taken), most, "%s is %s of %s, by %s: %v", run, r.id, r.kernel, name, taken)
				assert.Less(t, len(taken), len(failures), run)
			}
		}
	}
}

// What an entry says of the defect is what it matches: another thread, another
// set of CPUs or another policy is another defect.
func TestNarrow(t *testing.T) {
	for _, tt := range []struct{ file, old, new string }{
		{"io-workers", "CPUs 0-1, and", "CPUs 0-3, and"},
		{"io-workers", "CPUs 0-1, and", "CPUs 1, and"},
		{"io-workers", "CPUs 0-1, and", "CPUs 0-1,3, and"},
		{"io-workers", "when cpu1 was offline and is back", "before"},
		{"policy-loses-nodes", `"bind=static" in`, `"default" in`},
		{"policy-loses-nodes", `"bind=static" in`, `"bind=static:1" in`},
		{"policy-loses-nodes", `was "bind=static:0"`, `was "bind=relative:0"`},
		{"memcg-adds-anew", "-memory(/below)+ is", "-memory is"},
		{"partition-frees-kthreads", "thread 47 kcompactd0 started at 178 may run on CPUs 0-3", "thread 47 kcompactd0 started at 178 may run on CPUs 3"},
		{"partition-frees-kthreads-trixie", "thread 55 kcompactd0", "thread 55 ksmd"},
		{"torn-list", "/sys/devices/system/cpu/cpu0/topology/package_cpus_list", "/sys/devices/system/node/node0/cpulist"},
		{"torn-list", "package_cpus_list: \"-3\" is no list", "package_cpus_list: \"three\" is no list"},
		{"cache-keeps-offline", ". By its id, which is 0 and 2, cpu0 and cpu2 do not share it", ""},
		{"cache-keeps-offline", "is 0-3, and the online CPUs are", "is 1-3, without the CPU itself"},
		{"cache-keeps-offline-description", `want "0,2-3". By its id, which is 2 and 1, cpu2 and cpu1 do not share it`, `want "0,2-3"`},
		{"cache-keeps-offline-description", "cpu2/cache/index3/shared_cpu_list", "cpu2/topology/core_cpus_list"},
		{"shrunk-list", "die_cpus_list: operation not permitted", "die_cpus_list: input/output error"},
		{"shrunk-list", "topology/die_cpus_list", "topology/die_id"},
		{"taken-back-twice", "while cpu3 is offline, and after", "after"},
		{"taken-back-twice", "EBUSY", "EIO"},
		{"soft-timers-lost", "that cpu0 had when it went offline", "of cpu0, which was offline,"},
		{"soft-timers-lost", "is late by", "is early by"},
		{"relative-divides", "divide error: ", "invalid opcode: "},
		{"relative-divides", "mpol_rebind_nodemask", "mpol_rebind_default"},
	} {
		i := slices.IndexFunc(recorded, func(r record) bool { return r.file == tt.file })
		require.GreaterOrEqual(t, i, 0, tt.file)
		r := recorded[i]
		data, err := os.ReadFile(filepath.Join("testdata", r.file+".txt"))
		require.NoError(t, err)
		output := regexp.MustCompile(tt.old).ReplaceAllString(string(data), tt.new)
		require.NotEqual(t, string(data), output, tt.old)
		assert.Equal(t, "new", verdict(ofBuiltin(t, r.kernel, r.profile), r.test, output), "%s: %s", tt.file, tt.new)
	}
}

func TestMost(t *testing.T) {
	data, err := os.ReadFile("testdata/lone-isolated.txt")
	require.NoError(t, err)
	m := ofBuiltin(t, "6.12.1", "isolcpus-one")
	assert.Equal(t, "lone-isolated", verdict(m, "TestOffline/at-return/a", string(data)))
	assert.Equal(t, "new", verdict(m, "TestOffline/at-return/b", string(data)), "only one test fails by it")
}

func TestGone(t *testing.T) {
	m := ofBuiltin(t, "6.12.1", "isolcpus-one")
	assert.Empty(t, m.Gone(), "nothing has run")
	m.Passed("TestOnline/at-return/a")
	assert.Empty(t, m.Gone(), "it is not about that test")
	m.Passed("TestOffline/at-return/a")
	assert.Equal(t, []string{"lone-isolated"}, m.Gone(), "not the rare one")
	data, err := os.ReadFile("testdata/lone-isolated.txt")
	require.NoError(t, err)
	require.NotNil(t, m.Failed("TestOffline/at-return/b", string(data)))
	assert.Empty(t, m.Gone())

	m = ofBuiltin(t, "6.12.1", "isolcpus-one")
	m.Passed("TestOffline/at-return/a")
	require.Nil(t, m.Failed("TestOffline/at-return/b", "    a.go:1: another text\n"))
	assert.Empty(t, m.Gone(), "it may be what failed, with another text")

	m = ofBuiltin(t, "6.6.1", "isolcpus-one")
	m.Passed("TestOffline/at-return/a")
	assert.Empty(t, m.Gone(), "the kernel is another one")
}

// A known complaint of the kernel's does not hide another in the same log.
func TestComplaints(t *testing.T) {
	const another = "            [   55.270000] ------------[ cut here ]------------\n            [   55.270001] WARNING: CPU: 1 PID: 1 at kernel/x.c:1 f+0x1/0x2\n"
	data, err := os.ReadFile("testdata/dying-not-vacated.txt")
	require.NoError(t, err)
	m := ofBuiltin(t, "6.12.1", "default")
	head, rest, ok := strings.Cut(string(data), "\n")
	require.True(t, ok)
	for name, output := range map[string]string{
		"after":         string(data) + another,
		"before":        head + "\n" + another + rest,
		"a third task":  strings.Replace(string(data), "name: migration/3\n", "name: migration/3\n            [   55.265546] \tpid: 99, name: lost\n", 1),
		"another task":  strings.Replace(string(data), "name: migration/3\n", "name: lost\n", 1),
		"lines left":    string(data) + "            and 7 lines more\n",
		"a soft lockup": string(data) + "            [   55.270000] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!\n",
	} {
		require.NotEqual(t, string(data), output, name)
		assert.Equal(t, "new", verdict(m, "TestRollback/online/x", output), name)
	}
	assert.Equal(t, "dying-not-vacated", verdict(m, "TestRollback/online/x", string(data)))

	// Of a crash, the first complaint counts.
	data, err = os.ReadFile("testdata/isolated-primary.txt")
	require.NoError(t, err)
	output := strings.Replace(string(data), "vm: | ", "vm: | [    1.000000] BUG: unable to handle page fault for address: 0000\nvm: | [    1.000001] RIP: 0010:mine\nvm: | ------------[ cut here ]------------\nvm: | ", 1)
	assert.Equal(t, "new", verdict(ofBuiltin(t, "7.2.1", "isolcpus-suspend"), "TestSuspend/last-housekeeping/after-resume", output))
}

// An entry need not match the end of the log to be about no more than it says.
func TestComplaintsBesideKnown(t *testing.T) {
	const (
		oops   = "[  390.100000] divide error: 0000 [#1] PREEMPT SMP NOPTI\n[  390.100001] Comm: kworker/1:1\n"
		atomic = "[   17.100000] BUG: scheduling while atomic: swapper/0/0\n[   17.100001] RIP: 0010:mine\n"
	)
	each := func(prefix, text string) string {
		return prefix + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+prefix) + "\n"
	}
	for _, tt := range []struct{ name, file, at, added string }{
		{"an oops", "deadline-bandwidth", "--- FAIL", each("            ", oops)},
		{"lines left", "deadline-bandwidth", "--- FAIL", "            and 7 lines more\n"},
		{"lines lost", "deadline-bandwidth", "--- FAIL", "        kmsg: 3 records were overwritten before they were read\n"},
		{"more left and lost", "deadline-bandwidth", "--- FAIL", "            and 7 lines more\n        kmsg: records were overwritten before they were read\n"},
		{"a warning of the operation that is refused", "lone-isolated", "            source:   Documentation/ABI", each("            ", logHead+", from 1.0 s on:\n    [    1.100000] WARNING: CPU: 1 PID: 1 at kernel/x.c:1 f+0x1/0x2")},
		{"a crash after a BUG", "relative-divides", consolePrefix, each(consolePrefix, atomic)},
		{"a crash after an oops", "relative-divides", consolePrefix, each(consolePrefix, oops)},
	} {
		r := recorded[slices.IndexFunc(recorded, func(r record) bool { return r.file == tt.file })]
		data, err := os.ReadFile(filepath.Join("testdata", r.file+".txt"))
		require.NoError(t, err)
		before, after, ok := strings.Cut(string(data), tt.at)
		require.True(t, ok, tt.name)
		assert.Equal(t, "new", verdict(ofBuiltin(t, r.kernel, r.profile), r.test, before+tt.added+tt.at+after), tt.name)
	}
}

// What the kernel says of one oops is one complaint, on each architecture.
func TestOops(t *testing.T) {
	for _, tt := range []struct{ name, log string }{
		{"x86, a page fault", "BUG: unable to handle page fault for address: 0008\n#PF: error_code(0x0000)\nPGD 0 P4D 0\nOops: 0000 [#1] SMP\nCall Trace:\nKernel panic - not syncing: Fatal exception"},
		{"x86, an assertion", "kernel BUG at kernel/sched/core.c:3607!\ninvalid opcode: 0000 [#1] SMP\nRIP: 0010:f+0x1/0x2"},
		{"x86, a stack", "BUG: TASK stack guard page was hit at 0 (stack is 0..1)\nOops: stack guard page: 0000 [#1] SMP"},
		{"arm64", "Unable to handle kernel NULL pointer dereference at virtual address 0008\nMem abort info:\nInternal error: Oops: 96000004 [#1] SMP\nKernel panic - not syncing: Oops: Fatal exception"},
		{"ppc64le", "BUG: Kernel NULL pointer dereference on read at 0x8\nOops: Kernel access of bad area, sig: 11 [#1]"},
		{"s390x", "Unable to handle kernel pointer dereference in virtual kernel address space\nFailing address: 0 TEID: 0\nOops: 0004 ilc:2 [#1] SMP"},
	} {
		const after = "Oops: general protection fault: 0000 [#2] SMP\n"
		assert.Equal(t, []string{tt.log + "\n", after}, complaints(logHead+"\n"+tt.log+"\n"+after), tt.name)
		assert.Equal(t, tt.log+"\n", firstComplaint(consolePrefix+strings.ReplaceAll(tt.log+"\n"+after, "\n", "\n"+consolePrefix)), tt.name)
	}
}

func TestReason(t *testing.T) {
	for output, want := range map[string]string{
		"":                     "",
		"=== RUN   TestA\n":    "",
		"    a.go:1: no SMT\n": "no SMT",
		"    a.go:1: cpu0: affinity\n            promised: it works\n            seen:     EINVAL\n              more\n": "cpu0: affinity; seen: EINVAL",
		"    a.go:1: no SMT\n    a.go:2: another\n            seen:     EINVAL\n":                                        "no SMT",
	} {
		assert.Equal(t, want, Reason(output), output)
	}
}

func TestTexts(t *testing.T) {
	assert.Equal(t, []string{"one\ntwo\n  three", "panic: four", "five\nsix"}, Texts(
		"=== RUN   TestA\n    a.go:1: one\n        \n        two\n          three\n            known:    six\npanic: four\n    b_c.go:12: five\n\n        six\n    --- FAIL: TestA (0.00s)\n"))
}
