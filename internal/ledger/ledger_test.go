package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// operation parses a trace with lines "# thread TID NAME", as -dump prints it.
func operation(tb testing.TB, text string) ledger.Operation {
	tb.Helper()
	op := ledger.Operation{Begin: ledger.BeginMark, Return: ledger.ReturnMark, Threads: make(map[int]string)}
	var rest strings.Builder
	for line := range strings.Lines(text) {
		thread, ok := strings.CutPrefix(line, "# thread ")
		if !ok {
			rest.WriteString(line)
			continue
		}
		tid, name, _ := strings.Cut(strings.TrimSpace(thread), " ")
		n, err := strconv.Atoi(tid)
		require.NoError(tb, err)
		op.Threads[n] = name
	}
	var err error
	op.Events, err = tracefs.Parse(rest.String())
	require.NoError(tb, err)
	return op
}

// summary is what a test compares: all of a deferral but the times before the
// return and the stack.
func summary(d ledger.Deferral) string {
	text := fmt.Sprintf("%s %s by %s", d.Kind, d.Function, d.QueuedBy)
	if d.Context != d.QueuedBy {
		text += " in " + d.Context
	}
	if d.Dropped {
		text += " dropped"
	}
	if d.Unfinished {
		text += fmt.Sprintf(" LEFT for %v", d.Lasted)
	}
	return text
}

// A trace of few events. A line is "THREAD CPU FLAGS US EVENT".
const (
	threads = "# thread 2 kthreadd\n# thread 15 rcu_preempt\n# thread 29 cpuhp/3\n# thread 30 migration/3\n# thread 55 kworker/2:1\n"
	begin   = "100 0 ..... 10 tracing_mark_write: hotplugtest: begin\n"
	end     = "100 0 ..... 90 tracing_mark_write: hotplugtest: return\n"
)

// trace makes a trace of such lines. "=> FUNCTION" is a line of the stack of the
// event before it.
func trace(lines string) string {
	var b strings.Builder
	var header string
	inStack := false
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if f[0] == "=>" {
			if !inStack {
				b.WriteString(header + "<stack trace>\n")
			}
			inStack = true
			b.WriteString(" " + line)
			continue
		}
		if f[0] == "#" {
			b.WriteString(line)
			continue
		}
		tid, _ := strconv.Atoi(f[0])
		cpu, _ := strconv.Atoi(f[1])
		us, _ := strconv.Atoi(f[3])
		header = fmt.Sprintf("%16s-%-7d [%03d] %s %5d.%06d: ", "<...>", tid, cpu, f[2], 7, us)
		inStack = false
		b.WriteString(header + f[4] + "\n")
	}
	return b.String()
}

func work(event, address, function string) string {
	if event == "queue_work" {
		return fmt.Sprintf("workqueue_queue_work: work struct=%s function=%s workqueue=events req_cpu=8192 cpu=2\n", address, function)
	}
	return fmt.Sprintf("workqueue_%s: work struct %s: function %s\n", event, address, function)
}

func switched(prev int, state string, next int) string {
	return fmt.Sprintf("sched_switch: prev_comm=a prev_pid=9 b prev_pid=%d prev_prio=120 prev_state=%s ==> next_comm=c next_pid=%d next_prio=0\n", prev, state, next)
}

func waking(tid int) string {
	return fmt.Sprintf("sched_waking: comm=x pid=1 prio=3 pid=%d prio=120 target_cpu=002\n", tid)
}

var computations = []struct {
	name  string
	lines string
	want  []string
}{
	{"work of cpuhp that is finished at the return",
		begin + "29 3 d..1. 20 " + work("queue_work", "00a", "f") + "55 2 ..... 30 " + work("execute_start", "00a", "f") + "55 2 ..... 40 " + work("execute_end", "00a", "f") + end,
		[]string{"work f by cpuhp/3"}},
	{"work that is running at the return",
		begin + "29 3 d..1. 20 " + work("queue_work", "00a", "f") + "55 2 ..... 30 " + work("execute_start", "00a", "f") + end + "55 2 ..... 95 " + work("execute_end", "00a", "f"),
		[]string{"work f by cpuhp/3 LEFT for 5µs"}},
	{"work that is never seen to run",
		begin + "29 3 d..1. 20 " + work("queue_work", "00a", "f") + end,
		[]string{"work f by cpuhp/3 LEFT for -1ns"}},
	{"work that an interrupt and a softirq queue meanwhile",
		begin + "29 3 d.h1. 20 " + work("queue_work", "00a", "f") + "29 3 d.s1. 21 " + work("queue_work", "00b", "g") + "100 0 d.H1. 22 " + work("queue_work", "00c", "h") + end, nil},
	{"work of somebody else, and of the writer before and after",
		"100 0 ..... 5 " + work("queue_work", "00a", "f") + begin + "101 1 ..... 20 " + work("queue_work", "00b", "f") + end + "100 0 ..... 95 " + work("queue_work", "00c", "f"), nil},
	{"work of the writer in write(2), when it closes the file, and when somebody watches it",
		begin + "100 0 ..... 20 " + work("queue_work", "00a", "f") + "=> queue_work_on\n=> kernfs_fop_write_iter\n=> vfs_write\n" + "100 0 ..... 30 " + work("queue_work", "00b", "g") + "=> queue_work_on\n=> kernfs_fop_release\n" +
			"100 0 ..... 20 " + work("queue_work", "00c", "h") + "=> queue_work_on\n=> fsnotify\n=> vfs_write\n" + end,
		[]string{"work f by the write LEFT for -1ns"}},
	{"work that work queues, and what the worker does next",
		begin + "100 0 ..... 20 " + work("queue_work", "00a", "f") +
			"55 2 ..... 30 " + work("execute_start", "00a", "f") + "55 2 ..... 31 " + work("queue_work", "00b", "g") + "55 2 ..... 40 " + work("execute_end", "00a", "f") +
			"55 2 ..... 50 " + work("execute_start", "00c", "h") + "55 2 ..... 51 " + work("queue_work", "00d", "i") + "55 2 ..... 52 " + work("execute_end", "00c", "h") + end,
		[]string{"work f by the write", "work g by kworker/2:1 in f LEFT for -1ns"}},
	{"work that is queued again while it runs",
		begin + "29 3 ..... 20 " + work("queue_work", "00a", "f") + "55 2 ..... 30 " + work("execute_start", "00a", "f") + "29 3 ..... 31 " + work("queue_work", "00a", "f") +
			"55 2 ..... 40 " + work("execute_end", "00a", "f") + end + "55 2 ..... 91 " + work("execute_start", "00a", "f") + "55 2 ..... 93 " + work("execute_end", "00a", "f"),
		[]string{"work f by cpuhp/3", "work f by cpuhp/3 LEFT for 3µs"}},
	{"work that was cancelled, or it could not be queued again",
		begin + "29 3 ..... 20 " + work("queue_work", "00a", "f") + "101 1 ..... 30 " + work("queue_work", "00a", "f") + end,
		[]string{"work f by cpuhp/3 dropped"}},
	{"a barrier, which nothing has queued",
		begin + "55 2 ..... 30 " + work("execute_start", "00a", "wq_barrier_func") + "55 2 ..... 40 " + work("execute_end", "00a", "wq_barrier_func") + end, nil},
	{"delayed work: its timer expires, in a softirq, and queues it",
		begin + "29 3 d..1. 20 timer_start: timer=00d function=delayed_work_timer_fn expires=4 [timeout=2] cpu=3 idx=0 flags=D|I\n" +
			"0 3 d.s1. 30 timer_cancel: timer=00d\n0 3 ..s1. 31 timer_expire_entry: timer=00d function=delayed_work_timer_fn now=4 baseclk=4\n" +
			"0 3 d.s2. 32 " + work("queue_work", "00a", "f") + "0 3 d.s2. 33 " + work("queue_work", "00c", "h") + "0 3 ..s1. 33 timer_expire_exit: timer=00d\n" + "0 3 d.s2. 34 " + work("queue_work", "00b", "g") + end +
			"55 2 ..... 94 " + work("execute_start", "00a", "f") + "55 2 ..... 97 " + work("execute_end", "00a", "f"),
		[]string{"delayed work f by cpuhp/3 LEFT for 7µs"}},
	{"delayed work that is cancelled, and other timers",
		begin + "29 3 d..1. 20 timer_start: timer=00d function=delayed_work_timer_fn expires=4 [timeout=2] cpu=3 idx=0 flags=\n" +
			"29 3 d..1. 21 timer_start: timer=00e function=process_timeout expires=4 [timeout=2] cpu=3 idx=0 flags=\n29 3 d..1. 30 timer_cancel: timer=00d\n" + end,
		[]string{"delayed work  by cpuhp/3 dropped"}},
	{"a timer that moves away from the CPU",
		begin + "29 3 d..1. 20 timer_start: timer=00d function=delayed_work_timer_fn expires=4 [timeout=2] cpu=3 idx=0 flags=\n=> enqueue_timer\n=> timers_dead_cpu\n" + end, nil},
	{"delayed work of the operation whose timer moves away from the CPU, and has not expired",
		begin + "29 3 d..1. 20 timer_start: timer=00d function=delayed_work_timer_fn expires=4 [timeout=2] cpu=3 idx=0 flags=\n" +
			"100 0 d..1. 30 timer_cancel: timer=00d\n100 0 d..1. 30 timer_start: timer=00d function=delayed_work_timer_fn expires=4 [timeout=2] cpu=0 idx=0 flags=\n=> enqueue_timer\n=> timers_dead_cpu\n" + end,
		[]string{"delayed work  by cpuhp/3 LEFT for -1ns"}},
	{"a thread that has not run, and one that has",
		begin + "29 3 d..3. 20 " + waking(15) + "29 3 d..3. 21 " + waking(2) + "0 2 d..2. 30 " + switched(0, "R", 2) + end + "0 2 d..2. 95 " + switched(2, "S", 15),
		[]string{"thread rcu_preempt by cpuhp/3 LEFT for 5µs", "thread kthreadd by cpuhp/3"}},
	{"a thread that was about to sleep goes on",
		begin + "0 2 d..2. 15 " + switched(0, "R", 15) + "29 3 d..3. 20 " + waking(15) + end,
		[]string{"thread rcu_preempt by cpuhp/3"}},
	{"threads of programs and workers are not woken for the kernel's work",
		begin + "29 3 d..3. 20 " + waking(55) + "29 3 d..3. 21 " + waking(101) + end, nil},
	{"a stopper works for who has woken it, until it sleeps",
		begin + "30 3 d..1. 15 " + work("queue_work", "00a", "f") + "29 3 d..3. 20 " + waking(30) + "0 3 d..2. 21 " + switched(29, "S", 30) + "30 3 d..2. 21 " + switched(30, "R+", 29) + "29 3 d..2. 22 " + switched(29, "D", 30) + "30 3 d..1. 22 " + work("queue_work", "00b", "g") +
			"30 3 d..2. 23 " + switched(30, "S", 0) + "30 3 d..1. 25 " + work("queue_work", "00c", "h") + end,
		[]string{"thread migration/3 by cpuhp/3", "work g by migration/3 LEFT for -1ns"}},
	{"a CPU on its way up, and when it is idle",
		begin + "0 3 d..1. 20 " + work("queue_work", "00a", "f") + "=> notify_cpu_starting\n=> start_secondary\n" + "0 3 d..1. 30 " + work("queue_work", "00b", "g") + "=> do_idle\n" + end,
		[]string{"work f by cpu3's idle thread in the CPU's way up or down LEFT for -1ns"}},
	{"kthread work",
		begin + "29 3 d..1. 20 sched_kthread_work_queue_work: work struct=00a function=f worker=00b\n" + end +
			"56 2 ..... 91 sched_kthread_work_execute_start: work struct 00a: function f\n56 2 ..... 92 sched_kthread_work_execute_end: work struct 00a: function f\n",
		[]string{"kthread work f by cpuhp/3 LEFT for 2µs"}},
	{"SMP calls, of which one wakes a thread",
		begin + "29 3 d..1. 20 csd_queue_cpu: cpu=1 callsite=g+0x1/0x2 func=f, csd=00a\n29 3 d..1. 20 csd_queue_cpu: cpu=1 callsite=g+0x1/0x2 func=sched_ttwu_pending, csd=00b\n" +
			"0 1 d.h1. 91 csd_function_entry: func=f csd=00a\n0 1 d.h1. 92 csd_function_exit: func=f csd=00a\n" + end,
		[]string{"SMP call f by cpuhp/3 LEFT for 2µs"}},
	{"an SMP call that interrupts work, and what the work queues after it",
		begin + "29 3 d..1. 20 " + work("queue_work", "00a", "f") + "29 3 d..1. 21 csd_queue_cpu: cpu=2 callsite=generic_exec_single+0x1/0x2 func=g csd=00c\n" +
			"55 2 ..... 30 " + work("execute_start", "00a", "f") + "55 2 d.h1. 31 csd_function_entry: func=g csd=00c\n55 2 d.h1. 32 csd_function_exit: func=g csd=00c\n" +
			"55 2 ..... 33 " + work("queue_work", "00b", "h") + "55 2 ..... 40 " + work("execute_end", "00a", "f") + end,
		[]string{"work f by cpuhp/3", "SMP call g by cpuhp/3", "work h by kworker/2:1 in f LEFT for -1ns"}},
	{"work that runs in a softirq, which interrupts work",
		begin + "29 3 d..1. 20 " + work("queue_work", "00a", "f") + "29 3 d..1. 21 " + work("queue_work", "00c", "g") +
			"55 2 ..... 30 " + work("execute_start", "00a", "f") + "55 2 ..s1. 31 " + work("execute_start", "00c", "g") + "55 2 ..s1. 32 " + work("execute_end", "00c", "g") +
			"55 2 ..... 33 " + work("queue_work", "00b", "h") + "55 2 ..... 40 " + work("execute_end", "00a", "f") + end,
		[]string{"work f by cpuhp/3", "work g by cpuhp/3", "work h by kworker/2:1 in f LEFT for -1ns"}},
	{"an SMP call that has not begun",
		begin + "29 3 d..1. 20 csd_queue_cpu: cpu=1 callsite=generic_exec_single+0x1/0x2 func=f csd=00a\n" + end,
		[]string{"SMP call f by cpuhp/3 LEFT for -1ns"}},
	{"irq_work on another CPU, which is not seen to run",
		begin + "29 3 d..1. 20 csd_queue_cpu: cpu=1 callsite=irq_work_queue_on+0x1/0x2 func=nohz_full_kick_func csd=00a\n" +
			"29 3 d..1. 21 csd_queue_cpu: cpu=1 callsite=irq_work_queue_on+0x1/0x2 func=nohz_full_kick_func csd=00a\n" + end, nil},
	{"an RCU callback",
		begin + "29 3 d..1. 20 rcu_callback: rcu_preempt rhp=00a func=f 12\n" + end + "0 3 ..s1. 99 rcu_invoke_callback: rcu_preempt rhp=00a func=f\n",
		[]string{"RCU callback f by cpuhp/3 LEFT for 9µs"}},
	{"several writes of another thread than the mark before them, of which the last counts",
		strings.Replace(begin, "100", "99", 1) + "100 0 ..... 20 " + work("queue_work", "00a", "f") + "=> kernfs_fop_write\n=> vfs_write\n" +
			"100 0 ..... 30 tracing_mark_write: hotplugtest: return\n100 0 ..... 40 " + work("queue_work", "00b", "g") + "=> kernfs_fop_write\n=> vfs_write\n" + "55 2 ..... 50 " + work("execute_start", "00a", "f") + "55 2 ..... 51 " + work("execute_end", "00a", "f") + end,
		[]string{"work f by the write", "work g by the write LEFT for -1ns"}},
	{"a kernel thread that starts meanwhile",
		begin + "2 1 ..... 15 sched_process_fork: comm=kthreadd pid=2 child_comm=kthreadd child_pid=110\n29 3 d..3. 20 " + waking(110) + end,
		[]string{"thread new kernel thread 110 by cpuhp/3 LEFT for -1ns"}},
}

func TestCompute(t *testing.T) {
	for _, c := range computations {
		t.Run(c.name, func(t *testing.T) {
			l, err := ledger.Compute(operation(t, threads+trace(c.lines)))
			require.NoError(t, err)
			var got []string
			for _, d := range l.Deferrals {
				got = append(got, summary(d))
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, 80*time.Microsecond, l.Return-l.Begin)
		})
	}
}

// Of a suspend, only what takes CPUs offline and online is the operation's.
func TestComputeWithin(t *testing.T) {
	op := operation(t, threads+trace(begin+
		"100 0 ..... 20 "+work("queue_work", "00a", "async_run_entry_fn")+"=> async_schedule_node\n=> dpm_resume\n=> vfs_write\n"+
		"100 0 ..... 30 "+work("queue_work", "00b", "g")+"=> cpuhp_invoke_callback\n=> freeze_secondary_cpus\n=> vfs_write\n"+
		"29 3 ..... 40 "+work("queue_work", "00c", "h")+"=> sched_cpu_deactivate\n"+end))
	op.Within = []string{"freeze_secondary_cpus", "thaw_secondary_cpus"}
	l, err := ledger.Compute(op)
	require.NoError(t, err)
	var got []string
	for _, d := range l.Deferrals {
		got = append(got, summary(d))
	}
	assert.Equal(t, []string{"work g by the write LEFT for -1ns", "work h by cpuhp/3 LEFT for -1ns"}, got)
}

func TestComputeError(t *testing.T) {
	for want, lines := range map[string]string{
		`ledger: the trace has 1 marks "hotplugtest: begin", want 1, and 0 marks "hotplugtest: return", want 1 or more`: begin,
		`ledger: the trace has 2 marks "hotplugtest: begin", want 1`:                                                    begin + begin + end,
		`mark "hotplugtest: return" is at 7.00001s, before mark "hotplugtest: begin" at 7.00009s`: strings.Replace(begin, "begin", "return", 1) +
			strings.Replace(end, "return", "begin", 1),
		"the kernel does not print addresses yet":                    begin + "29 3 ..... 20 " + work("queue_work", "(____ptrval____)", "f") + end,
		"sched_waking: comm=x does not say who is woken":             begin + "29 3 ..... 20 sched_waking: comm=x\n" + end,
		"sched_switch: x does not say which threads":                 begin + "29 3 ..... 20 sched_switch: x\n" + end,
		"workqueue_queue_work: x has no address":                     begin + "29 3 ..... 20 workqueue_queue_work: x\n" + end,
		"sched_process_fork: x does not say which threads":           begin + "29 3 ..... 20 sched_process_fork: x\n" + end,
		"timer_start: function=delayed_work_timer_fn has no address": begin + "29 3 ..... 20 timer_start: function=delayed_work_timer_fn\n" + end,
	} {
		_, err := ledger.Compute(operation(t, threads+trace(lines)))
		assert.ErrorContains(t, err, want)
	}
}

// The traces in testdata were recorded by TestKernelLedger -dump on Debian's
// kernels, one operation each, in virtual machines with 4 CPUs. Most of what the
// ledger passes over was cut: timers of others, threads of programs, interrupts.
var recorded = []struct {
	file     string
	left     []string // what is unfinished: function, who, in what
	finished []string // some of what is finished
}{
	{"bullseye-online", []string{"delayed work kfree_rcu_monitor by kworker/3:1 in cpuset_hotplug_workfn"}, []string{"work cpuset_hotplug_workfn by cpuhp/3"}},
	{"bullseye-poked-offline", []string{"work cpuset_hotplug_workfn by cpuhp/3", "delayed work kfree_rcu_monitor by kworker/3:0 in cpuset_hotplug_workfn"}, nil},
	{"bullseye-poked-online", []string{"work cpuset_hotplug_workfn by cpuhp/3", "delayed work kfree_rcu_monitor by kworker/3:1 in cpuset_hotplug_workfn"}, nil},
	{"bookworm-offline", nil, []string{"work work_for_cpu_fn by the write", "work cpuset_hotplug_workfn by cpuhp/3"}},
	{"bookworm-poked-online", []string{"work cpuset_hotplug_workfn by cpuhp/3"}, nil},
	{"trixie-offline", nil, []string{"work work_for_cpu_fn by the write"}},
	{"trixie-online", nil, nil},
	{"sid-offline", nil, nil},
	{"sid-online", nil, nil},
}

func TestComputeRecorded(t *testing.T) {
	for _, r := range recorded {
		t.Run(r.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", r.file+".txt"))
			require.NoError(t, err)
			l, err := ledger.Compute(operation(t, string(text)))
			require.NoError(t, err)
			var left, finished []string
			for _, d := range l.Deferrals {
				name, _, _ := strings.Cut(summary(d), " LEFT")
				if d.Unfinished {
					left = append(left, name)
					assert.Greater(t, d.Lasted, time.Duration(0), "%v", d)
				} else {
					finished = append(finished, name)
				}
				assert.NotEmpty(t, d.Stack, "%v", d)
			}
			assert.Equal(t, r.left, left)
			assert.Subset(t, finished, r.finished)
			assert.Contains(t, finished, "thread cpuhp/3 by "+writerOf(l))
		})
	}
}

// writerOf returns who wakes cpuhp/N: the writer, or the worker that it has the
// operation done by.
func writerOf(l *ledger.Ledger) string {
	for _, d := range l.Deferrals {
		if d.Kind == ledger.Thread && d.Function == "cpuhp/3" {
			_, by, _ := strings.Cut(summary(d), " by ")
			return by
		}
	}
	return "nobody"
}

func TestThreads(t *testing.T) {
	root := t.TempDir()
	put := func(tid, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "proc", tid), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, "proc", tid, "stat"), []byte(text), 0o644))
	}
	put("1", "1 (init) S 0 1 1 0 -1 4194560 1 2\n")
	_, err := ledger.Threads(root)
	assert.ErrorContains(t, err, "has no thread of the kernel")
	put("29", "29 (cpuhp/3) S 2 0 0 0 -1 69238848 0 0\n")
	put("17", "17 (kworker/u8:1-events_unbound) S 2 0 0 0 -1 69238880 0 0\n")
	put("30", "30 (a) b (c) S 2 0 0 0 -1 2129984 0 0\n")
	threads, err := ledger.Threads(root)
	require.NoError(t, err)
	assert.Equal(t, map[int]string{17: "kworker/u8:1", 29: "cpuhp/3", 30: "a) b (c"}, threads)

	// When kthreadd is known, only its children are looked at.
	table := ledger.ThreadTable{Root: root}
	put("2", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n")
	require.NoError(t, table.Scan())
	assert.Len(t, table.Names(), 4)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/2/task/2"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/2/task/2/children"), []byte("29 32 33 "), 0o644))
	put("32", "32 (kworker/3:0-mm) S 2 0 0 0 -1 69238880 0 0\n")
	put("34", "34 (sh) S 1 0 0 0 -1 4194560 1 2\n")
	require.NoError(t, table.Scan())
	assert.Equal(t, map[int]string{2: "kthreadd", 29: "cpuhp/3", 32: "kworker/3:0"}, table.Names(), "33 has ended")

	put("31", "31 cpuhp S\n")
	_, err = ledger.Threads(root)
	assert.ErrorContains(t, err, "31/stat: \"31 cpuhp S\\n\" has no name in parentheses")
}
