package explore

import (
	"fmt"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

var invalidLaws = []Law{
	{
		Name: "invalid-reason",
		Text: "a partition is invalid for the reason that its cpuset.cpus.partition names, and no longer than that",
		Source: cgroupDoc + ", cpuset.cpus.partition: \"In the case of an invalid partition root, a descriptive string on why the partition is invalid is " +
			"included within parentheses\"; \"External events like hotplug [...] can cause a valid partition root to become invalid and vice versa\"",
		Since:  Version{6, 1},
		Cgroup: 2,
		State:  true,
		Check:  checkInvalid,
	},
	{
		Name: "isolated-workqueues",
		Text: "the workqueues' cpumask_isolated has the CPUs of the isolated partitions",
		Source: cgroupDoc + ", cpuset.cpus.partition: \"When set to isolated, the CPUs in that partition will be [...] excluded from the unbound workqueues\"; " +
			"kernel/workqueue.c: workqueue_unbound_exclude_cpumask()",
		Since:  Version{6, 8},
		Lags:   true,
		Cgroup: 2,
		State:  true,
		Check:  checkWorkqueues,
	},
}

// invalid reports whether the cpuset is an invalid partition, and returns the
// reason that is given.
func (g Group) invalid() (reason string, ok bool) {
	kind, rest, ok := strings.Cut(g.Partition(), " invalid")
	if !ok || kind != "root" && kind != "isolated" {
		return "", false
	}
	return strings.Trim(rest, " ()"), true
}

func checkInvalid(c *Case) []Violation {
	var broken []Violation
	for _, g := range c.After.All() {
		reason, ok := g.invalid()
		if !ok {
			continue
		}
		why, keys := notSo(c, g, reason)
		if why == "" {
			continue
		}
		touches := "for the reason " + reason
		if reason == "" {
			touches = "for no reason"
		}
		broken = append(broken, Violation{
			Touches: touches,
			Seen:    fmt.Sprintf("%s is %q, but %s", g.Key("partition"), g.Partition(), why),
			Facts:   c.After.facts(append([]Key{g.Key("partition")}, keys...)...),
		})
	}
	return broken
}

// notSo says why the reason of an invalid partition is none, and by which
// readings; "" if it may be one. What takes a walk through all cpusets to be
// judged may be one: that the CPUs are not exclusive, or that the parent cannot
// give them away.
func notSo(c *Case, g Group, reason string) (why string, keys []Key) {
	parent := g.Parent()
	switch reason {
	case "":
		return "no reason is given", nil
	case "Parent is not a partition root", "Parent is an invalid partition root":
		if parent.Valid() {
			return fmt.Sprintf("its parent %s is a valid one", parent.Name), []Key{parent.Key("partition")}
		}
	case "cpuset.cpus is empty", "cpuset.cpus and cpuset.cpus.exclusive are empty":
		if !g.CPUs().Empty() {
			return fmt.Sprintf("its cpuset.cpus is %v", g.CPUs()), []Key{g.Key("")}
		}
	case "No cpu available due to hotplug":
		if !g.wants().Empty() && c.After.List(cpuDir+"offline").Empty() {
			return "all its CPUs are online", []Key{g.Key(""), g.Key("exclusive"), onlineKey}
		}
	}
	return "", nil
}

// wants returns the CPUs that a partition asks for.
func (g Group) wants() affinity.CPUSet {
	return g.CPUs().Union(g.snap.List(g.Key("exclusive")))
}

const workqueuesKey = Key(workqueueDir + "cpumask_isolated")

func checkWorkqueues(c *Case) []Violation {
	if !c.After.Has(workqueuesKey) || !c.After.Has(isolatedKey) {
		return nil
	}
	// By isolcpus=, it may have others at first.
	atBoot := parseMask(c.Base.Readings[workqueuesKey])
	want := c.After.List(isolatedKey).Union(atBoot)
	got := parseMask(c.After.Readings[workqueuesKey])
	if got.Union(atBoot).Equal(want) {
		return nil
	}
	touches := "a CPU of an isolated partition is not in it"
	if !got.Difference(want).Empty() {
		touches = "a CPU of no isolated partition is in it"
	}
	return []Violation{{
		Touches: touches,
		Seen:    fmt.Sprintf("%s has %q, and the isolated partitions have %q", workqueuesKey, got, want),
		Facts:   c.After.facts(workqueuesKey, isolatedKey),
	}}
}
