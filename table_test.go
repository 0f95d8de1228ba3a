//go:build !selftest

// With the tag selftest the test binary has the tests of the kernel alone, not
// those of the suite itself.

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/scripted"
	"github.com/hotplugtest/hotplugtest/suite"
)

func TestTables(t *testing.T) {
	tables := Default()
	assert.NoError(t, tables.Check())
	for _, tr := range tables.Transitions {
		assert.NotEmpty(t, tr.Source, "%s: where is that promised?", tr.Name)
	}
	for _, sc := range tables.Scenarios {
		assert.Regexp(t, `^[a-z-]+$`, sc.Name)
	}
	for _, w := range tables.Workloads {
		assert.Regexp(t, `^[a-z-]+$`, w.Name)
	}
	tables.Transitions[0].Name = "changed"
	assert.Equal(t, "Online", Default().Transitions[0].Name, "the tables are the caller's own")
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
	for _, name := range Default().Tests() {
		assert.True(t, tests["Test"+name], "no func Test%s in selftest_test.go", name)
	}
}

// What comes after a row that takes the kernel down is lost, so these are the
// last of their tests, and those tests the last, of go test as of Run.
func TestDestructiveRowsAreLast(t *testing.T) {
	var tests []string
	destructive := make(map[string]bool)
	for _, tr := range transitions {
		name, _, _ := strings.Cut(tr.Name, "/")
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

// So are scenarios, of TestScenario.
func TestDestructiveScenariosAreLast(t *testing.T) {
	destructive := false
	for _, sc := range Default().Scenarios {
		assert.False(t, destructive && !sc.Destructive, "%s comes after a row that may take the kernel down", sc.Name)
		destructive = destructive || sc.Destructive
	}
	assert.True(t, destructive)
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
				check, err := lineCheck(path, tt.pattern)(&Probe{View: View{CPU: cpu}, State: state})
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

// A CPU that is alone beside isolated ones and somebody's partition has nobody
// to be balanced with.
func TestBalanced(t *testing.T) {
	for partitioned, want := range map[string]bool{"": true, "1-2": false} {
		k := scripted.New(t, "cpus 0-3\nisolated 3")
		theirs, err := affinity.ParseList(partitioned)
		require.NoError(t, err)
		m := suite.NewMachine(suite.Facts{Partitioned: theirs}, k, k, k.Log)
		got, err := balanced(&Probe{View: View{Machine: m, From: &Placement{}}})
		require.NoError(t, err)
		assert.Equal(t, want, got, partitioned)
	}
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

// Where no CPU is isolated some kernels print "(null)", and others have no such
// file.
func TestIsolatedIsOptional(t *testing.T) {
	for name, isolated := range map[string]string{"(null)": "(null)\n", "no file": "", "none": "\n", "one": "3\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/x86")))
			file := filepath.Join(dir, "sys/devices/system/cpu/isolated")
			require.NoError(t, os.RemoveAll(file))
			if isolated != "" {
				require.NoError(t, os.WriteFile(file, []byte(isolated), 0o644))
			}
			sys, err := cpuhp.New(dir)
			require.NoError(t, err)
			m := suite.NewMachine(suite.Facts{Usable: affinity.Of(1, 2, 3)}, sys, nil, nil)

			free, err := freeCPUs(m.NewScene())
			require.NoError(t, err)
			assert.Equal(t, []int{1, 2, 3}, free)
			balanced, err := balanced(&Probe{View: View{Machine: m, CPU: 3, From: &Placement{}}})
			require.NoError(t, err)
			assert.Equal(t, name != "one", balanced)
		})
	}
}

// On cgroup v1 somebody can take load balancing from the root cpuset, as is
// done for CPUs of real-time tasks. Then CPUs are in no domain, by design.
func TestRootIsNotBalanced(t *testing.T) {
	for name, tt := range map[string]struct{ options, file, flag string }{
		"v1":          {"rw,cpuset", "cpuset.sched_load_balance", "0\n"},
		"no prefix":   {"rw,cpuset,noprefix", "sched_load_balance", "0\n"},
		"is balanced": {"rw,cpuset", "cpuset.sched_load_balance", "1\n"},
		"no file":     {"rw,cpuset", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{"proc/self", "cg"} {
				require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
			}
			mount := "30 22 0:25 / /cg rw - cgroup cgroup " + tt.options + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(root, "proc/self/mountinfo"), []byte(mount), 0o644))
			if tt.file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(root, "cg", tt.file), []byte(tt.flag), 0o644))
			}
			h, err := cpuset.New(root)
			require.NoError(t, err)
			m := suite.NewMachine(suite.Facts{}, nil, nil, nil)
			assert.NoError(t, needsBalanced(m), "a machine without cpusets")

			m.Root.Group = h.Root()
			if tt.flag != "0\n" {
				assert.NoError(t, needsBalanced(m))
				return
			}
			for _, err := range []error{needsBalanced(m), needsDomains(View{Machine: m})} {
				assert.True(t, suite.IsUnsupported(err), err)
				assert.ErrorContains(t, err, "sched_load_balance")
			}
		})
	}
}
