// Package suspect says which kernel functions a hotplug operation depends on,
// and which of them to delay first.
package suspect

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Kind is why a function is a suspect. A lower one is more suspicious.
type Kind int

// Kinds of suspects.
const (
	// Unfinished is a function that was put off, and was not finished when
	// the operation returned.
	Unfinished Kind = iota
	// Deferred is one that was put off and was finished in time, for which
	// the operation need not have waited.
	Deferred
	// Waker is one that a thread ran that ended a wait of the operation.
	Waker
	// Callback is one of a hotplug state.
	Callback
	// Wait is one in which a thread of the operation waited.
	Wait
)

func (k Kind) String() string {
	return [...]string{"unfinished at the return", "put off", "ends a wait", "callback", "waits"}[k]
}

// A Sighting is one time that a function was seen to run for an operation.
type Sighting struct {
	// Transition is "offline" or "online".
	Transition string
	Kind       Kind
	Function   string
	// Before is how long before the operation's return the function was
	// called, or if it was put off, finished. It is negative if that was
	// later.
	Before time.Duration
	// By is who put it off, ran it or waited for it: a thread's name.
	By string
}

// A Trace is what was seen of the operations on one CPU.
type Trace struct {
	CPU  int
	Seen []Sighting
}

// A Suspect is a function to delay.
type Suspect struct {
	Function string
	// Kind is its most suspicious one, and By who was seen then.
	Kind Kind
	By   string
	// Before is the least time before a return that it was seen.
	Before time.Duration
	// Transitions are those in which it was seen, in order.
	Transitions []string
}

// String returns a text such as "cpuset_hotplug_workfn (put off by cpuhp/3)".
func (s Suspect) String() string { return fmt.Sprintf("%s (%v, %s)", s.Function, s.Kind, s.By) }

// Rank returns the suspects of the sightings, most suspicious first: by kind,
// and then by how close to the return they were seen. What a wait ends with is
// what the operation relies on. A callback is waited for by its caller, except
// if it puts off work in a way that the ledger cannot see.
func Rank(seen []Sighting) []Suspect {
	all := make(map[string]*Suspect)
	for _, s := range seen {
		was := all[s.Function]
		if was == nil {
			was = &Suspect{Function: s.Function, Kind: s.Kind, By: s.By, Before: s.Before}
			all[s.Function] = was
		}
		if s.Kind < was.Kind {
			was.Kind, was.By = s.Kind, s.By
		}
		was.Before = min(was.Before, s.Before)
		if !slices.Contains(was.Transitions, s.Transition) {
			was.Transitions = append(was.Transitions, s.Transition)
		}
	}
	var ranked []Suspect
	for _, name := range slices.Sorted(maps.Keys(all)) {
		slices.Sort(all[name].Transitions)
		ranked = append(ranked, *all[name])
	}
	slices.SortStableFunc(ranked, func(a, b Suspect) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Before, b.Before))
	})
	return ranked
}

// plumbing matches the functions by which threads wait, wake each other, take
// turns and get into the kernel and out of it. A delay of one of them would be
// everybody's.
var plumbing = regexp.MustCompile(`^(` + strings.Join([]string{
	// waiting and waking
	`_*schedule(_.*)?`, `io_schedule.*`, `preempt_schedule.*`, `_*cond_resched.*`, `_*wait_for_co?mm?o?n?.*`, `wait_for_completion.*`,
	`do_wait.*`, `prepare_to_wait.*`, `try_to_wake_up`, `ttwu_.*`, `default_wake_function`, `autoremove_wake_function`,
	`_*wake_up.*`, `wake_q.*`, `wake_up_q`, `swake_up.*`, `complete(_all|_with_flags)?`, `_*mutex_.*`, `rwsem_.*`,
	`(down|up)_(read|write)(_.*)?`, `_*percpu_(down|up)_.*`, `rt_(mutex|spin|read|write)_.*`, `__rt_mutex.*`, `_raw_.*`, `rcuwait_.*`,
	`_*msleep.*`, `usleep.*`, `__wait_rcu_gp`, `wakeme_after_rcu`, `futex.*`, `do_futex`,
	// threads
	`ret_from_fork.*`, `kthread(_parkme|_park|_unpark|_worker_fn)?`, `__kthread_.*`, `worker_thread`, `process_one_work`,
	`process_scheduled_works`, `smpboot_thread_fn`, `cpu_stopper_thread`, `wq_barrier_func`, `irq_thread.*`,
	// idle threads and interrupts
	`(asm_)?sysvec_.*`, `asm_.*`, `_*common_interrupt.*`, `_*do_softirq.*`, `handle_softirqs`, `_*irq_exit.*`, `run_ksoftirqd`,
	`_*flush_smp_call_function.*`, `generic_smp_call_function.*`, `_*sysvec.*`, `cpu_startup_entry`, `do_idle`, `start_secondary`,
	`secondary_startup.*`, `(arch_call_)?rest_init`, `start_kernel`, `x86_64_start_.*`, `common_startup_64`, `default_idle.*`, `arch_cpu_idle.*`, `cpuidle_.*`, `tick_.*`, `_*hrtimer_run_queues.*`, `hrtimer_(interrupt|wakeup)`,
	`_*run_timer.*`, `call_timer_fn`, `process_timeout`, `scheduler_tick`, `sched_tick`, `update_process_times`, `rcu_core.*`, `rcu_do_batch`,
	`(native|pv_native)_safe_halt`, `(acpi|intel|mwait)_idle.*`,
	// the operation's own path, whose steps are the callbacks
	`online_store`, `device_(on|off)line`, `cpu_subsys_(on|off)line`, `cpu_(up|down|device_up|device_down).*`, `_cpu_(up|down)`,
	`__cpu_down_maps_locked`, `cpu_down_maps_locked`, `cpuhp_(kick|invoke|thread|bringup|up|down|issue|set|wait).*`, `__cpuhp_.*`,
	`bringup_.*`, `takedown_cpu`, `do_cpu_(up|down)`, `work_for_cpu_fn`, `work_on_cpu.*`,
	// system calls, files
	`entry_SYSCALL.*`, `do_syscall_.*`, `x64_sys_call`, `__(x64|se)_sys_.*`, `ksys_.*`, `vfs_write`, `new_sync_write`, `kernfs_.*`,
	`sysfs_.*`, `dev_attr_store`, `_*exit_to_user_mode.*`, `irqentry_.*`, `syscall_.*`, `__x64.*`, `0x[0-9a-f]+`,
}, "|") + `)$`)

// Plumbing reports whether a function of that name is not worth a delay.
func Plumbing(function string) bool { return plumbing.MatchString(function) }

// OwnFunctions returns the functions of a stack that are not [Plumbing].
func OwnFunctions(stack []string) []string {
	return slices.DeleteFunc(slices.Clone(stack), Plumbing)
}
