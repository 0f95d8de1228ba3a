package main_test

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm"
)

// Functions that the guest's program calls. The second one is called with a
// spinlock held, in a read-side critical section of RCU.
const (
	maySleep   = "sched_setaffinity"   // by sched_setaffinity(2)
	mayNot     = "__ptrace_may_access" // by get_robust_list(2)
	delayOfTwo = 300 * time.Millisecond
)

// delays prints what calls of the two functions take, and what the kernel has
// said against it.
func delays() int {
	runtime.LockOSThread()
	var all unix.CPUSet
	for cpu := range runtime.NumCPU() {
		all.Set(cpu)
	}
	show := func(name string, call func() error) error {
		var before, after unix.Timespec
		start := time.Now()
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
		err := call()
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after)
		fmt.Printf("%s %d %d\n", name, time.Since(start), after.Nano()-before.Nano())
		return err
	}
	if err := show(maySleep, func() error { return unix.SchedSetaffinity(0, &all) }); err != nil {
		return complain(err)
	}
	err := show(mayNot, func() error {
		var head, size uintptr
		_, _, errno := unix.Syscall(unix.SYS_GET_ROBUST_LIST, 1, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return complain(err)
	}
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		return complain(err)
	}
	for line := range strings.Lines(string(log[:n])) {
		if strings.Contains(line, "scheduling while atomic") || strings.Contains(line, "Voluntary context switch") {
			fmt.Println("log", strings.TrimSpace(line))
		}
	}
	return 0
}

// waitedBusily checks a call that may not sleep. What interrupts take meanwhile
// is not counted as its thread's.
func waitedBusily(t *testing.T, wall, cpu time.Duration) {
	t.Helper()
	assert.GreaterOrEqual(t, wall, vm.MaxBusyWait)
	assert.GreaterOrEqual(t, cpu, vm.MaxBusyWait/2, "it slept")
}

// A call that may sleep sleeps, and one that may not is busy for the bound.
// Debian's 5.10 does not count spinlocks: there neither sleeps.
func TestDelay(t *testing.T) {
	for _, tt := range []struct {
		kernel string
		sleeps bool
	}{{"bookworm", true}, {"bullseye", false}, {"sid", true}} {
		t.Run(tt.kernel, func(t *testing.T) {
			b := needVM(t)
			r := run(t, b.command(t, "-kernel", tt.kernel, "-delay", fmt.Sprintf("%s=%v", maySleep, delayOfTwo),
				"-delay", fmt.Sprintf("%s=%v", mayNot, delayOfTwo), b.guest, "delays"))
			assert.Equal(t, 0, r.code)
			took := func(name string) (wall, cpu time.Duration) {
				line := regexp.MustCompile(`(?m)^` + name + ` .*$`).FindString(r.stdout)
				_, err := fmt.Sscanf(line, name+" %d %d", &wall, &cpu)
				require.NoErrorf(t, err, "line %q", line)
				return wall, cpu
			}
			wall, cpu := took(maySleep)
			if tt.sleeps {
				assert.GreaterOrEqual(t, wall, delayOfTwo)
				assert.Less(t, cpu, delayOfTwo/2, "it slept")
			} else {
				waitedBusily(t, wall, cpu)
			}
			wall, cpu = took(mayNot)
			waitedBusily(t, wall, cpu)
			assert.NotContains(t, r.stdout, "log ", "the kernel is content")
		})
	}
}

// What cannot be delayed is one line.
func TestNoDelay(t *testing.T) {
	for _, tt := range []struct{ name, delay, want string }{
		{"nothing", "nosuchsymbol=1s", `vm: delay: this kernel has no symbol nosuchsymbol`},
		{"assembly", "asm_exc_page_fault=1s", `vm: delay: asm_exc_page_fault begins with [0-9a-f]{18}, not with the NOP that ftrace keeps there: .*`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := needVM(t)
			r := run(t, b.command(t, "-kernel", suite, "-delay", tt.delay, b.guest, "output"))
			assert.Equal(t, 1, r.code)
			assert.Empty(t, r.stdout)
			require.Len(t, r.complaints(), 1)
			assert.Regexp(t, `^`+tt.want+`\n$`, r.complaints()[0])
		})
	}
}
