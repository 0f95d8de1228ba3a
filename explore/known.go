package explore

import (
	"strings"

	"github.com/hotplugtest/hotplugtest/suite"
)

// A Known is a finding that is a defect of some kernels. It is counted when it
// shows, and not reduced again.
type Known struct {
	// Key begins the keys of the finding: see [Violation.Key].
	Key string

	// Defect says in which kernels it was seen, and what is seen.
	Defect suite.Defect
}

// known are the findings of the explorer so far. Each has a sequence in
// testdata/findings.
var known = []Known{
	{"task-in-cpuset: a CPU that came online, and ", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 3}}},
		Symptom: "a task that is moved into a cpuset while a CPU is offline that the cpuset has not runs on that CPU once it is online: " +
			"cpuset_attach() does nothing if both cpusets have the same effective CPUs, and a task in the root cpuset keeps offline CPUs in its mask",
	}},
	{"domains: isolated partition is load-balanced", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "a cpuset that is given its CPUs after it was made an isolated partition says that it is valid, and is load-balanced with the others",
	}},
	{"domains: the root cpuset is balanced with CPUs of others", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "the other side of that: the root cpuset's CPUs are balanced with the isolated one",
	}},
	{"partitions-disjoint: isolated partition and ", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "the same when all of those CPUs are offline: the partition that says it is valid has the CPUs of the root cpuset",
	}},
	{"kernel-log: warning in partition_xcpus_del", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 12}, Until: Version{6, 13}}, {From: Version{7, 2}, Until: Version{7, 3}}},
		Symptom: "a warning in partition_xcpus_del() when fewer CPUs are written to the cpuset.cpus.exclusive of a partition that wanted all of them",
	}},
	{"kernel-log: warning in update_prstate", suite.Defect{
		Kernels: []suite.Span{{From: Version{7, 2}, Until: Version{7, 3}}},
		Symptom: "a warning in update_prstate() when a cpuset is made a partition of which all CPUs are offline that no sibling claims",
	}},
	{"undone: cpuset.cpus.effective, schedstat#cpuN", suite.Defect{
		Kernels: []suite.Span{{From: Version{7, 2}, Until: Version{7, 3}}},
		Symptom: "what becomes of that: the root cpuset does not get the CPU back when the partition is removed, and once online again " +
			"it is in no partition and no scheduling domain",
	}},
	{"invalid-reason: for no reason", suite.Defect{
		Kernels: []suite.Span{{From: Version{7, 2}, Until: Version{7, 3}}},
		Symptom: "a partition is invalid, and no reason is given, when the last CPU of its parent goes offline",
	}},
	{"invalid-reason: for the reason cpuset.cpus ", suite.Defect{
		Kernels: []suite.Span{{From: Version{6, 1}, Until: Version{6, 2}}, {From: Version{6, 12}, Until: Version{6, 13}}},
		Symptom: "a cpuset without CPUs that is made a partition below one that is none, and is given CPUs then, is invalid for the reason that it has none",
	}},
	{"balanced-cpusets: after a cpuset gave up its CPUs: ", suite.Defect{
		Kernels: []suite.Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "the CPUs that a cpuset of cgroup v1 has given up are still balanced: update_cpumasks_hier() rebuilds the scheduling domains " +
			"only for a cpuset that has CPUs left",
	}},
	{"balanced-cpusets: after a cpuset was made that has CPUs: ", suite.Defect{
		Kernels: []suite.Span{{From: Version{5, 10}, Until: Version{5, 11}}, {From: Version{6, 1}, Until: Version{6, 2}}},
		Symptom: "the CPUs that a cpuset of cgroup v1 has from its parent, by cgroup.clone_children, are not balanced: cpuset_css_online() " +
			"does not rebuild the scheduling domains",
	}},
}

// KnownIn returns the findings that are known to be defects of kernel v.
func KnownIn(v Version) []Known {
	var all []Known
	for _, k := range known {
		for _, span := range k.Defect.Kernels {
			if span.Has(v) {
				all = append(all, k)
				break
			}
		}
	}
	return all
}

// explained reports whether one of the findings is known to have the key.
func explained(all []Known, key string) bool {
	for _, k := range all {
		if strings.HasPrefix(key, k.Key) {
			return true
		}
	}
	return false
}
