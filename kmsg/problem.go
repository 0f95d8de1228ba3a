package kmsg

import "regexp"

// problems are the records by which the kernel complains of itself. All are in
// the words of Linux 5.10 to 7.3.
//
// What a slow, emulated or merely busy machine is told of is not among them: a
// clocksource that is marked unstable, timer interrupts that took long, RT
// tasks that are throttled.
var problems = []struct {
	kind string
	text *regexp.Regexp
}{
	{"warning", regexp.MustCompile(`^-+\[ cut here \]-+|^WARNING: `)},
	{"lockup", regexp.MustCompile(`soft lockup - |hard LOCKUP|BUG: workqueue lockup`)},
	{"bug", regexp.MustCompile(`^(watchdog: )?BUG: |kernel BUG at `)},
	{"oops", regexp.MustCompile(`^Oops\b|\[#\d+\]|^Internal error: |^Unable to handle kernel |^Kernel panic - `)},
	{"hung task", regexp.MustCompile(`^INFO: task .* blocked (for more than|in I/O wait for more than|on a)`)},
	{"RCU stall", regexp.MustCompile(`rcu.*detected (expedited )?stall|rcu.* kthread (starved for|timer wakeup didn't happen for)`)},
	{"lock", regexp.MustCompile(`^INFO: (possible recursive locking|trying to register non-static key)|^DEBUG_LOCKS_WARN_ON`)},
	// arch/*/kernel/smp*.c, kernel/cpu.c, arch/x86/kernel/apic/vector.c,
	// kernel/irq/cpuhotplug.c
	{"CPU hotplug", regexp.MustCompile(`CPU ?#?\d+:? (failed to |didn't die|did not die|is stuck in|may not have shut down|disable failed|not responding)|` +
		`do_boot_cpu failed|Error taking CPU\d+ |IRQ\d+: set affinity failed`)},
	// Whatever else is bad enough to show one.
	{"backtrace", regexp.MustCompile(`^Call [Tt]race:`)},
}

// unmovable matches what migrate_one_irq() says of an interrupt that its
// controller cannot move, such as a line that several MSIs share: EINVAL or
// ENOSYS. That is no fault, and nothing is said of it since MSI_FLAG_NO_AFFINITY.
var unmovable = regexp.MustCompile(`^IRQ\d+: set affinity failed\(-(22|38)\)`)

// shortage matches what begins a report of memory that is short. It has a
// backtrace, and the kernel complains of those who use the memory: dump_header()
// of mm/oom_kill.c, warn_alloc() of mm/page_alloc.c.
var shortage = regexp.MustCompile(`invoked oom-killer: |: page allocation (failure|stall)`)

// shortageHead is how many records may be between its first and its backtrace.
// There are three.
const shortageHead = 10

// A Judge tells the kernel's complaints about itself as [Record.Problem] does,
// of records that are given in the order of the log. It knows the backtraces
// that are of no complaint: those of a report that memory is short. The zero
// value is ready for use.
type Judge struct {
	reports int // whose backtrace is to come: several CPUs can be short at once
	head    int // records that may still come before it
}

// Problem returns what kind of complaint the record is, or "".
func (j *Judge) Problem(r Record) string {
	problem := r.Problem()
	switch {
	case r.Facility != 0:
	case shortage.MatchString(r.Text):
		j.reports++
		j.head = j.reports * shortageHead
	case problem == "backtrace" && j.reports > 0:
		j.reports--
		return ""
	case j.head > 1:
		j.head--
	default:
		*j = Judge{}
	}
	return problem
}

// Problem returns what kind of complaint of the kernel about itself the record
// is, such as "warning" or "RCU stall", or "" if it is none. What others write
// to /dev/kmsg is none, whatever it says.
func (r Record) Problem() string {
	if r.Facility != 0 || unmovable.MatchString(r.Text) {
		return ""
	}
	for _, t := range problems {
		if t.text.MatchString(r.Text) {
			return t.kind
		}
	}
	return ""
}
