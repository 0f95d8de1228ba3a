package explore

import (
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/suite"
)

// A Known is a finding that is a defect of some kernels. It is counted when it
// shows, and not reduced again.
type Known struct {
	// Key is that of the finding: see [Violation.Key]. With * at its end, it is the
	// beginning of the keys.
	Key string

	// Defect says in which kernels it was seen, and what is seen.
	Defect suite.Defect

	// Row is the test of the suite that shows it, if no sequence does so each
	// time.
	Row string
}

// Has reports whether the key is one of the finding.
func (k Known) Has(key string) bool {
	start, end, any := strings.Cut(k.Key, "*")
	if !any {
		return key == k.Key
	}
	rest, ok := strings.CutPrefix(key, start)
	return ok && strings.HasSuffix(rest, end)
}

// In reports whether the finding is known to be a defect of kernel v.
func (k Known) In(v Version) bool {
	return slices.ContainsFunc(k.Defect.Kernels, func(span suite.Span) bool { return span.Has(v) })
}

// The series of stable kernels that findings were seen in.
var (
	v5_10 = series(5, 10)
	v6_1  = series(6, 1)
	v6_12 = series(6, 12)
	v7_2  = series(7, 2)
	v7_3  = series(7, 3)
)

func series(major, minor int) suite.Span {
	return suite.Span{From: Version{major, minor}, Until: Version{major, minor + 1}}
}

func finding(key, symptom string, in ...suite.Span) Known {
	return Known{Key: key, Defect: suite.Defect{Kernels: in, Symptom: symptom}}
}

func (k Known) shownBy(row string) Known {
	k.Row = row
	return k
}

// known are the findings of the explorer so far. Each has a sequence in
// testdata/findings.
var known = slices.Concat(knownOfTasks, knownOfPartitions, knownOfSiblings, knownOfCaches, knownOfV1)

// sleeperRow has a deadline task sleep on a CPU that goes offline: the steps of a
// sequence rarely do that at the right time.
const sleeperRow = "TestScenario/deadline-ended"

// throttled begins what is seen of a deadline task that has used up its runtime
// when its CPU goes offline.
const throttled = "a deadline task that is throttled while its CPU goes offline, and then is given another class, waits on the offline CPU, and never runs again, not " +
	"even to be killed: "

var knownOfTasks = []Known{
	finding("task-in-cpuset: a CPU that came online, and *",
		"a task that is moved into a cpuset while a CPU is offline that the cpuset has not runs on that CPU once it is online: "+
			"cpuset_attach() does nothing if both cpusets have the same effective CPUs, and a task in the root cpuset keeps offline CPUs in its mask",
		v6_12, v7_2, v7_3),
	finding("task-in-cpuset: a move, and *", "the same, where the CPU is online by then, and is that of an isolated partition", v7_2, v7_3),
	finding("task-has-all: a move, and *",
		"a task that was moved into the root cpuset while a CPU was offline, and then back, has not the CPU once it is online, and its cpuset has: "+
			"the same cpuset_attach()", v6_12, v7_2, v7_3),
	finding("task-in-cpuset: an offline that was refused, and a task in a *",
		"a task in a cpuset of one online CPU may run on all others for good once that CPU was to go offline and was refused: "+
			"cpuset_cpus_allowed_fallback() counts on an update of the cpuset that comes only if the operation succeeds",
		v6_12),
	finding("task-in-cpuset: a task in a root",
		"a partition with a task is valid though the one CPU that it is given is offline, and the task runs on the CPUs of others", v6_1),
	finding("task-in-cpuset: a task in a isolated", "the same in an isolated partition", v6_1),
	finding("kernel-log: warning in cpuset_attach_task",
		"a task is moved whose mask has offline CPUs alone: the move succeeds, and the kernel warns that the mask could not be set", v6_12, v7_2, v7_3),
	finding("survives: crash in inactive_task_timer",
		"a deadline task that sleeps, and that has ended or was given another class, while the CPU is offline that it ran on last: "+
			"dl_bw_cpus() of that CPU is 0, and the kernel divides by it", v5_10, v6_1, v6_12, v7_2, v7_3).shownBy(sleeperRow),
	finding("kernel-log: warning in dl_server_start", throttled+"the kernel warns as it starts the deadline server there", v6_12, v7_2, v7_3),
	finding("kernel-log: warning in native_smp_send_reschedule", throttled+"the kernel warns as it sends an interrupt there", v7_2, v7_3),
	finding("deadline-admitted: the online CPUs",
		"a deadline task that sleeps, and ran last on a CPU that is offline, is not counted, and the last CPU goes that it needs: dl_add_task_root_domain() "+
			"adds it to the root domain of that CPU, which has none", v6_1, v6_12),
	finding("survives: crash in set_cpus_allowed_dl",
		"a deadline task that sleeps is moved to a cpuset with other CPUs while the CPU is offline that it ran on last: the same division", v5_10, v6_1, v6_12, v7_2),
}

// halfTaken begins what is seen of a partition that becomes valid while CPUs of
// its are offline: the kernel takes only those from its parent that are online.
const halfTaken = "a partition has become valid as another CPU came online, and a CPU of its comes online then: "

// partly begins what is seen of an isolated partition that was given some of its
// CPUs alone, as a sibling had the others.
const partly = "an isolated partition that has some of its CPUs, as a sibling had the others, takes those that the sibling has given back once its last one " +
	"goes offline: "

const emptyReason = "a cpuset without CPUs that is made a partition below one that is none, and is given CPUs then, is invalid for the reason that it has none"

// lastOfRoot begins what is seen of a partition when the last CPU goes offline
// that the root cpuset has kept.
const lastOfRoot = "the root cpuset takes a partition's CPUs as its own last one goes offline, and the partition stays a valid one: "

var knownOfPartitions = []Known{
	finding("partitions-disjoint: root partition and the root cpuset", lastOfRoot+"both have them", v5_10),
	finding("partitions-disjoint: root partition and member", lastOfRoot+"so do cpusets that have the root's", v5_10),
	finding("kernel-log: warning in process_one_work",
		"workers that belong to one CPU are moved off it when a partition takes it, as all tasks of the root cpuset are: the row kernel-threads shows it too", v5_10),
	finding("domains: isolated partition is load-balanced, after a write to it",
		"a cpuset that is given its CPUs after it was made an isolated partition says that it is valid, and is load-balanced with the others", v6_1),
	finding("domains: the root cpuset is balanced with CPUs of others, after a write to another cpuset",
		"the other side of an isolated partition that is load-balanced: the root cpuset's CPUs are balanced with the isolated one", v6_1),
	finding("domains: the root cpuset is load-balanced, after a write to another cpuset",
		"the root cpuset is load-balanced though it has one CPU left, which is then balanced with one of another cpuset", v6_1),
	finding("partitions-disjoint: isolated partition and *, after a write to it",
		"an isolated partition of CPUs that are all offline: it says that it is valid, and has the CPUs of the root cpuset", v6_1),
	finding("domains: root partition is load-balanced, after a write to it",
		"a partition of one CPU that is given it after it was made a partition is load-balanced with others", v6_1),
	finding("domains: root partition is balanced with CPUs of others, after a write to it", "the same of several CPUs", v6_1),
	finding("domains: root partition is load-balanced, after a write to another cpuset", "the partition above such a one, which has one CPU left", v6_1),
	finding("domains: root partition is balanced with CPUs of others, after a write to another cpuset", "the same, where it has several CPUs left", v6_1),
	finding("partitions-cover: an online CPU, after a write to another cpuset",
		"the CPUs of a partition that is given an empty cpuset.cpus are in no cpuset any more, for good", v6_1),
	finding("there-and-back: cpuset.cpus.effective, cpuset.cpus.partition, schedstat#cpuN",
		"a partition that was invalid as it wanted all CPUs of its parent stays so when it wants fewer, until a CPU goes and comes", v6_1),
	finding("member-effective: a member below the root, after a write to it",
		"a partition whose CPUs are all offline that is made a member has no CPU, where it should have its parent's", v6_1),
	finding("partitions-disjoint: root partition and *, after a write to it",
		"a cpuset that is given its CPUs after it was made a partition, or whose CPUs are all offline, is a valid one, and other cpusets have its CPUs as well",
		v6_1),
	finding("partitions-disjoint: root partition and *, after a write to another cpuset",
		"a partition whose CPUs are all offline is a valid one, and has those of others once a sibling is written to", v6_1),
	finding("partitions-disjoint: root partition and isolated invalid",
		"a partition whose CPUs the root cpuset took as its own last one went is valid again as another CPU comes online, and a cpuset that "+
			"the kernel has looked at before it then keeps its CPUs: cpuset_hotplug_workfn() looks at each once", v6_1),
	finding("domains: the root cpuset is not load-balanced, after a write to another cpuset",
		"an isolated partition that gives CPUs up: they are the root cpuset's again, and are not load-balanced. "+
			"update_cpumasks_hier() rebuilds the scheduling domains only for a cpuset that is balanced itself", v6_1),
	finding("partitions-disjoint: root partition and *, after a write to it",
		"an invalid partition becomes a valid one as its parent does, of CPUs that the parent or another one below it keeps", v6_12, v7_3),
	finding("kernel-log: warning in partition_xcpus_del",
		"a warning in partition_xcpus_del() when fewer CPUs are written to the cpuset.cpus.exclusive of a partition that wanted all of them", v6_12, v7_2, v7_3),
	finding("survives: crash in select_fallback_rq",
		"the last CPU goes offline that no isolated partition has, and a task wakes up there: select_fallback_rq() gives it the CPUs of the housekeeping mask, "+
			"which isolated partitions are not in, finds none of them online, and is a BUG()", v7_2, v7_3),
	finding("survives: crash in partition_sched_domains",
		"a suspend that takes all other CPUs offline is a NULL pointer's page fault if CPU 0 is in an isolated partition", v7_2, v7_3),
	finding("kernel-log: warning in update_prstate",
		"a warning in update_prstate() when a cpuset is made a partition of which all CPUs are offline that no sibling claims", v7_2, v7_3),
	finding("undone: cpuset.cpus.effective, schedstat#cpuN",
		"what becomes of a partition of which all CPUs are offline: the root cpuset does not get the CPU back when it is removed, and once online again "+
			"it is in no partition and no scheduling domain", v7_2, v7_3),
	finding("invalid-reason: for no reason",
		"a partition is invalid, and no reason is given, when the last CPU of its parent, or its own, goes offline", v7_2, v7_3),
	finding("kernel-log: warning in update_parent_effective_cpumask",
		"a warning when the last CPU of the root cpuset that no partition has goes offline: cpuset_handle_hotplug() sets the number of partitions to 0, and each that becomes invalid takes one from it", v6_12),
	finding("refused-changes-nothing: online: cpuset.cpus.effective, cpuset.cpus.isolated, cpuset.cpus.partition, schedstat#cpuN",
		"an offline that fails, of the last CPU that no partition has, leaves a partition invalid: to become valid again it would have to "+
			"have CPUs that no sibling has in its cpuset.cpus, and to become valid at first it had not", v7_2),
	finding("invalid-reason: for the reason cpuset.cpus and cpuset.cpus.exclusive are empty", emptyReason, v6_12, v7_2, v7_3),
	finding("invalid-reason: for the reason cpuset.cpus is empty", emptyReason, v6_1),
	finding("isolated-list: a CPU of an isolated partition is not in the list",
		"an isolated partition that becomes valid as a CPU comes online: cpuset.cpus.isolated has those of its CPUs alone that are online", v6_12, v7_2, v7_3),
	finding("kernel-log: warning in rebuild_sched_domains_locked", halfTaken+"the kernel warns that they overlap", v6_12, v7_2, v7_3),
	finding("partitions-disjoint: root partition and the root cpuset", halfTaken+"the root cpuset has the CPU as well", v6_12, v7_2, v7_3),
	finding("partitions-disjoint: root partition and member", halfTaken+"so have cpusets that have the root's CPUs", v6_12, v7_2, v7_3),
	finding("domains: root partition is not load-balanced", halfTaken+"it is not load-balanced any more", v6_12),
	finding("domains: the root cpuset is balanced with CPUs of others", halfTaken+"both are balanced with it", v7_2, v7_3),
	finding("partitions-disjoint: isolated partition and the root cpuset", partly+"the root cpuset keeps them", v7_2, v7_3),
	finding("partitions-disjoint: isolated partition and member", partly+"so do cpusets that have the root's", v7_2, v7_3),
	finding("partitions-disjoint: isolated partition and root invalid", partly+"so do those that want to be partitions", v7_2, v7_3),
	finding("partitions-disjoint: isolated partition and *, after a write to another cpuset", partly+"the same, where one step does both", v7_2, v7_3),
	finding("domains: isolated partition is load-balanced", partly+"they are still load-balanced", v7_2, v7_3),
	finding("domains: isolated partition is load-balanced, after a write to another cpuset", partly+"the same, where one step does both", v7_2, v7_3),
	finding("isolated-list: a CPU of no isolated partition is in the list",
		"a CPU of an isolated partition stays in cpuset.cpus.isolated for good, though all cpusets are removed, when the partition above it is made a member",
		v6_12, v7_2, v7_3),
	finding("undone: cpuset.cpus.isolated", "the same, once all cpusets are removed", v6_12, v7_2, v7_3),
}

// invalidated begins what is seen of a partition of which CPUs are written to the
// cpuset.cpus of a sibling.
const invalidated = "a partition that a write to the cpuset.cpus of a sibling has made invalid: "

// knownOfSiblings are what becomes of such a partition.
var knownOfSiblings = []Known{
	finding("invalid-reason: for no reason", invalidated+"its cpuset.cpus.partition gives no reason", v6_12),
	finding("domains: the root cpuset is not balanced with all its CPUs, after a write to another cpuset",
		invalidated+"its CPUs are the root cpuset's again, and are not balanced with the others: the scheduling domains are not rebuilt", v6_1, v6_12),
	finding("domains: the root cpuset is not load-balanced, after a write to another cpuset", invalidated+"where it was an isolated one, its CPUs are not load-balanced", v6_12),
	finding("undone: schedstat#cpuN", invalidated+"the scheduling domains stay as they are, though all cpusets are removed", v6_1, v6_12),
	finding("partitions-cover: an online CPU, after a write to another cpuset",
		invalidated+"its CPU is in no cpuset any more, nor in the root's, when it is given another one then", v6_12),
	finding("member-effective: a member below the root, after a write to another cpuset", invalidated+"a cpuset beside both does not get its CPUs back", v6_1),
}

var knownOfCaches = []Known{
	finding("topology: cache/index3/shared_cpu_list with CPUs that have another cache by its id",
		"on an AMD processor without TOPOEXT, the list of the CPUs that share the L3 cache keeps one that goes offline", v6_1, v6_12, v7_2, v7_3),
}

var knownOfV1 = []Known{
	finding("balanced-cpusets: after a cpuset gave up its CPUs: *",
		"the CPUs that a cpuset of cgroup v1 has given up are still balanced: update_cpumasks_hier() rebuilds the scheduling domains "+
			"only for a cpuset that has CPUs left", v5_10, v6_1),
	finding("balanced-cpusets: after a cpuset was made that has CPUs: *",
		"the CPUs that a cpuset of cgroup v1 has from its parent, by cgroup.clone_children, are not balanced: cpuset_css_online() "+
			"does not rebuild the scheduling domains", v5_10, v6_1),
}

// KnownFindings returns all findings that are known.
func KnownFindings() []Known { return slices.Clone(known) }

// KnownIn returns the findings that are known to be defects of kernel v.
func KnownIn(v Version) []Known {
	return slices.DeleteFunc(KnownFindings(), func(k Known) bool { return !k.In(v) })
}

// IsKnown reports whether a key is one of the findings.
func IsKnown(findings []Known, key string) bool {
	return slices.ContainsFunc(findings, func(k Known) bool { return k.Has(key) })
}
