package suspect_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestRank(t *testing.T) {
	const ms = time.Millisecond
	seen := []suspect.Sighting{
		{Transition: "online", Kind: suspect.Wait, Function: "waits", Before: 9 * ms, By: "test"},
		{Transition: "online", Kind: suspect.Callback, Function: "early", Before: 50 * ms, By: "cpuhp/3"},
		{Transition: "online", Kind: suspect.Callback, Function: "late", Before: 2 * ms, By: "cpuhp/3"},
		{Transition: "online", Kind: suspect.Deferred, Function: "work", Before: 5 * ms, By: "cpuhp/3"},
		{Transition: "offline", Kind: suspect.Unfinished, Function: "work", Before: -4 * ms, By: "the write"},
		{Transition: "online", Kind: suspect.Deferred, Function: "work", Before: 6 * ms, By: "cpuhp/3"},
		{Transition: "online", Kind: suspect.Callback, Function: "waker", Before: 1 * ms, By: "cpuhp/3"},
		{Transition: "online", Kind: suspect.Waker, Function: "waker", Before: 8 * ms, By: "migration/3"},
	}
	want := []suspect.Suspect{
		{Function: "work", Kind: suspect.Unfinished, By: "the write", Before: -4 * ms, Transitions: []string{"offline", "online"}},
		{Function: "waker", Kind: suspect.Waker, By: "migration/3", Before: 1 * ms, Transitions: []string{"online"}},
		{Function: "late", Kind: suspect.Callback, By: "cpuhp/3", Before: 2 * ms, Transitions: []string{"online"}},
		{Function: "early", Kind: suspect.Callback, By: "cpuhp/3", Before: 50 * ms, Transitions: []string{"online"}},
		{Function: "waits", Kind: suspect.Wait, By: "test", Before: 9 * ms, Transitions: []string{"online"}},
	}
	assert.Equal(t, want, suspect.Rank(seen))
	assert.Empty(t, suspect.Rank(nil))
	assert.Equal(t, "work (unfinished at the return, the write)", want[0].String())
}

// Stacks of kernels 5.10 to 7.2, innermost function first.
func TestOwnFunctions(t *testing.T) {
	for stack, want := range map[string]string{
		"try_to_wake_up swake_up_locked.part.0 complete cpuhp_thread_fun smpboot_thread_fn kthread ret_from_fork":                                  "",
		"try_to_wake_up __wake_up_common __wake_up wq_barrier_func process_one_work worker_thread kthread ret_from_fork_asm":                       "",
		"schedule schedule_timeout __wait_for_common wait_for_completion __wait_rcu_gp synchronize_rcu sched_cpu_deactivate cpuhp_invoke_callback": "synchronize_rcu sched_cpu_deactivate",
		"__schedule schedule schedule_timeout wait_for_common __flush_work cpuset_wait_for_hotplug _cpu_up cpu_up online_store dev_attr_store":     "__flush_work cpuset_wait_for_hotplug",
		"wake_up_process cpu_stop_signal_done cpu_stopper_thread smpboot_thread_fn":                                                                "cpu_stop_signal_done",
		"kernfs_fop_write_iter new_sync_write vfs_write ksys_write do_syscall_64 entry_SYSCALL_64_after_hwframe x64_sys_call __x64_sys_write":      "",
		"schedule_preempt_disabled __mutex_lock.constprop.0 mutex_lock cpus_read_lock":                                                             "cpus_read_lock",
	} {
		assert.Equal(t, want, strings.Join(suspect.OwnFunctions(strings.Fields(stack)), " "), stack)
	}
}
