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
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

var (
	cycles = flag.Int("cycles", 1, "times that TestKernelLedger takes the CPU offline and online")
	dump   = flag.Bool("dump", false, "print the trace of each operation of TestKernelLedger, as in testdata")
)

const (
	beginMark  = "hotplugtest: begin"
	returnMark = "hotplugtest: return"
)

// settleTimeout bounds the wait for what is unfinished. Delayed work may be
// due much later: it is reported as not finished.
const settleTimeout = 3 * time.Second

// TestKernelLedger takes the last CPU offline and online and prints what that
// leaves unfinished. What it finds is the kernel's affair. It fails if the
// ledger does not see what is known to be put off: since v6.6 offline runs in a
// worker, and in all kernels the writer wakes cpuhp/N.
func TestKernelLedger(t *testing.T) {
	machine.Claim(t)
	fs, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { assert.NoError(t, fs.Close()) }()
	sys, err := cpuhp.New("/sys")
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	cpu := slices.Max(slices.Collect(online.All()))
	for n := range *cycles {
		for _, up := range []bool{false, true} {
			trace := record(t, fs, func() error { return sys.SetOnline(cpu, up) })
			l, err := ledger.Compute(trace)
			require.NoError(t, err)
			what := map[bool]string{false: "offline", true: "online"}[up]
			t.Logf("cycle %d, %s: %v, %d events, %d deferrals", n, what, l.Return-l.Begin, len(trace.Events), len(l.Deferrals))
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

// record records an operation, and what follows until it is settled.
func record(t *testing.T, fs *tracefs.FS, f func() error) ledger.Operation {
	i, err := fs.Create(fmt.Sprintf("%s%d", tracefs.NamePrefix, os.Getpid()), &tracefs.Options{BufferKB: 4096})
	require.NoError(t, err)
	defer func() { assert.NoError(t, i.Close()) }()
	for _, event := range ledger.Events {
		err := i.Enable(event, "")
		if err == nil && slices.Contains(ledger.Stacks, event) {
			err = i.Stacks(event, "")
		}
		if !errors.Is(err, tracefs.ErrNotSupported) || slices.Contains(ledger.Required, event) {
			require.NoError(t, err)
		}
	}
	threads, err := ledger.Threads("/")
	require.NoError(t, err)
	require.NoError(t, i.Start())
	require.NoError(t, affinity.Thread(func() error {
		return errors.Join(i.Mark(beginMark), f(), i.Mark(returnMark))
	}))
	op := ledger.Operation{Begin: beginMark, Return: returnMark, Threads: threads}
	for deadline := time.Now().Add(settleTimeout); ; {
		events, err := i.Read()
		require.NoError(t, err)
		op.Events = append(op.Events, events...)
		l, err := ledger.Compute(op)
		require.NoError(t, err)
		if l.Settled() || time.Now().After(deadline) {
			break
		}
	}
	require.NoError(t, i.Stop())
	later, err := ledger.Threads("/")
	require.NoError(t, err)
	maps.Copy(op.Threads, later)
	if *dump {
		print(op)
	}
	return op
}

// print prints an operation as a fixture.
func print(op ledger.Operation) {
	var b strings.Builder
	for _, tid := range slices.Sorted(maps.Keys(op.Threads)) {
		fmt.Fprintf(&b, "# thread %d %s\n", tid, op.Threads[tid])
	}
	flags := map[tracefs.Context]string{tracefs.Task: ".....", tracefs.SoftIRQ: "..s..", tracefs.HardIRQ: "..h..", tracefs.NMI: "..z.."}
	for _, e := range op.Events {
		line := fmt.Sprintf("%16s-%-7d [%03d] %s %5d.%06d: ", e.Comm, e.TID, e.CPU, flags[e.Context], e.Time/time.Second, e.Time%time.Second/time.Microsecond)
		fmt.Fprintf(&b, "%s%s: %s\n", line, e.Name, e.Args)
		if e.Stack != nil {
			fmt.Fprintf(&b, "%s<stack trace>\n => %s\n", line, strings.Join(e.Stack, "\n => "))
		}
	}
	fmt.Printf("FIXTURE\n%sEND\n", b.String())
}
