//go:build !selftest

package hotplugtest

import (
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/suite"
)

func TestKnownDeferrals(t *testing.T) {
	for _, k := range knownDeferrals {
		assert.NotEmpty(t, k.Kind)
		assert.NotEmpty(t, k.Source, k.Function)
		assert.NotEmpty(t, k.Why, k.Function)
		_, err := path.Match(k.Function, "")
		assert.NoError(t, err, k.Function)
	}
}

// settledOn returns the deferrals of a kernel.
func settledOn(v Version) *deferrals {
	s := newDeferrals(v, []string{"hwlat", "nop"})
	return &s
}

func left(kind ledger.Kind, function string, stack ...string) ledger.Deferral {
	return ledger.Deferral{
		Kind: kind, Function: function, QueuedBy: "cpuhp/3", Context: "cpuhp/3", Stack: stack, Unfinished: true, Lasted: 2 * time.Millisecond,
	}
}

// What is in the table is no failure. All else is, and of the same kind too.
func TestDeferralsJudge(t *testing.T) {
	known := []ledger.Deferral{
		left(ledger.DelayedWork, "kfree_rcu_monitor"), left(ledger.Thread, "ksoftirqd/3"), left(ledger.Thread, "rcu_preempt"), left(ledger.Thread, "rcuog/0", "__call_rcu_nocb_wake"),
		left(ledger.Thread, "idle_inject/3", "try_to_wake_up", "smpboot_unpark_threads"),
		left(ledger.Thread, "any/thing", "kthread_unpark"), left(ledger.Thread, "cpuhp/3", "try_to_wake_up", "cpuhp_bringup_ap", "cpuhp_invoke_callback"),
		left(ledger.DelayedWork, "", "enqueue_timer", "queue_delayed_work_on", "psi_task_change", "try_to_wake_up"),
		left(ledger.DelayedWork, "", "enqueue_timer", "queue_delayed_work_on", "kvfree_call_rcu", "__netif_set_xps_queue"),
		left(ledger.Work, "rebuild_sd_workfn", "queue_work_on", "sugov_init", "cpufreq_set_policy", "cpufreq_online"),
	}
	unknown := []ledger.Deferral{
		left(ledger.Work, "cpuset_hotplug_workfn", "queue_work_on", "sched_cpu_activate"),
		left(ledger.Work, "rebuild_sd_workfn", "queue_work_on", "cpuset_handle_hotplug", "sched_cpu_activate"),
		left(ledger.Work, "kfree_rcu_monitor"), left(ledger.Thread, "idle_inject/3", "wake_up_process"), left(ledger.Thread, "cpuhp/3"),
		left(ledger.DelayedWork, "", "enqueue_timer", "queue_delayed_work_on", "sched_cpu_activate"),
	}
	for _, v := range []Version{{5, 10}, {6, 1}, {7, 2}} {
		got := settledOn(v).judge(&ledger.Ledger{Deferrals: append(known, unknown...)}, Online)
		assert.Equal(t, unknown, got, "%v", v)
	}
	hwlat := left(ledger.Work, "hwlat_hotplug_workfn", "hwlat_cpu_init")
	osnoise := left(ledger.Work, "osnoise_hotplug_workfn", "osnoise_cpu_init")
	got := settledOn(Version{6, 1}).judge(&ledger.Ledger{Deferrals: []ledger.Deferral{hwlat, osnoise}}, Online)
	assert.Equal(t, []ledger.Deferral{osnoise}, got, "this kernel has no such tracer")
	finished := left(ledger.Work, "f")
	finished.Unfinished = false
	assert.Empty(t, settledOn(Version{6, 1}).judge(&ledger.Ledger{Deferrals: []ledger.Deferral{finished}}, Online))
}

// The run says what it saw of the table, and what may be out of date.
func TestDeferralsNotes(t *testing.T) {
	s := settledOn(Version{5, 10})
	for n := range 5 {
		var l ledger.Ledger
		if n == 0 {
			l.Deferrals = []ledger.Deferral{left(ledger.DelayedWork, "kfree_rcu_monitor")}
		}
		s.judge(&l, Online)
	}
	notes := strings.Join(s.Notes(), "\n")
	assert.Contains(t, notes, "note: settled: known, and seen: delayed work kfree_rcu_monitor was unfinished 1 times after 5 operations, for at most 2ms: it frees memory")
	assert.NotContains(t, notes, "ksoftirqd", "it need not happen")

	unseen := settledOn(Version{5, 10})
	for range 5 {
		unseen.judge(&ledger.Ledger{}, Online)
	}
	assert.Contains(t, strings.Join(unseen.Notes(), "\n"),
		"note: settled: known, and not seen: delayed work kfree_rcu_monitor was not put off by any of 5 operations: is the entry out of date? (kernel/rcu/tree.c")

	few := settledOn(Version{5, 10})
	few.judge(&ledger.Ledger{}, Online)
	assert.Empty(t, few.Notes(), "one operation says nothing")
}

// The failure says what, who, from where, for how long, and who could tell.
func TestUnfinished(t *testing.T) {
	d := left(ledger.Work, "cpuset_hotplug_workfn", "__queue_work", "queue_work_on", "sched_cpu_activate")
	never := left(ledger.Work, "g", "queue_work_on")
	never.Lasted = -1
	err := unfinished([]ledger.Deferral{d, never})
	assert.EqualError(t, err, `work cpuset_hotplug_workfn, queued by cpuhp/3, unfinished at the return for 2ms
from __queue_work <- queue_work_on <- sched_cpu_activate
rows that could see it: affinity, runs, getaffinity, effective, partition
work g, queued by cpuhp/3, unfinished at the return and not finished since
from queue_work_on
rows that could see it: none yet: is there a promise that it breaks?`)
	var lasting *suite.LastingError
	require.True(t, errors.As(err, &lasting))
	assert.Equal(t, time.Duration(-1), lasting.Window)
	require.True(t, errors.As(unfinished([]ledger.Deferral{never, d}), &lasting))
	assert.Equal(t, time.Duration(-1), lasting.Window)
	require.True(t, errors.As(unfinished([]ledger.Deferral{d}), &lasting))
	assert.Equal(t, 2*time.Millisecond, lasting.Window)
}

// Each row that a failure names is one.
func TestObservers(t *testing.T) {
	names := make(map[string]bool)
	for _, inv := range invariants {
		names[inv.Name] = true
	}
	for _, sc := range scenarios {
		names["TestScenario/"+sc.Name] = true
	}
	for _, o := range observers {
		for row := range strings.SplitSeq(o.rows, ", ") {
			assert.True(t, names[row], row)
		}
	}
	assert.Equal(t, "cache", rowsFor(left(ledger.Work, "f", "queue_work_on", "cacheinfo_cpu_online")))
}
