package vm

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// A guest stands still after stallTicks ticks in a row. Each step of a case is
// some ticks that are alike.
func TestSilence(t *testing.T) {
	type step struct {
		ticks  int
		signs  signs
		sleeps bool // QEMU says that the guest does not run
	}
	var (
		none    = signs{}
		answers = signs{heard: true}
		stuck   = signs{heard: true, stuck: []string{"a sleep", "RCU"}}
		prints  = signs{heard: true, printed: true}
		prints2 = signs{heard: true, printed: true, stuck: []string{"RCU"}}
		away    = signs{away: true}
	)
	const long = 10 * stallTicks
	for _, tt := range []struct {
		name  string
		steps []step
		how   string // at the very last tick; "": never
	}{
		{name: "dead", steps: []step{{stallTicks, none, false}}, how: "no sign of life"},
		{name: "not yet", steps: []step{{stallTicks - 1, none, false}}},
		{name: "a slow program", steps: []step{{long, answers, false}}},
		{name: "a late answer", steps: []step{{stallTicks - 1, none, false}, {1, answers, false}, {stallTicks - 1, none, false}}},
		{name: "dead after a slow program", steps: []step{{long, answers, false}, {stallTicks, none, false}}, how: "no sign of life"},
		{name: "stuck", steps: []step{{stallTicks, stuck, false}}, how: "its program has printed nothing, and its kernel has not ended a sleep, RCU"},
		{name: "slow first, then stuck", steps: []step{{long, answers, false}, {1, stuck, false}}, how: "its program has printed nothing, and its kernel has not ended a sleep, RCU"},
		{name: "stuck, but the program goes on", steps: []step{{long, prints2, false}}},
		{name: "stuck for a while", steps: []step{{stallTicks - 1, stuck, false}, {long, answers, false}}},
		{name: "asleep", steps: []step{{long, none, true}}},
		{name: "asleep in the middle", steps: []step{{stallTicks - 1, none, false}, {long, none, true}, {1, none, false}}, how: "no sign of life"},
		{name: "nobody listened", steps: []step{{long, away, false}}},
		{name: "nobody listened in the middle", steps: []step{{stallTicks - 1, none, false}, {long, away, false}, {1, none, false}}, how: "no sign of life"},
		{name: "a program that prints", steps: []step{{stallTicks - 1, none, false}, {1, prints, false}, {stallTicks - 1, none, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s silence
			for i, step := range tt.steps {
				for n := range step.ticks {
					_, how := s.tick(step.signs, func() bool { return !step.sleeps })
					if i == len(tt.steps)-1 && n == step.ticks-1 {
						assert.Equal(t, tt.how, how)
					} else {
						require.Emptyf(t, how, "step %d, tick %d", i, n)
					}
				}
			}
		})
	}
}

// What the guest names cannot pass for a test's result, and does not fill the
// screen.
func TestEnumerate(t *testing.T) {
	assert.Equal(t, "a", enumerate([]string{"a"}))
	assert.Equal(t, "--- PASS: TestAll (0.00s), b", enumerate([]string{"\n\x16--- PASS: TestAll (0.00s)", "b"}))
	assert.Equal(t, "a, b, c, d, e", enumerate(strings.Fields("a b c d e")))
	assert.Equal(t, "a, b, c, d, e and 2 more", enumerate(strings.Fields("a b c d e f g")))
}

// The guest of a program that prints is left in peace. One that is silent is
// pinged, and at last examined: early enough for it to know what is stuck.
func TestSilencePings(t *testing.T) {
	var s silence
	running := func() bool { return true }
	ping, _ := s.tick(signs{heard: true, printed: true}, running)
	assert.Zero(t, ping)
	ping, _ = s.tick(signs{away: true}, running)
	assert.Zero(t, ping)
	examined := 0
	for range stallTicks - 1 {
		switch ping, _ = s.tick(signs{heard: true}, running); ping {
		case wire.Examine:
			examined++
		default:
			assert.EqualValues(t, wire.Ping, ping)
			assert.Zero(t, examined)
		}
	}
	assert.Greater(t, examined, wire.StuckAfter)
}

// QEMU and this process can be stopped, and the guest, like one that sleeps, is
// not to be blamed for it. Here it is QEMU.
func TestMonitorOfStopped(t *testing.T) {
	vm := fakeVM(t, "hangs")
	p, err := vm.launch(t.Context(), tcg)
	require.NoError(t, err)
	defer p.close()
	assert.True(t, p.qmp.running())
	pid := p.cmd.Process.Pid
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	require.NoError(t, unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil))
	p.qmp.limit = 10 * time.Millisecond
	assert.False(t, p.qmp.running())
	assert.False(t, p.qmp.running())
	require.NoError(t, unix.Kill(pid, unix.SIGCONT))
	// The answers that come late are not taken for others.
	p.qmp.limit = time.Minute
	assert.True(t, p.qmp.running())
	_, err = p.qmp.call("nosuch", nil)
	assert.EqualError(t, err, "QEMU's monitor: nosuch: there is no such command")
	p.kill()
	<-p.dead
	assert.False(t, p.qmp.running())
}

// A CPU goes into the first slot that is free, with numbers as QEMU has them.
// One more than there are slots for is refused, for QEMU dies of it, also when
// some have been freed since.
func TestAddCPU(t *testing.T) {
	vm := fakeVM(t, "hangs")
	p, err := vm.launch(t.Context(), tcg)
	require.NoError(t, err)
	defer p.close()
	for _, core := range []string{"1", "2"} {
		require.NoError(t, p.qmp.addCPU())
		console, err := os.ReadFile(vm.console)
		require.NoError(t, err)
		assert.Equal(t, "max-x86_64-cpu "+core+"\n", string(console))
	}
	const refusal = "a CPU was asked for, and the machine has had 3, which is all that QEMU has room for: give -smp N,maxcpus=MORE"
	assert.EqualError(t, p.qmp.addCPU(), refusal)
}

// wedgeArg makes a program of this test binary that stops as many CPUs as its
// second argument says, from the last one on. A poke makes getpgid(2) loop.
const wedgeArg = "wedge"

func wedge(cpus string) {
	n, err := strconv.Atoi(cpus)
	if err != nil {
		panic(err)
	}
	var began sync.WaitGroup
	for i := range n {
		began.Go(func() {
			runtime.LockOSThread()
			var only unix.CPUSet
			only.Set(runtime.NumCPU() - 1 - i)
			if err := unix.SchedSetaffinity(0, &only); err != nil {
				panic(err)
			}
			_, _ = unix.Getpgid(0)
		})
	}
	began.Wait()
}

// A real guest that stands still, in part or as a whole.
func TestStallOfGuest(t *testing.T) {
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	for _, tt := range []struct{ name, cpus, how string }{
		{"one CPU", "1", "its program has printed nothing, and its kernel has not ended a sleep of 100ms on CPU 1(, an RCU grace period)?"},
		{"all CPUs", "2", "no sign of life"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			self, err := os.Executable()
			require.NoError(t, err)
			opts := Options{
				Kernel: "bookworm", SMP: "2", Mem: "512M", Pokes: []string{"__x64_sys_getpgid=ebfe"},
				Out: t.TempDir(), stall: stallTicks * time.Second,
			}
			begin := time.Now()
			_, err = Run(context.Background(), opts, []string{self, wedgeArg, tt.cpus}, io.Discard, os.Stderr)
			var failure *Failure
			require.ErrorAs(t, err, &failure)
			assert.Regexp(t, `^the guest stands still for 18s: `+tt.how+` \(Linux 6\.1\..*\)$`, failure.What)
			t.Logf("it took %v", time.Since(begin))
			console, err := os.ReadFile(filepath.Join(opts.Out, "console.log"))
			require.NoError(t, err)
			assert.Contains(t, string(console), "sysrq: Show backtrace of all active CPUs")
			assert.Contains(t, string(console), "__x64_sys_getpgid")
		})
	}
}
