package machine

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// manyIRQs are n lines of controllers that have one name, so that only their
// numbers tell them apart, with masks that differ.
func manyIRQs(n int, mask func(i int) string) []IRQ {
	irqs := make([]IRQ, n)
	for i := range irqs {
		irqs[i] = IRQ{Number: i, Device: "GICv3", Hwirq: "7", Actions: "uart", CPUs: mask(i)}
	}
	return irqs
}

// cpuTime is what f takes of the calling thread's time, at best. Other load of
// the machine does not count in it.
func cpuTime(t *testing.T, f func()) time.Duration {
	t.Helper()
	clock := func() time.Duration {
		var now unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now))
		return time.Duration(now.Nano())
	}
	best := time.Hour
	for range 2 {
		runtime.GC()
		start := clock()
		f()
		best = min(best, clock()-start)
	}
	return best
}

// Ten times as many interrupts take about ten times as long, and not a hundred
// times: a server has thousands.
func TestIRQsAreComparedInLinearTime(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	moved := func(i int) string { return fmt.Sprint((i + 1) % 4) }
	at := func(n int) (match, diff time.Duration) {
		was := &Snapshot{Online: "0-3", IRQs: manyIRQs(n, func(i int) string { return fmt.Sprint(i % 4) })}
		now := &Snapshot{Online: "0-3", IRQs: manyIRQs(n, moved)}
		match = cpuTime(t, func() {
			found, lost := matchIRQs(was.IRQs, now.IRQs)
			assert.Len(t, found, n)
			assert.Empty(t, lost)
		})
		// The kernel refuses to move any of them.
		was.fixedIRQs = make(map[string]bool)
		for i := range was.IRQs {
			was.IRQs[i].Hwirq, now.IRQs[i].Hwirq = fmt.Sprint(i), fmt.Sprint(i)
			was.fixedIRQs[was.IRQs[i].whole()] = true
		}
		diff = cpuTime(t, func() { assert.Empty(t, irqMasks{}.diff(was, now)) })
		return match, diff
	}
	fewMatch, fewDiff := at(2_000)
	manyMatch, manyDiff := at(20_000)
	assert.Less(t, manyMatch, 35*fewMatch, "matched")
	assert.Less(t, manyDiff, 35*fewDiff, "compared")
	t.Logf("2000: %v matched, %v compared; 20000: %v, %v", fewMatch, fewDiff, manyMatch, manyDiff)
}
