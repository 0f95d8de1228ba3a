//go:build !selftest

// With the tag selftest the test binary has the tests of the kernel alone, not those of the suite itself.

package hotplugtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"BOOT_IMAGE=/vmlinuz quiet\n": "BOOT_IMAGE=/vmlinuz quiet",
		"a\nb\t\x16--- PASS: TestA":   "a b\t\uFFFD--- PASS: TestA",
		"\xff\x00ü":                   "\uFFFD\uFFFDü",
	} {
		assert.Equal(t, want, oneLine(text))
	}
}

func TestTables(t *testing.T) {
	seen := make(map[string]bool)
	for _, inv := range Invariants {
		assert.NotContains(t, inv.Name, "/", "a slash would make a level of tests of its own")
		assert.False(t, seen[inv.Name], "two invariants %s", inv.Name)
		seen[inv.Name] = true
		assert.NotEmpty(t, inv.Promise, inv.Name)
		assert.NotEmpty(t, inv.Source, "%s: where is that promised?", inv.Name)
		assert.NotNil(t, inv.Arm, inv.Name)
	}
	for _, tr := range Transitions {
		assert.False(t, seen[tr.Name], "two transitions %s", tr.Name)
		seen[tr.Name] = true
		assert.NotNil(t, tr.Op, tr.Name)
		checked := false
		for i := range Invariants {
			checked = checked || Invariants[i].applies(&tr, &placement{})
		}
		assert.True(t, checked, "nothing is checked after %s", tr.Name)
		assert.False(t, tr.Variants != nil && !tr.RolledBack, "%s: variants are of operations that are rolled back", tr.Name)
		if tr.Uevent == "" {
			assert.Equal(t, tr.Before, tr.After, "%s: a CPU that comes or goes sends a uevent", tr.Name)
		}
	}
}

// A transition without a Test function would never be run by go test.
func TestEachTransitionHasATest(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "selftest_test.go", nil, 0)
	require.NoError(t, err)
	tests := make(map[string]bool)
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			tests[f.Name.Name] = true
		}
	}
	for _, tr := range Transitions {
		assert.True(t, tests["Test"+tr.test()], "%s: no func Test%s in selftest_test.go", tr.Name, tr.test())
	}
}

func TestApplies(t *testing.T) {
	back := &Transition{Before: Offline, After: Online}
	away := &Transition{Before: Online, After: Offline}
	stay := &Transition{Before: Online, After: Online}
	everywhere := &placement{}
	for _, tt := range []struct {
		inv              Invariant
		back, away, stay bool
	}{
		{Invariant{}, true, true, true},
		{Invariant{After: Online}, true, false, true},
		{Invariant{Before: Online}, false, true, true},
		{Invariant{Before: Online, After: Offline}, false, true, false},
		{Invariant{Before: Online | Offline}, true, true, true},
	} {
		assert.Equal(t, tt.back, tt.inv.applies(back, everywhere), "%+v", tt.inv)
		assert.Equal(t, tt.away, tt.inv.applies(away, everywhere), "%+v", tt.inv)
		assert.Equal(t, tt.stay, tt.inv.applies(stay, everywhere), "%+v", tt.inv)
	}
}

// What comes after a row that takes the kernel down is lost, so these are the last of their tests, and those tests the
// last, of go test as of Run.
func TestDestructiveRowsAreLast(t *testing.T) {
	var tests []string
	destructive := make(map[string]bool)
	for _, tr := range Transitions {
		name := tr.test()
		assert.False(t, destructive[name] && !tr.Destructive, "%s comes after a row that may take the kernel down", tr.Name)
		destructive[name] = destructive[name] || tr.Destructive
		if !slices.Contains(tests, name) {
			tests = append(tests, name)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "selftest_test.go", nil, 0)
	require.NoError(t, err)
	var functions []string
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
			functions = append(functions, strings.TrimPrefix(f.Name.Name, "Test"))
		}
	}
	for _, names := range [][]string{tests, functions} {
		down := ""
		for _, name := range names {
			if destructive[name] {
				down = name
			} else {
				assert.Empty(t, down, "Test%s comes after Test%s, of which rows may take the kernel down", name, down)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	busy := fmt.Errorf("offline cpu3: %w", unix.EBUSY)
	for _, tt := range []struct {
		want unix.Errno
		err  error
		says string
	}{
		{0, nil, ""},
		{unix.EBUSY, busy, ""},
		{0, busy, "the operation failed: offline cpu3: device or resource busy"},
		{unix.EBUSY, nil, "the operation succeeded, want EBUSY"},
		{unix.EPERM, busy, "offline cpu3: device or resource busy, want EPERM"},
	} {
		err := (&Transition{Err: tt.want}).judge(tt.err)
		if tt.says == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.says)
		}
	}
}

func TestJudgeEvents(t *testing.T) {
	back := &Transition{Uevent: "online"}
	stay := &Transition{}
	for _, tt := range []struct {
		tr     *Transition
		events []cpuEvent
		says   string
	}{
		{back, []cpuEvent{{"online", 7}}, ""},
		{stay, nil, ""},
		{back, nil, "cpu2 sent no uevent, want one online"},
		{back, []cpuEvent{{"offline", 7}}, "cpu2 sent offline (SEQNUM 7), want one online"},
		{back, []cpuEvent{{"online", 7}, {"online", 8}}, "cpu2 sent online (SEQNUM 7), online (SEQNUM 8), want one online"},
		{stay, []cpuEvent{{"change", 7}}, "cpu2 sent change (SEQNUM 7), want none"},
	} {
		err := judgeEvents(2, tt.tr.Uevent, tt.events)
		if tt.says == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.says)
		}
	}
}

func TestSpread(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Millisecond)
	}
	assert.Equal(t, "min 1.000 ms, median 100.000 ms, p99 198.000 ms, max 200.000 ms", spread(d))
	assert.Equal(t, "min 1.000 ms, median 1.000 ms, p99 2.000 ms, max 2.000 ms", spread(d[198:]))
	assert.Equal(t, "1.500 ms", spread([]time.Duration{1500 * time.Microsecond}))
}

func TestTimes(t *testing.T) {
	s := &Suite{}
	assert.Empty(t, s.Times())
	s.times.add("Online", &result{toReturn: []time.Duration{4e6, 2e6}, toUevent: []time.Duration{1500e3}})
	s.times.add("Suspend/mem-core", &result{toReturn: []time.Duration{1e9}})
	s.times.add("Online", &result{toReturn: []time.Duration{12e6}, windows: []time.Duration{5e6}})
	assert.Equal(t, strings.Join([]string{
		"times: transition                        count  min       median    p99       max, in ms",
		"times: Online            write           3      2.000     4.000     12.000    12.000",
		"times: Online            to the uevent   1      1.500     1.500     1.500     1.500",
		"times: Online            promise broken  1      5.000     5.000     5.000     5.000",
		"times: Suspend/mem-core  write           1      1000.000  1000.000  1000.000  1000.000",
		"",
	}, "\n"), s.Times())
}

func TestDescribe(t *testing.T) {
	p := &Probe{
		CPU: 3, cycle: &Cycle{Transition: &Transition{Name: "Online"}, Moment: AtUevent}, placement: &placement{name: "child-cpuset"},
		Invariant: &Invariant{Name: "row", Promise: "it holds", Source: "a document", Suspect: "a commit", Placed: true},
		checkErr:  unix.EINVAL, window: 10300 * time.Microsecond, tries: 41,
	}
	assert.Equal(t, strings.Join([]string{
		"cpu3, at the uevent of Online, from the child-cpuset: row",
		"    promised: it holds",
		"    seen:     invalid argument",
		"    lasted:   10.300 ms (kept at try 42)",
		"    source:   a document",
		"    suspect:  is this missing, or undone? a commit",
	}, "\n"), p.describe())
	p.never = true
	assert.Contains(t, p.describe(), "lasted:   longer than 1s")
}

func TestDiffering(t *testing.T) {
	for _, tt := range []struct {
		machine string
		usable  affinity.CPUSet
		want    []int
	}{
		{"x86", affinity.Of(1, 2, 3), []int{1, 3}},
		{"no-such-topology", affinity.Of(1, 2, 3), []int{1, 3}},
		{"x86", affinity.Of(2), []int{2}},
	} {
		dir := filepath.Join("cpuhp", "testdata", tt.machine)
		if tt.machine == "no-such-topology" {
			dir = t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "devices/system/cpu"), 0o755))
		}
		fs, err := cpuhp.New(dir)
		require.NoError(t, err)
		assert.Equal(t, tt.want, differing(fs, tt.usable), tt.machine)
	}
}

func TestLineCheck(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	for _, tt := range []struct {
		file, pattern, text string
		cpus                []int // of 1, 2, 11
	}{
		{"/proc/stat", statLine, "cpu  1 2 3\ncpu0 1\ncpu2 1 2\ncpu11 1 2\nintr 1\n", []int{2, 11}},
		{"/proc/cpuinfo", cpuinfoLine, "processor\t: 1\nvendor_id\t: x\n\nprocessor\t: 11\n", []int{1, 11}},
		{"/proc/cpuinfo", cpuinfoLine, "vendor_id       : IBM/S390\nprocessor 2: version = FF\n", []int{2}},
		{"/proc/interrupts", interruptsLine, "           CPU0       CPU2       CPU11      \n  1: 3 CPU1 x\n", []int{2, 11}},
		{"/proc/interrupts", interruptsLine, "           CPU0       CPU1\n  0: 1 2\n", []int{1}},
		{"/proc/schedstat", statLine, "version 15\ntimestamp 1\ncpu1 0 0\ndomain0 f 0\n", []int{1}},
	} {
		path := write(tt.text)
		for _, cpu := range []int{1, 2, 11} {
			for _, state := range []State{Online, Offline} {
				check, err := lineCheck(path, tt.pattern)(&Probe{CPU: cpu, State: state})
				require.NoError(t, err)
				listed := affinity.Of(tt.cpus...).Has(cpu)
				if err := check(); listed == (state == Online) {
					assert.NoError(t, err, "%s cpu%d", tt.file, cpu)
				} else {
					assert.ErrorContains(t, err, fmt.Sprintf("but cpu%d is %v", cpu, state), tt.file)
				}
			}
		}
	}
}

func TestParseDomains(t *testing.T) {
	for _, tt := range []struct {
		text string
		want string
	}{
		{"version 15\ntimestamp 1\ncpu0 0 0\ndomain0 3 0 0\ndomain1 00000000,0000000b 0\ncpu1 0\n", "0-1,3"},
		{"version 17\ntimestamp 1\ncpu0 0 0\ndomain0 MC 5 0 0\n", "0,2"},
		{"version 17\ntimestamp 1\ncpu0 0 0\n", ""},
	} {
		cpus, err := parseDomains(tt.text)
		require.NoError(t, err)
		assert.Equal(t, tt.want, cpus.String())
	}
	_, err := parseDomains("version 15\ncpu0 0\ndomain0 MC 5\n")
	assert.ErrorContains(t, err, "/proc/schedstat: domain0")
}

func FuzzParseDomains(f *testing.F) {
	f.Add("version 15\ntimestamp 1\ncpu0 0 0\ndomain0 3 0 0\ndomain1 00000000,0000000b 0\ncpu1 0\n")
	f.Add("version 17\ntimestamp 1\ncpu0 0 0\ndomain0 MC 5 0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		spans, err := parseDomains(text)
		if err != nil {
			assert.ErrorContains(t, err, "/proc/schedstat: domain")
			return
		}
		more, err := parseDomains(text + "\ndomain0 MC 5 0\n")
		if err != nil { // before version 17, what stands there is a mask
			more, err = parseDomains(text + "\ndomain0 5 0\n")
		}
		require.NoError(t, err)
		assert.Equal(t, spans.Union(affinity.Of(0, 2)).String(), more.String())
	})
}

// Where no CPU is isolated some kernels print "(null)", and others have no such file.
func TestIsolatedIsOptional(t *testing.T) {
	for name, isolated := range map[string]string{"(null)": "(null)\n", "no file": "", "none": "\n", "one": "3\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/x86")))
			file := filepath.Join(dir, "devices/system/cpu/isolated")
			require.NoError(t, os.RemoveAll(file))
			if isolated != "" {
				require.NoError(t, os.WriteFile(file, []byte(isolated), 0o644))
			}
			sys, err := cpuhp.New(dir)
			require.NoError(t, err)
			s := &Suite{cpus: sys, usable: affinity.Of(1, 2, 3)}

			free, err := s.newScene().free()
			require.NoError(t, err)
			assert.Equal(t, []int{1, 2, 3}, free)
			balanced, err := (&Probe{CPU: 3, suite: s, placement: &placement{}}).balanced()
			require.NoError(t, err)
			assert.Equal(t, name != "one", balanced)
		})
	}
}

func TestVersion(t *testing.T) {
	v := version{6, 12}
	assert.True(t, v.since(5, 14))
	assert.True(t, v.since(6, 12))
	assert.False(t, v.since(6, 13))
	assert.False(t, v.since(7, 0))
	assert.True(t, v.between(6, 12, 6, 14))
	assert.False(t, v.between(6, 2, 6, 12))
	_, err := runningKernel()
	assert.NoError(t, err)
}

func TestUndoList(t *testing.T) {
	var order []int
	var u undoList
	for i := range 3 {
		u.add(func() error {
			order = append(order, i)
			if i == 1 {
				return unix.EBUSY
			}
			return nil
		})
	}
	assert.ErrorIs(t, u.run(), unix.EBUSY)
	assert.Equal(t, []int{2, 1, 0}, order, "everything is undone, whatever fails")
	assert.NoError(t, u.run(), "once")
	assert.Len(t, order, 3)
}
