package ledger_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/internal/stat"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

var (
	cycles = flag.Int("cycles", 1, "times that TestKernelLedger, and TestKernelCost twice, takes the CPU offline and online")
	dump   = flag.Bool("dump", false, "print the trace of each operation of TestKernelLedger, as in testdata")
)

// settleTimeout bounds the wait for what is unfinished. Delayed work may be
// due much later: it is reported as not finished.
const settleTimeout = 3 * time.Second

// claim returns what the tests take, and the last CPU that is online.
func claim(t *testing.T) (*tracefs.FS, cpuhp.FS, int) {
	machine.Claim(t)
	fs, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	return fs, sys, slices.Max(slices.Collect(online.All()))
}

func instance() string { return fmt.Sprintf("%s%d", tracefs.NamePrefix, os.Getpid()) }

// TestKernelLedger takes the last CPU offline and online and prints what that
// leaves unfinished. What it finds is the kernel's affair. It fails if the
// ledger does not see what is known to be put off: since v6.6 offline runs in a
// worker, and in all kernels the writer wakes cpuhp/N.
func TestKernelLedger(t *testing.T) {
	fs, sys, cpu := claim(t)
	var text strings.Builder
	r, err := ledger.NewRecorder(fs, "/", instance(), &text)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	t.Logf("this kernel does not have %s", strings.Join(r.Missing, ", "))
	for n := range *cycles {
		for _, up := range []bool{false, true} {
			text.Reset()
			require.NoError(t, r.Begin(nil))
			require.NoError(t, affinity.Thread(func() error { return sys.AfterWrite(r.Returned).SetOnline(cpu, up) }))
			l, err := r.End(settleTimeout)
			require.NoError(t, err)
			if *dump {
				print(t, text.String())
			}
			what := map[bool]string{false: "offline", true: "online"}[up]
			t.Logf("cycle %d, %s: %v, %d lines of trace, %d deferrals", n, what, l.Return-l.Begin, strings.Count(text.String(), "\n"), len(l.Deferrals))
			for _, d := range l.Deferrals {
				if d.Unfinished {
					t.Logf("LEFT %s: %v\n\t%s", what, d, d.Where())
				} else {
					t.Logf("done %s: %v: %s", what, d, d.Where())
				}
			}
			woken := func(d ledger.Deferral) bool {
				return d.Kind == ledger.Thread && d.Function == fmt.Sprintf("cpuhp/%d", cpu)
			}
			assert.True(t, slices.ContainsFunc(l.Deferrals, woken), "%s: nobody has woken cpuhp/%d", what, cpu)
		}
	}
}

const (
	// mostCost is how many times as long as any other a recorded operation may be.
	mostCost = 1.1
	// rest comes before each operation that is compared. One right after another
	// takes a third less: the grace periods of RCU that it waits for are on their
	// way. Before a recorded one, the trace of the last was read.
	rest = 100 * time.Millisecond
)

// TestKernelCost has the ledger record every other cycle, and compares how long
// the operations take.
func TestKernelCost(t *testing.T) {
	if *cycles < 30 {
		t.Skipf("-cycles %d: the median of fewer than 30 says nothing", *cycles)
	}
	fs, sys, cpu := claim(t)
	took := make(map[bool]map[bool][]time.Duration) // by whether online, and recorded
	for _, up := range []bool{false, true} {
		took[up] = make(map[bool][]time.Duration)
	}
	for range *cycles {
		for _, recorded := range []bool{false, true} {
			var r *ledger.Recorder
			if recorded {
				var err error
				r, err = ledger.NewRecorder(fs, "/", instance(), nil)
				require.NoError(t, err)
			}
			// What was changed in the kernel's text is slow at first.
			for _, counts := range []bool{false, true} {
				for _, up := range []bool{false, true} {
					if d := operate(t, r, sys, cpu, up); counts {
						took[up][recorded] = append(took[up][recorded], d)
					}
				}
			}
			if recorded {
				require.NoError(t, r.Close())
			}
		}
	}
	for up, what := range map[bool]string{false: "offline", true: "online"} {
		recorded, not := stat.Median(took[up][true]), stat.Median(took[up][false])
		ratio := float64(recorded) / float64(not)
		t.Logf("%s: median of %d: %v recorded, %v not: %.2f times", what, *cycles, recorded, not, ratio)
		assert.LessOrEqual(t, ratio, mostCost, what)
	}
}

// operate returns how long an operation took. r records it, if it is not nil.
func operate(t *testing.T, r *ledger.Recorder, sys cpuhp.FS, cpu int, up bool) (took time.Duration) {
	if r != nil {
		sys = sys.AfterWrite(r.Returned)
		require.NoError(t, r.Begin(nil))
		defer func() {
			_, err := r.End(settleTimeout)
			assert.NoError(t, err)
		}()
	}
	time.Sleep(rest)
	require.NoError(t, affinity.Thread(func() error {
		begin := time.Now()
		err := sys.SetOnline(cpu, up)
		took = time.Since(begin)
		return err
	}))
	return took
}

// print prints a trace as a fixture: the kernel's threads, and the text.
func print(t *testing.T, text string) {
	threads, err := ledger.Threads("/")
	require.NoError(t, err)
	fmt.Println("FIXTURE")
	for _, tid := range slices.Sorted(maps.Keys(threads)) {
		fmt.Printf("# thread %d %s\n", tid, threads[tid])
	}
	fmt.Printf("%sEND\n", text)
}
