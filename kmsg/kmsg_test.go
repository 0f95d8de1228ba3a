package kmsg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

func read(t *testing.T, path string) ([]kmsg.Record, error) {
	t.Helper()
	log, err := kmsg.Open(path, kmsg.FromStart)
	require.NoError(t, err)
	defer log.Close()
	return log.Read()
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kmsg")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// A log that is closed twice does not close the file that has got its
// descriptor meanwhile.
func TestClose(t *testing.T) {
	path := write(t, "6,397,9265166,-;text\n")
	log, err := kmsg.Open(path, kmsg.FromStart)
	require.NoError(t, err)
	require.NoError(t, log.Close())
	other, err := os.Open(path)
	require.NoError(t, err)
	defer other.Close()
	assert.NoError(t, log.Close())
	_, err = other.Stat()
	assert.NoError(t, err)
	_, err = log.Read()
	assert.ErrorIs(t, err, unix.EBADF)
}

func TestRead(t *testing.T) {
	path := write(t, "6,397,9265166,-;smpboot: CPU 3 is now offline\n SUBSYSTEM=cpu\n DEVICE=+cpu:cpu3\n"+
		`30,400,9300000,c,caller=T1,future;a \x5cslash\x0aand a \x5cx; line`+"\n"+
		"4,401,9300001,-;without an en")
	log, err := kmsg.Open(path, kmsg.FromStart)
	require.NoError(t, err)
	defer log.Close()
	records, err := log.Read()
	require.NoError(t, err)
	assert.Equal(t, []kmsg.Record{
		{Level: 6, Seq: 397, Time: 9265166 * time.Microsecond, Text: "smpboot: CPU 3 is now offline"},
		{Facility: 3, Level: 6, Seq: 400, Time: 9300 * time.Millisecond, Text: "a \\slash\nand a \\x; line"},
	}, records)
	assert.Equal(t, "[    9.265166] smpboot: CPU 3 is now offline", records[0].String())

	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteString("d\n")
	require.NoError(t, err)
	records, err = log.Read()
	require.NoError(t, err)
	require.Len(t, records, 1)
	assert.Equal(t, "without an end", records[0].Text)
	records, err = log.Read()
	assert.NoError(t, err)
	assert.Empty(t, records)
}

func TestOpenFromEnd(t *testing.T) {
	path := write(t, "6,1,2,-;before\n")
	log, err := kmsg.Open(path, kmsg.FromEnd)
	require.NoError(t, err)
	defer log.Close()
	records, err := log.Read()
	assert.NoError(t, err)
	assert.Empty(t, records)
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{"\n", "no prefix\n", "6,1,2;too short\n", "x,1,2,-;priority\n", "6,-1,2,-;number\n", "6,1,2.5,-;time\n"} {
		path := write(t, "6,1,2,-;well\n"+text)
		records, err := read(t, path)
		assert.ErrorContains(t, err, path, "%q", text)
		assert.Len(t, records, 1, "%q", text)
	}
	_, err := kmsg.Open(filepath.Join(t.TempDir(), "absent"), kmsg.FromEnd)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// What Debian's kernels say from the boot to some cycles of CPUs, and what they
// say of a warning.
func TestProblemInLogs(t *testing.T) {
	for file, want := range map[string]string{
		"healthy-6.1": "", "healthy-7.2": "",
		"warning-6.1": "warning", "warning-7.2": "warning",
	} {
		records, err := read(t, filepath.Join("testdata", file))
		require.NoError(t, err)
		require.Greater(t, len(records), 40, file)
		found := ""
		for _, r := range records {
			if kind := r.Problem(); kind != "" && found == "" {
				found = kind
			}
			if want == "" {
				assert.Empty(t, r.Problem(), "%s: %v", file, r)
			}
		}
		assert.Equal(t, want, found, file)
	}
}

func TestProblem(t *testing.T) {
	for _, tt := range []struct{ kind, text string }{
		{"warning", "------------[ cut here ]------------"},
		{"warning", "WARNING: CPU: 2 PID: 1 at kernel/sched/core.c:9633 sched_cpu_dying+0x1b/0x2b0"},
		{"warning", "WARNING: kernel/sched/core.c:9633 at sched_cpu_dying+0x1b/0x2b0, CPU#2: cpuhp/2/25"},
		{"warning", "WARNING: possible circular locking dependency detected"},
		{"bug", "BUG: scheduling while atomic: cpuhp/2/25/0x00000002"},
		{"bug", "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:283"},
		{"bug", "kernel BUG at kernel/cpu.c:1234!"},
		{"bug", "BUG: kernel NULL pointer dereference, address: 0000000000000008"},
		{"lockup", "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cpuhp/1:20]"},
		{"lockup", "watchdog: Watchdog detected hard LOCKUP on cpu 1"},
		{"lockup", "BUG: workqueue lockup - pool cpus=3 node=0 flags=0x0 nice=0 stuck for 31s!"},
		{"oops", "Oops: 0000 [#1] PREEMPT SMP PTI"},
		{"oops", "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP NOPTI"},
		{"oops", "Internal error: Oops: 0000000096000004 [#1] SMP"},
		{"oops", "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008"},
		{"oops", "Kernel panic - not syncing: Fatal exception"},
		{"hung task", "INFO: task kworker/1:1:42 blocked for more than 120 seconds."},
		{"hung task", "INFO: task tee:42 <writer> blocked on an rw-semaphore likely owned by task bash:40"},
		{"RCU stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"},
		{"RCU stall", "rcu: INFO: rcu_sched self-detected stall on CPU"},
		{"RCU stall", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 3-... }"},
		{"RCU stall", "rcu: rcu_sched kthread starved for 5250 jiffies! g-1083 f0x2 RCU_GP_WAIT_FQS(5)"},
		{"lock", "INFO: trying to register non-static key."},
		{"CPU hotplug", "CPU3: failed to come online"},
		{"CPU hotplug", "smpboot: do_boot_cpu failed(-1) to wakeup CPU#3"},
		{"CPU hotplug", "smpboot: CPU 3 didn't die..."},
		{"CPU hotplug", "CPU 3 disable failed: CPU has 201 vectors assigned and there are only 0 available."},
		{"CPU hotplug", "Error taking CPU3 up: -5"},
		{"CPU hotplug", "IRQ24: set affinity failed(-28)."},
		{"CPU hotplug", "IRQ24: set affinity failed(-16)."},
		{"backtrace", "Call Trace:"},
		{"backtrace", "Call trace:"},

		{"", "smpboot: CPU 3 is now offline"},
		{"", "IRQ 24: no longer affine to CPU3"},
		{"", "IRQ25: set affinity failed(-22)."},
		{"", "IRQ25: set affinity failed(-38)."},
		{"", "process 812 (hog) no longer affine to cpu3"},
		{"", "clocksource: timekeeping watchdog on CPU2: Marking clocksource 'tsc' as unstable because the skew is too large:"},
		{"", "hrtimer: interrupt took 5201344 ns"},
		{"", "sched: RT throttling activated"},
		{"", "psci: CPU3 killed (polled 0 ms)"},
		{"", "debug: unmapping init [mem 0xffffffff82d00000-0xffffffff82ffffff]"},
	} {
		assert.Equal(t, tt.kind, kmsg.Record{Level: 4, Text: tt.text}.Problem(), tt.text)
		assert.Empty(t, kmsg.Record{Facility: 1, Level: 4, Text: tt.text}.Problem(), "written by a program: %s", tt.text)
	}
}

// The backtrace of a container that is out of memory is no complaint. One that
// comes later is.
func TestJudge(t *testing.T) {
	for _, begin := range []string{
		"nginx invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
		"kworker/0:1: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)",
	} {
		var j kmsg.Judge
		var found []string
		for _, text := range []string{
			begin, "CPU: 1 PID: 99 Comm: nginx Not tainted 6.1.0", "Hardware name: a machine", "Call Trace:", " <TASK>", " dump_stack_lvl+0x1/0x2",
			"Mem-Info:", "Call Trace:",
		} {
			found = append(found, j.Problem(kmsg.Record{Level: 4, Text: text}))
		}
		assert.Equal(t, []string{"", "", "", "", "", "", "", "backtrace"}, found, begin)
	}
	var both kmsg.Judge
	for _, text := range []string{"a: page allocation failure: order:4", "b: page allocation failure: order:4", "Call Trace:", "Call Trace:"} {
		assert.Empty(t, both.Problem(kmsg.Record{Text: text}), "two CPUs at once: %s", text)
	}
	assert.Equal(t, "backtrace", both.Problem(kmsg.Record{Text: "Call Trace:"}), "a third one")
	var j kmsg.Judge
	assert.Empty(t, j.Problem(kmsg.Record{Text: "nginx invoked oom-killer: gfp_mask=0xcc0"}))
	assert.Equal(t, "warning", j.Problem(kmsg.Record{Text: "------------[ cut here ]------------"}), "beside it")
	for range 10 {
		assert.Empty(t, j.Problem(kmsg.Record{Text: "a line"}))
	}
	assert.Equal(t, "backtrace", j.Problem(kmsg.Record{Text: "Call Trace:"}), "long after it")
}

// What is read can be written as the kernel does, and read again.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"6,397,9265166,-;smpboot: CPU 3 is now offline", `30,400,9300000,c,caller=T1,future;a \x5cslash\x0aand a \x5cx; line`,
		"4,18446744073709551615,9007199254740991,-;", ",,,;", `0,0,0,-;\x`, "no prefix",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := kmsg.Parse(line)
		if err != nil {
			require.Empty(t, r.Text)
			return
		}
		_ = r.Problem()
		again, err := kmsg.Parse(fmt.Sprintf("%d,%d,%d,-;%s", r.Facility<<3|r.Level, r.Seq, r.Time/time.Microsecond, strings.ReplaceAll(r.Text, `\`, `\x5c`)))
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
