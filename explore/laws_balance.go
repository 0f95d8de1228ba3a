package explore

import (
	"fmt"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// balanceLaw is about the scheduling domains that cpusets of cgroup v1 ask for.
var balanceLaw = Law{
	Name: "balanced-cpusets",
	Text: "the CPUs of a cpuset whose cpuset.sched_load_balance is 1 are in one scheduling domain, with those of others that overlap it and have a 1 too; " +
		"other CPUs are in none",
	Source: cpusetsDoc + ", 1.7: \"If a cpuset enables the flag, it will get balancing across all its CPUs, but if it disables the flag, it will only be " +
		"assured of no load balancing if no other overlapping cpuset enables the flag\"; 1.7.1: the kernel \"will pick as fine a granularity partition " +
		"of sched domains as it can\", and rebuilds them when \"CPUs come or go from a cpuset with this flag enabled\"",
	Cgroup: 1,
	Check:  checkBalance,
}

func checkBalance(c *Case) []Violation {
	// If the root does not balance all CPUs, cpusets of others may balance some.
	if c.Base.Readings[balanceKey] != "1" {
		return nil
	}
	sets, facts := toBalance(c.After)
	possible := balanced(c.Base)
	for cpu := range c.After.Online().Intersect(possible).All() {
		key := keysOf(cpu).domains
		if !c.After.Has(key) {
			continue
		}
		var want affinity.CPUSet
		for _, set := range sets {
			if set = set.Intersect(possible); set.Has(cpu) && set.Count() > 1 {
				want = set
			}
		}
		if got := c.After.masks(key); !got.Equal(want) {
			return []Violation{{
				Touches: c.afterWhat() + balanceTouches(got, want),
				Seen:    fmt.Sprintf("CPU %d is balanced with %q, want %q", cpu, got, want),
				Facts:   append(facts, c.After.facts(key)...),
			}}
		}
	}
	return nil
}

// toBalance returns the sets of CPUs that must be balanced, no two of which
// overlap, and the readings that say so.
func toBalance(s *Snapshot) (sets []affinity.CPUSet, facts []Fact) {
	for _, g := range s.All() {
		facts = append(facts, s.facts(g.File(balanceFile), g.Key(""))...)
		set := g.CPUs()
		if !g.flag(balanceFile) || set.Empty() {
			continue
		}
		var apart []affinity.CPUSet
		for _, other := range sets {
			if other.Intersect(set).Empty() {
				apart = append(apart, other)
			} else {
				set = set.Union(other)
			}
		}
		sets = append(apart, set)
	}
	return sets, facts
}

// afterWhat says what has happened to a cpuset that is to be balanced, if its
// CPUs came or went as a whole.
func (c *Case) afterWhat() string {
	for _, g := range c.After.All() {
		was := c.Before.Group(g.Name)
		switch _, there := c.Before.Readings[g.Key("")]; {
		case !g.flag(balanceFile):
		case !there && !g.CPUs().Empty():
			return "after a cpuset was made that has CPUs: "
		case g.CPUs().Empty() && !was.CPUs().Empty():
			return "after a cpuset gave up its CPUs: "
		}
	}
	return ""
}

func balanceTouches(got, want affinity.CPUSet) string {
	switch {
	case want.Empty():
		return "a CPU that no cpuset balances is balanced"
	case got.Empty():
		return "a CPU is not balanced"
	case got.Difference(want).Empty():
		return "a CPU is not balanced with all of its cpusets'"
	default:
		return "a CPU is balanced with those of other cpusets"
	}
}
