package explore

import (
	"fmt"
	"path"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

const cpusetSource = "kernel/cgroup/cpuset.c"

var partitionLaws = []Law{
	{
		Name: "member-effective",
		Text: "a cpuset that is no partition has those CPUs of its cpuset.cpus that its parent has, or if there are none, all of its parent's",
		Source: cgroupDoc + ", cpuset.cpus.effective: \"it should be a subset of cpuset.cpus unless none of the CPUs listed in cpuset.cpus can be granted. " +
			"In this case, it will be treated just like an empty cpuset.cpus\"; " + cpusetSource + ": compute_effective_cpumask()",
		Cgroup: 2,
		State:  true,
		Check:  checkMember,
	},
	{
		Name: "partitions-disjoint",
		Text: "a CPU of a valid partition is in no cpuset that is not below it",
		Source: cgroupDoc + ", cpuset.cpus.partition: \"A partition has exclusive access to the set of exclusive CPUs allocated to it. " +
			"Other cgroups outside of that partition cannot use any CPUs in that set\"",
		Cgroup: 2,
		State:  true,
		Check:  checkDisjoint,
	},
	{
		Name:   "partitions-cover",
		Text:   "each online CPU is in a valid partition, the root among them",
		Source: cgroupDoc + ", cpuset.cpus.partition: the root cgroup is always a partition root, and partitions take their CPUs from it",
		Cgroup: 2,
		State:  true,
		Check:  checkCover,
	},
	{
		Name:   "isolated-list",
		Text:   "cpuset.cpus.isolated has the CPUs of the valid isolated partitions",
		Source: cgroupDoc + ", cpuset.cpus.isolated: \"This file shows the set of all isolated CPUs used in existing isolated partitions\"",
		Since:  Version{6, 7},
		Cgroup: 2,
		State:  true,
		Check:  checkIsolated,
	},
	{
		Name: "domains",
		Text: "the CPUs of a partition root are one scheduling domain, and those of an isolated partition have none",
		Source: cgroupDoc + ", cpuset.cpus.partition: \"isolated: Partition root without load balancing\"; " + cpusetSource +
			": generate_sched_domains()",
		Cgroup: 2,
		State:  true,
		Check:  checkDomains,
	},
}

// of returns the readings of a file of the groups, for the facts of a
// violation.
func (s *Snapshot) of(file string, groups ...Group) []Fact {
	var keys []Key
	for _, g := range groups {
		keys = append(keys, g.Key(file))
	}
	return s.facts(keys...)
}

func checkMember(c *Case) []Violation {
	var broken []Violation
	for _, g := range c.After.All() {
		if g.Partition() != "member" {
			continue
		}
		parent := g.Parent()
		want := g.CPUs().Intersect(parent.Effective())
		if want.Empty() {
			want = parent.Effective()
		}
		if got := g.Effective(); !got.Equal(want) {
			broken = append(broken, Violation{
				Touches: "a member " + under(parent) + c.afterWrite(g),
				Seen:    fmt.Sprintf("%s is %q, want %q", g.Key("effective"), got, want),
				Facts:   append(c.After.of("effective", g, parent), c.After.facts(g.Key(""), g.Key("partition"))...),
			})
		}
	}
	return broken
}

// afterWrite says which cpuset the step has written to in which a law about g was
// broken, if it did: what an operation on a CPU leaves, and nothing else, is
// another defect.
func (c *Case) afterWrite(g Group) string {
	text := ""
	for i, command := range c.Step.Commands {
		dir, file := path.Split(command.Path)
		if command.Op != Write || !strings.HasPrefix(dir, "$") || !strings.HasPrefix(file, "cpuset.") || c.Result.Errs[i] != 0 {
			continue
		}
		if !g.Below(c.After.Group(path.Clean(dir))) {
			return ", after a write to another cpuset"
		}
		text = ", after a write to it"
	}
	return text
}

// under says what kind of parent a cpuset has.
func under(parent Group) string {
	if parent.Root() {
		return "below the root"
	}
	return "below a partition that is " + parent.Kind()
}

func checkDisjoint(c *Case) []Violation {
	var broken []Violation
	groups := c.After.All()
	for _, p := range groups {
		if p.Root() || !p.Valid() {
			continue
		}
		for _, g := range groups {
			if g.Below(p) || g.Name == p.Name {
				continue
			}
			shared := p.Effective().Intersect(g.Effective())
			if shared.Empty() || g.Valid() && g.Name > p.Name && !p.Below(g) {
				continue // two partitions are told of once
			}
			what := g.Kind()
			if g.Root() {
				what = "the root cpuset"
			}
			broken = append(broken, Violation{
				Touches: fmt.Sprintf("%s partition and %s", p.Kind(), what) + c.afterWrite(p),
				Seen:    fmt.Sprintf("%s is %s, but its CPU %v is in %s too", p.Name, p.Kind(), shared, g.Name),
				Facts:   append(c.After.of("effective", p, g), c.After.of("partition", p, g)...),
			})
		}
	}
	return broken
}

// others returns the CPUs that partitions of somebody else's have.
func others(base *Snapshot) affinity.CPUSet {
	return base.Online().Difference(base.Group(rootGroup).Effective())
}

func checkCover(c *Case) []Violation {
	var covered affinity.CPUSet
	var facts []Fact
	for _, g := range c.After.All() {
		facts = append(facts, c.After.of("effective", g)...)
		facts = append(facts, c.After.of("partition", g)...)
		if g.Valid() {
			covered = covered.Union(g.Effective())
		}
	}
	lost := c.After.Online().Difference(covered).Difference(others(c.Base))
	if lost.Empty() {
		return nil
	}
	return []Violation{{
		Touches: "an online CPU" + c.afterWrite(c.After.Group(rootGroup)),
		Seen:    fmt.Sprintf("CPU %v is online and in no partition's cpuset.cpus.effective", lost),
		Facts:   append(facts, c.After.facts(onlineKey)...),
	}}
}

const isolatedKey = Key("$R/cpuset.cpus.isolated")

func checkIsolated(c *Case) []Violation {
	if !c.After.Has(isolatedKey) {
		return nil
	}
	want := c.Base.List(isolatedKey) // by somebody else's, or by isolcpus=
	facts := c.After.facts(isolatedKey)
	for _, g := range c.After.All() {
		facts = append(facts, c.After.of("partition", g)...)
		if g.Partition() == "isolated" {
			want = want.Union(c.After.List(g.Key("exclusive.effective")))
			facts = append(facts, c.After.of("exclusive.effective", g)...)
		}
	}
	got := c.After.List(isolatedKey)
	if got.Equal(want) {
		return nil
	}
	touches := "a CPU of an isolated partition is not in the list"
	if !got.Difference(want).Empty() {
		touches = "a CPU of no isolated partition is in the list"
	}
	return []Violation{{
		Touches: touches,
		Seen:    fmt.Sprintf("%s is %q, and the isolated partitions have %q", isolatedKey, got, want),
		Facts:   facts,
	}}
}

// balanced returns the CPUs that were in a scheduling domain before the first
// step. The others are isolated by isolcpus=.
func balanced(base *Snapshot) affinity.CPUSet {
	var cpus affinity.CPUSet
	for cpu := range base.Online().All() {
		cpus = cpus.Union(base.masks(keysOf(cpu).domains))
	}
	return cpus
}

func checkDomains(c *Case) []Violation {
	var broken []Violation
	possible := balanced(c.Base)
	for _, p := range c.After.All() {
		if !p.Valid() {
			continue
		}
		cpus := p.Effective().Intersect(possible)
		for cpu := range cpus.All() {
			key := keysOf(cpu).domains
			if !c.After.Has(key) {
				continue
			}
			var want affinity.CPUSet
			if p.Kind() == "root" && cpus.Count() > 1 {
				want = cpus
			}
			got := c.After.masks(key)
			if got.Equal(want) {
				continue
			}
			broken = append(broken, Violation{
				Touches: domainTouches(p, got, want) + c.afterWrite(p),
				Seen:    fmt.Sprintf("CPU %d of %s (%s, CPUs %v) is balanced with %q, want %q", cpu, p.Name, p.Kind(), cpus, got, want),
				Facts:   append(c.After.of("effective", p), append(c.After.of("partition", p), c.After.facts(key)...)...),
			})
			break
		}
	}
	return broken
}

func domainTouches(p Group, got, want affinity.CPUSet) string {
	what := p.Kind() + " partition"
	if p.Root() {
		what = "the root cpuset"
	}
	switch {
	case want.Empty():
		return what + " is load-balanced"
	case got.Empty():
		return what + " is not load-balanced"
	case got.Difference(want).Empty():
		return what + " is not balanced with all its CPUs"
	default:
		return what + " is balanced with CPUs of others"
	}
}

// masks returns the union of a reading of CPU masks with blanks between.
func (s *Snapshot) masks(key Key) affinity.CPUSet {
	var all affinity.CPUSet
	for mask := range strings.FieldsSeq(s.Readings[key]) {
		all = all.Union(parseMask(mask))
	}
	return all
}
