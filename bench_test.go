package hotplugtest_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/suspend"
)

// The benchmarks give the kernel's own figures, for benchstat to compare
// kernels by: what the write to a CPU's file takes, without and with cpusets,
// which the kernel goes through at each operation.

func BenchmarkOnline(b *testing.B)  { cpuTo(b, true) }
func BenchmarkOffline(b *testing.B) { cpuTo(b, false) }

func cpuTo(b *testing.B, online bool) {
	withCpusets(b, func(b *testing.B, sys cpuhp.FS, cpu int) {
		set := func(online bool) func() error { return func() error { return sys.SetOnline(cpu, online) } }
		operate(b, set(!online), set(online), set(true))
	})
}

// BenchmarkUevent is a uevent without a change of anything.
func BenchmarkUevent(b *testing.B) {
	withCpusets(b, func(b *testing.B, _ cpuhp.FS, cpu int) {
		fd, err := unix.Open(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/uevent", cpu), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		require.NoError(b, err)
		defer unix.Close(fd)
		for b.Loop() {
			if _, err := unix.Write(fd, []byte("change")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSMTOff(b *testing.B) { smt(b, "on", "off") }
func BenchmarkSMTOn(b *testing.B)  { smt(b, "off", "on") }

func smt(b *testing.B, before, after string) {
	withCpusets(b, func(b *testing.B, sys cpuhp.FS, _ int) {
		control, active, err := sys.SMT()
		if err != nil || !cpuhp.SMTEnabled(control) || !active {
			b.Skipf("no SMT to turn off: smt/control is %q, smt/active %t, error %v", control, active, err)
		}
		operate(b, func() error { return sys.SetSMT(before) }, func() error { return sys.SetSMT(after) }, func() error { return sys.SetSMT(control) })
	})
}

// BenchmarkSuspend is a suspend to mem, which turns back when all CPUs but one
// are offline.
func BenchmarkSuspend(b *testing.B) {
	withCpusets(b, func(b *testing.B, _ cpuhp.FS, _ int) {
		power := suspend.New("/")
		mem, err := power.MemSleep()
		if err != nil || mem.Current != "deep" {
			b.Skipf("mem takes no CPU offline here: mem_sleep is %q, error %v", mem.Current, err)
		}
		level, err := power.PMTest()
		if err != nil {
			b.Skip(err)
		}
		delay, err := power.TestDelay()
		require.NoError(b, err)
		b.Cleanup(func() {
			require.NoError(b, power.SetPMTest(level.Current))
			require.NoError(b, power.SetTestDelay(delay))
		})
		require.NoError(b, power.SetTestDelay(0))
		require.NoError(b, power.SetPMTest("core"))
		for b.Loop() {
			if err := power.Enter("mem"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// operate measures f; before is what comes in between, and after what comes
// last of all.
func operate(b *testing.B, before, f, after func() error) {
	defer func() { require.NoError(b, after()) }()
	for b.Loop() {
		b.StopTimer()
		if err := before(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}

// withCpusets runs f as benchmarks on machines with ever more cpusets, with a
// CPU that can go offline and is online.
func withCpusets(b *testing.B, f func(b *testing.B, sys cpuhp.FS, cpu int)) {
	machine.Claim(b)
	sys, err := cpuhp.New("/")
	require.NoError(b, err)
	cpu := spareCPU(b, sys)
	for _, n := range []int{0, 100, 2000} {
		b.Run("cpusets="+strconv.Itoa(n), func(b *testing.B) {
			makeCpusets(b, n)
			f(b, sys, cpu)
		})
	}
}

// spareCPU is the last CPU that is online and can go offline.
func spareCPU(b *testing.B, sys cpuhp.FS) int {
	b.Helper()
	hotpluggable, _, err := sys.Hotpluggable()
	require.NoError(b, err)
	online, err := sys.Online()
	require.NoError(b, err)
	spare, count := -1, 0
	for cpu := range online.All() {
		count++
		if hotpluggable.Has(cpu) {
			spare = cpu
		}
	}
	if spare < 0 || count < 2 {
		b.Skip("no CPU can go offline: one has to, and another to stay")
	}
	return spare
}

// makeCpusets makes n empty cpusets for the time of a benchmark. They are those
// of nobody, as on v1 a child loses a CPU that goes offline for good.
func makeCpusets(b *testing.B, n int) {
	if n == 0 {
		return
	}
	h, err := cpuset.New("/")
	if err != nil {
		b.Skip(err)
	}
	disable, err := h.EnableController()
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, disable()) })
	parent, err := h.Root().Create("hotplugtest-bench-" + strconv.Itoa(os.Getpid()))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, parent.Remove()) })
	require.NoError(b, parent.EnableChildren())
	for i := range n {
		_, err := parent.Create(strconv.Itoa(i))
		require.NoError(b, err)
	}
}
