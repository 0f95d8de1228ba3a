package hotplugtest

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// A deferral is what some kernels leave unfinished when a hotplug operation
// returns, and may.
type deferral struct {
	Kind ledger.Kind
	// Function is a pattern as in [path.Match], of the function or the thread.
	Function string
	// Via matches a function by which it must have been put off. nil: any.
	Via *regexp.Regexp
	// Kernels are those that do so.
	Kernels Span
	// After is the state of the CPU after the operations that put it off. 0:
	// any.
	After State
	// Tracer is a tracer that only those kernels have, by their configuration.
	// "": it is none's.
	Tracer string
	// When says on what it depends, beside the operation. "": each operation
	// puts it off, though it may be finished in time.
	When string
	// Source is where the kernel does so.
	Source string
	// Why says why it may.
	Why string
}

// knownDeferrals are the exceptions to the row settled.
var knownDeferrals = []deferral{
	{
		Kind: ledger.DelayedWork, Function: "kfree_rcu_monitor", Kernels: Span{Until: Version{5, 11}},
		Source: "kernel/rcu/tree.c: kvfree_call_rcu(), for the sysctl entries of the scheduling domains",
		Why:    "it frees memory that nothing refers to any more",
	},
	{
		Kind: ledger.DelayedWork, Function: "kfree_rcu_monitor", Kernels: Span{From: Version{5, 11}}, When: "whether something is freed by kfree_rcu()",
		Source: "kernel/rcu/tree.c: kvfree_call_rcu()",
		Why:    "it frees memory that nothing refers to any more",
	},
	{
		// Its timer may take five seconds. Until then, the trace does not tell
		// the function.
		Kind: ledger.DelayedWork, Function: "*", Via: regexp.MustCompile(`^kv?free_call_rcu`), When: "whether something is freed by kfree_rcu()",
		Source: "kernel/rcu/tree.c, or since v6.14 mm/slab_common.c: kvfree_call_rcu()",
		Why:    "as kfree_rcu_monitor, which it is",
	},
	{
		Kind: ledger.Thread, Function: "*", Via: regexp.MustCompile(`^(smpboot_unpark_thread|kthread_unpark)`), When: "whether a CPU comes online, if only for a moment",
		Source: "kernel/smpboot.c: smpboot_unpark_threads()",
		Why:    "the CPU's own threads are ready with their CPU, and find nothing to do yet",
	},
	{
		Kind: ledger.Thread, Function: "cpuhp/*", Via: regexp.MustCompile(`^(__)?cpuhp_(kick_ap|kick_ap_work|bringup_ap|invoke_ap_callback)$`),
		When:   "whether the thread was awake, and has seen what it is to do before it is woken for that",
		Source: "kernel/cpu.c: __cpuhp_kick_ap(), which sets should_run, wakes the thread and waits until it has done it",
		Why:    "who wakes it has waited for what it does. A thread that had done it before finds nothing to do",
	},
	{
		Kind: ledger.Thread, Function: "ksoftirqd/*", When: "whether the CPU that went offline has left softirqs",
		Source: "kernel/softirq.c: takeover_tasklets(); net/core/dev.c: dev_cpu_dead(), by raise_softirq()",
		Why:    "it serves what the CPU that went offline has left to others. Softirqs promise no time, and run at the end of an interrupt if they can",
	},
	{
		Kind: ledger.Thread, Function: "rcu*", When: "whether a grace period goes on already",
		Source: "kernel/rcu/tree.c: rcu_gp_kthread_wake()",
		Why:    "it begins or ends a grace period. Whoever needs its end waits for it",
	},
	{
		Kind: ledger.Thread, Function: "rcuo*/*", When: "whether a callback of RCU was queued, with rcu_nocbs=",
		Source: "kernel/rcu/tree_nocb.h: __call_rcu_nocb_wake()",
		Why:    "it calls the callbacks of CPUs that do not call theirs. Whoever needs the end of a grace period waits for it",
	},
	{
		Kind: ledger.DelayedWork, Function: "*", Via: regexp.MustCompile(`^psi_`), When: "whether the averages are computed already",
		Source: "kernel/sched/psi.c: psi_task_change(), CONFIG_PSI",
		Why:    "any thread that wakes up begins the averages of /proc/pressure, which are computed every two seconds",
	},
	{
		Kind: ledger.Thread, Function: "kswapd*", When: "whether memory is short",
		Source: "mm/vmscan.c: wakeup_kswapd()",
		Why:    "it frees memory for whoever allocates next",
	},
	{
		Kind: ledger.Thread, Function: "kcompactd*", When: "whether memory is in pieces",
		Source: "mm/compaction.c: wakeup_kcompactd()",
		Why:    "it makes larger pieces of free memory for whoever allocates next",
	},
	{
		Kind: ledger.Work, Function: "pcpu_balance_workfn", When: "whether the memory for variables of each CPU is nearly used up, or mostly free",
		Source: "mm/percpu.c: pcpu_schedule_balance_work()",
		Why:    "it gets or frees memory for whoever allocates next",
	},
	{
		Kind: ledger.Work, Function: "pwq_unbound_release_workfn", Kernels: Span{Until: Version{6, 6}}, When: "whether the CPU was the last of its node that an unbound workqueue may use",
		Source: "kernel/workqueue.c: wq_update_unbound_numa(), by put_pwq()",
		Why:    "it frees a pool of workers that nothing is queued to any more",
	},
	{
		Kind: ledger.KthreadWork, Function: "pwq_release_workfn", Kernels: Span{From: Version{6, 6}}, When: "whether the CPU was the last of its group that an unbound workqueue may use",
		Source: "kernel/workqueue.c: unbound_wq_update_pwq(), by put_pwq()",
		Why:    "as pwq_unbound_release_workfn",
	},
	{
		Kind: ledger.Thread, Function: "pool_workqueue_*", Kernels: Span{From: Version{6, 6}}, When: "whether the CPU was the last of its group that an unbound workqueue may use",
		Source: "kernel/workqueue.c: pwq_release_worker",
		Why:    "it is who runs pwq_release_workfn",
	},
	{
		Kind: ledger.Work, Function: "kernfs_notify_workfn", When: "whether a partition becomes valid or invalid",
		Source: "fs/kernfs/file.c: kernfs_notify(), by cgroup_file_notify()",
		Why:    "it tells who polls or watches cpuset.cpus.partition. The file itself has changed before, and poll(2) promises no time",
	},
	{
		Kind: ledger.Work, Function: "rebuild_sd_workfn", Via: regexp.MustCompile(`^(sugov_|sched_cpufreq_governor_change|cpufreq_)`),
		When:   "whether the governor schedutil sets the frequency of the CPU, and of no other one that is online",
		Source: "kernel/sched/cpufreq_schedutil.c: sugov_eas_rebuild_sd(), before v6.7 sched_cpufreq_governor_change(); CONFIG_ENERGY_MODEL",
		Why:    "it looks anew whether the scheduler can place tasks by the energy that they take. The scheduling domains are right before, and stay as they are",
	},
	{
		Kind: ledger.SMPCall, Function: "__hrtick_start", When: "whether the CPU that a thread is woken on has a time slice to end",
		Source: "kernel/sched/core.c: hrtick_start()",
		Why:    "it starts the timer that ends the time slice of a thread. The thread that was woken is in the ledger itself",
	},
	{
		Kind: ledger.DelayedWork, Function: "*", Via: regexp.MustCompile(`^(mbm_setup_overflow_handler|mbm_handle_overflow|cqm_setup_limbo_handler|cqm_handle_limbo)$`),
		When:   "whether the CPU reads the counters of its cache for resctrl",
		Source: "fs/resctrl/rdtgroup.c, before v6.16 arch/x86/kernel/cpu/resctrl/core.c: resctrl_offline_cpu(), resctrl_online_cpu()",
		Why:    "another CPU of the cache reads them each second from then on, before they overflow",
	},
	{
		Kind: ledger.Work, Function: "blk_mq_run_work_fn", After: Offline, When: "whether requests of the CPU have not been given to the disk yet",
		Source: "block/blk-mq.c: blk_mq_hctx_notify_dead(), by blk_mq_run_hw_queue()",
		Why:    "it gives them to the disk, which promises no time",
	},
	{
		Kind: ledger.Work, Function: "hwlat_hotplug_workfn", Kernels: Span{From: Version{5, 14}}, After: Online, Tracer: "hwlat",
		Source: "kernel/trace/trace_hwlat.c: hwlat_cpu_init(); CONFIG_HWLAT_TRACER",
		Why:    "it starts the tracer's thread on the CPU, if this tracer runs with a thread on each CPU, and else does nothing. Who runs the tracer can tell: for some milliseconds, it does not see the CPU. This is an instance of the kind, and nobody waits for it",
	},
	{
		Kind: ledger.Work, Function: "osnoise_hotplug_workfn", Kernels: Span{From: Version{5, 14}}, After: Online, Tracer: "osnoise",
		Source: "kernel/trace/trace_osnoise.c: osnoise_cpu_init(); CONFIG_OSNOISE_TRACER",
		Why:    "as hwlat_hotplug_workfn",
	},
}

// matches reports whether a deferral is of the entry.
func (k *deferral) matches(d ledger.Deferral) bool {
	named, _ := path.Match(k.Function, d.Function)
	return d.Kind == k.Kind && (named || k.Function == "*") && (k.Via == nil || slices.ContainsFunc(d.Stack, k.Via.MatchString))
}

// deferrals are the entries that apply to the running kernel, and what became
// of them in a run.
type deferrals struct {
	applied    []*appliedDeferral
	operations map[State]int // that were traced, by the state after them
}

// appliedDeferral is an entry, and how often it was true.
type appliedDeferral struct {
	*deferral
	putOff, left int // times
	longest      time.Duration
}

// newDeferrals picks the entries for the running kernel, whose version is v and
// which has these tracers.
func newDeferrals(v Version, tracers []string) deferrals {
	all := deferrals{operations: make(map[State]int)}
	for i := range knownDeferrals {
		k := &knownDeferrals[i]
		if k.Kernels.Has(v) && (k.Tracer == "" || slices.Contains(tracers, k.Tracer)) {
			all.applied = append(all.applied, &appliedDeferral{deferral: k})
		}
	}
	return all
}

// availableTracers returns the tracers that the running kernel has. Its symbols
// would tell as well, but to read all of them takes a second.
func availableTracers(fs *tracefs.FS) ([]string, error) {
	return sysfs.Read(filepath.Join(fs.Dir(), "available_tracers"), func(text string) ([]string, error) {
		return strings.Fields(text), nil
	})
}

// judge returns what an operation has left unfinished and is in no entry, and
// counts the others. after is the state of the CPU.
func (s *deferrals) judge(l *ledger.Ledger, after State) (left []ledger.Deferral) {
	s.operations[after]++
	for _, d := range l.Deferrals {
		i := slices.IndexFunc(s.applied, func(k *appliedDeferral) bool {
			return k.matches(d) && (k.After == 0 || k.After == after)
		})
		switch {
		case i >= 0:
			s.applied[i].count(d)
		case d.Unfinished:
			left = append(left, d)
		}
	}
	return left
}

func (k *appliedDeferral) count(d ledger.Deferral) {
	k.putOff++
	if !d.Unfinished {
		return
	}
	k.left++
	k.longest = max(k.longest, d.Lasted)
	if d.Lasted < 0 {
		k.longest = settleTimeout
	}
}

// enoughOperations is how many operations must not have put off what is known
// before an entry is said to be out of date.
const enoughOperations = 4

// Notes says of each entry how often it was true in the run, and which may be
// out of date.
func (s *deferrals) Notes() []string {
	var notes []string
	for _, k := range s.applied {
		operations := 0
		for after, n := range s.operations {
			if k.After == 0 || k.After == after {
				operations += n
			}
		}
		name := fmt.Sprintf("%s %s", k.Kind, k.Function)
		if k.Via != nil {
			name += " by " + k.Via.String()
		}
		switch {
		case k.left > 0:
			notes = append(notes, fmt.Sprintf("%ssettled: known, and seen: %s was unfinished %d times after %d operations, for at most %v: %s",
				suite.NotePrefix, name, k.left, operations, k.longest, k.Why))
		case k.putOff == 0 && k.When == "" && operations >= enoughOperations:
			notes = append(notes, fmt.Sprintf("%ssettled: known, and not seen: %s was not put off by any of %d operations: is the entry out of date? (%s)",
				suite.NotePrefix, name, operations, k.Source))
		}
	}
	return notes
}
