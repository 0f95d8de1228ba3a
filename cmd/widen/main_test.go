package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestParse(t *testing.T) {
	w, err := parse(strings.Fields("-C /where -kernel bookworm -for 20m -smp 2 -poke f=ret -out o -- -cycles 2"))
	require.NoError(t, err)
	assert.Equal(t, "/where/o/bookworm", w.reports())
	assert.Equal(t, defaultDelay, w.delay)
	assert.Equal(t, strings.Fields("-kernel bookworm -smp 2 -poke f=ret"), w.flags())
	assert.Equal(t, strings.Fields("-cycles 2"), w.args)
	w, err = parse([]string{"-kernel", "sid", "-module", "null_blk nr_devices=1"})
	require.NoError(t, err)
	assert.Equal(t, []string{"-kernel", "sid", "-module", "null_blk nr_devices=1"}, w.flags())
	w, err = parse(strings.Fields("-C /where -kernel sid -profile numa -out o"))
	require.NoError(t, err)
	assert.Equal(t, "/where/o/sid-numa", w.reports())
	assert.Equal(t, strings.Fields("-kernel sid -profile numa"), w.flags())
	assert.Equal(t, "4,sockets=2,cores=2", w.boot.Options(w.vm).SMP)
	for args, want := range map[string]string{
		"-profile all": `invalid value "all" for flag -profile: one way to boot the kernel at a time`,
		"-profile x":   `invalid value "x" for flag -profile: there is no such profile, only `,
		"-by 1us":      "-by 1µs: a delay is of whole milliseconds, from 1ms to 10s",
		"-for 0s":      "-for 0s: it takes time",
		"bookworm":     `unexpected "bookworm": a kernel is named by -kernel, and flags of the test binary come after --`,
		"-delay f":     `invalid value "f" for flag -delay: `,
		"-kernel a -x": "flag provided but not defined: -x",
	} {
		_, err := parse(strings.Fields(args))
		assert.ErrorContains(t, err, want, args)
	}
}

// A kernel's path is relative to where the script was called, as of
// ci/selftest: that of a file, of a directory and of a kernel tree.
func TestParseKernel(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bzImage"), nil, 0o644))
	for _, sub := range []string{"linux", "boot.d", "sid"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "linux", "Kconfig"), nil, 0o644))
	for name, path := range map[string]bool{"bzImage": true, "linux": true, "boot.d": true, "./none": true, "sid": false, "trixie/rt": false} {
		w, err := parse([]string{"-C", dir, "-kernel", name})
		require.NoError(t, err)
		want := name
		if path {
			want = filepath.Join(dir, name)
		}
		assert.Equal(t, want, w.vm.Kernel)
	}
	w, err := parse([]string{"-C", dir, "-kernel", "linux", "-out", "o"})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "o", "linux"), w.reports())
}

func TestPattern(t *testing.T) {
	w := &widen{}
	assert.Equal(t, "^TestOffline$|^TestOnline$", w.pattern([]string{"offline", "online"}))
	assert.Equal(t, "^TestOnline$", w.pattern([]string{"online"}))
	w.rows = "TestScenario/load"
	assert.Equal(t, "TestScenario/load", w.pattern([]string{"online"}))
	r := &run{Pattern: "^TestOnline$"}
	assert.Equal(t, `^TestA$/^1:x\.y$|^TestB$`, r.patternOf([]string{"TestA/1:x.y", "TestB"}))
	assert.Equal(t, "^TestOnline$", r.patternOf([]string{lab.Whole}))
}

func TestReadTrace(t *testing.T) {
	trace, err := readTrace([]byte(`{"CPU":3,"Seen":[{"Transition":"online","Kind":2,"Function":"f","Before":5,"By":"cpuhp/3"}]}` + "\n"))
	require.NoError(t, err)
	assert.Equal(t, suspect.Trace{CPU: 3, Seen: []suspect.Sighting{{Transition: "online", Kind: suspect.Waker, Function: "f", Before: 5, By: "cpuhp/3"}}}, trace)
	for _, text := range []string{"no JSON", `{"Seen":[{"Kind":2}]}`, `{"Seen":[{"Kind":5,"Function":"f"}]}`, `{"Seen":[{"Kind":-1,"Function":"f"}]}`} {
		_, err := readTrace([]byte(text))
		assert.ErrorContains(t, err, "tracing: ", text)
	}
}

// found is a state with one of each.
func found(file string) *state {
	return &state{
		Key: "k", file: file, CPU: 3, Baseline: &lab.Outcome{Tests: 9},
		Suspects: []suspect.Suspect{
			{Function: "fails", By: "cpuhp/3", Transitions: []string{"online"}}, {Function: "kills", Kind: suspect.Callback, By: "cpuhp/3"},
			{Function: "passes"}, {Function: "cannot"}, {Function: "left"},
		},
		Runs: map[string]*run{
			"fails": {
				Pattern: "^TestOnline$", Tests: 9, Failed: []string{"TestOnline/at-return/affinity/child", "TestOnline/at-return/effective"},
				Again: []string{"TestOnline/at-return/effective"},
			},
			"kills":  {Pattern: "^TestOffline$", Tests: 3, Died: "it panicked", DiedAgain: "it hangs"},
			"passes": {Tests: 9, Took: 1500 * time.Millisecond},
			"cannot": {Impossible: "this kernel has no symbol cannot"},
		},
	}
}

func TestTable(t *testing.T) {
	s := found("")
	w := &widen{delay: defaultDelay, vm: vm.Options{Kernel: "bookworm", SMP: "4", Mem: "1G"}, boot: profile.Profile{Name: profile.Default}, args: []string{"-rows=[ab]"}, state: s}
	assert.Equal(t, "| delayed by 500ms | why | rows that failed | tests | again |\n|---|---|---|---|---|\n"+
		"| `fails` | unfinished at the return, cpuhp/3 | TestOnline/{affinity,effective} | 2 of 9 | 1 |\n"+
		"| `kills` | callback, cpuhp/3 | the VM: it panicked | 0 of 3 | 0<br>the VM: it hangs |\n\n"+
		"    ci/selftest -kernel bookworm -delay fails=500ms -run '^TestOnline$/^at-return$/^effective$' -- -cpusets 1 -cpus 3 '-rows=[ab]'\n"+
		"    ci/selftest -kernel bookworm -delay kills=500ms -run '^TestOffline$' -- -cpusets 1 -cpus 3 '-rows=[ab]'\n\n"+
		"cannot be delayed: this kernel has no symbol cannot\n3 functions delayed, 2 noticed, 1 left: call it again to go on\n", s.table(w))
	assert.Equal(t, "9 tests in 0s, 2 FAILED, 1 of them again: TestOnline/{affinity,effective}", s.Runs["fails"].String())
	assert.Equal(t, "9 tests in 2s", s.Runs["passes"].String())
	assert.Equal(t, "3 tests in 0s, 0 FAILED, 0 of them again: (it panicked); again the VM: it hangs", s.Runs["kills"].String())
	assert.Equal(t, "not delayed: this kernel has no symbol cannot", s.Runs["cannot"].String())
}

func TestVerdict(t *testing.T) {
	s := found("")
	assert.Equal(t, &cli.Told{What: "tests failed", Status: cli.Failed}, s.verdict())
	delete(s.Runs, "fails")
	assert.Error(t, s.verdict(), "a VM that dies")
	delete(s.Runs, "kills")
	assert.NoError(t, s.verdict())
	delete(s.Runs, "passes")
	assert.EqualError(t, s.verdict(), "no function was delayed: give it more time by -for")
	s.Suspects = s.Suspects[3:4]
	assert.EqualError(t, s.verdict(), "no function could be delayed: see above why")
}

// What was found is there again, for the same kernel and flags alone.
func TestState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kernel", stateFile)
	s, err := openState(file, "k")
	require.NoError(t, err)
	assert.Empty(t, s.Runs)
	want := found(file)
	require.NoError(t, want.save())
	s, err = openState(file, "k")
	require.NoError(t, err)
	assert.Equal(t, want, s)
	s, err = openState(file, "other")
	require.NoError(t, err)
	assert.Equal(t, &state{Key: "other", Runs: map[string]*run{}, file: file}, s)
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o644))
	_, err = openState(file, "k")
	assert.ErrorContains(t, err, "remove it to start anew")
}

// What failed runs again, and if the suite failed as a whole, all of it. If
// nothing runs then, nothing failed again.
func TestDelayOne(t *testing.T) {
	for _, tt := range []struct {
		name   string
		failed string
		again  *lab.Outcome // nil: no test ran
		want   []string
		runs   string // what runs again
	}{
		{name: "a test", failed: "TestOnline/x", again: &lab.Outcome{Failed: []string{"TestOnline/x"}}, want: []string{"TestOnline/x"}, runs: "^TestOnline$/^x$"},
		{name: "the suite", failed: lab.Whole, again: &lab.Outcome{Failed: []string{lab.Whole}}, want: []string{lab.Whole}, runs: "^TestOnline$"},
		{name: "skipped", failed: "TestOnline/x", runs: "^TestOnline$/^x$"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &widen{delay: defaultDelay, state: &state{Baseline: &lab.Outcome{}}}
			var ran []string
			w.suite = func(_ context.Context, _ string, args ...string) (*lab.Outcome, error) {
				ran = append(ran, args[slices.Index(args, "-run")+1])
				switch {
				case len(ran) == 1:
					return &lab.Outcome{Tests: 9, Failed: []string{tt.failed}}, nil
				case tt.again == nil:
					return nil, fmt.Errorf("%w: skipped", lab.ErrNoTest)
				}
				return tt.again, nil
			}
			r, err := w.delayOne(context.Background(), suspect.Suspect{Function: "f", Transitions: []string{"online"}})
			require.NoError(t, err)
			assert.Equal(t, []string{"^TestOnline$", tt.runs}, ran)
			assert.Equal(t, []string{tt.failed}, r.Failed)
			assert.Equal(t, tt.want, r.Again)
		})
	}
}

// A VM that does not start tells nothing of a delay. It is tried a second time.
func TestDelayNotStarted(t *testing.T) {
	const late = "the VM did not start a program within 2m0s"
	for _, tt := range []struct {
		name string
		runs []*lab.Outcome
		want run
	}{
		{"once", []*lab.Outcome{{Died: late}, {Tests: 9}}, run{Tests: 9}},
		{"twice", []*lab.Outcome{{Died: late}, {Died: "the VM ended before the program started (Linux 6.1)"}}, run{Impossible: "f: the VM ended before the program started (Linux 6.1)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &widen{delay: defaultDelay, rows: "TestOnline", state: &state{Baseline: &lab.Outcome{}}}
			w.suite = func(context.Context, string, ...string) (*lab.Outcome, error) {
				o := tt.runs[0]
				tt.runs = tt.runs[1:]
				return o, nil
			}
			r, err := w.delayOne(context.Background(), suspect.Suspect{Function: "f"})
			require.NoError(t, err)
			r.Took, r.Pattern = 0, ""
			assert.Equal(t, &tt.want, r)
			assert.Empty(t, tt.runs)
		})
	}
}

func TestWithout(t *testing.T) {
	assert.Equal(t, []string{"b"}, without([]string{"a", "b"}, []string{"a", "c"}))
}
