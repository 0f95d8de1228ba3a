package explore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// v1Laws are about cpusets of cgroup v1 without cpuset_v2_mode.
var v1Laws = []Law{
	{
		Name: "root-cpus",
		Text: "cpuset.cpus and cpuset.effective_cpus of the root cpuset have the online CPUs",
		Source: cpusetsDoc + ", 1.3: \"The cpus file automatically tracks the value of cpu_online_mask using a CPU hotplug notifier\"; " +
			"b22afcdf04c9 (\"cpu/hotplug: Cure the cpusets trainwreck\", v5.14)",
		Cgroup: 1,
		State:  true,
		Check:  checkRootCPUs,
	},
	{
		Name: "effective-copies",
		Text: "cpuset.effective_cpus and cpuset.effective_mems are copies of cpuset.cpus and cpuset.mems",
		Source: cpusetsDoc + ", 1.3: they \"are normally read-only copies of cpuset.cpus and cpuset.mems files respectively\", " +
			"without cpuset_v2_mode",
		Cgroup: 1,
		State:  true,
		Check:  checkCopies,
	},
	{
		Name:   "subset-of-parent",
		Text:   "the CPUs and memory nodes of a cpuset are a subset of its parent's",
		Source: cpusetsDoc + ", 1.3: \"Its CPUs and Memory Nodes must be a subset of its parents\"",
		Cgroup: 1,
		State:  true,
		Check:  checkSubset,
	},
	{
		Name: "exclusive-cpusets",
		Text: "an exclusive cpuset overlaps no sibling, and its parent is exclusive too",
		Source: cpusetsDoc + ", 1.3: \"It can't be marked exclusive unless its parent is\"; " +
			"\"If its cpu or memory is exclusive, they may not overlap any sibling\"",
		Cgroup: 1,
		State:  true,
		Check:  checkExclusive,
	},
	{
		Name: "settings-stay",
		Text: "a setting of a cpuset is what was written to it, and stays so until it is written again; cpuset.cpus may lose a CPU that goes offline",
		Source: cpusetsDoc + ", 1.3: \"The properties of a cpuset, such as its flags, allowed CPUs and Memory Nodes, and attached tasks, " +
			"are modified by writing to the appropriate file in that cpusets directory\"",
		Cgroup: 1,
		Check:  checkSettings,
	},
	{
		Name:   "emptied",
		Text:   "a cpuset that has no CPU any more has no task either",
		Source: cpusetsDoc + ", 1.9: \"all the tasks in that cpuset will be moved to the nearest ancestor with non-empty cpus\"; a workqueue does that",
		Cgroup: 1,
		Lags:   true,
		State:  true,
		Check:  checkEmptied,
	},
}

// File returns the key of a file by its name.
func (g Group) File(name string) Key { return Key(g.Name + "/" + name) }

// flag reports whether a file of the cpuset has a 1.
func (g Group) flag(file string) bool { return g.snap.Readings[g.File(file)] == "1" }

// deserted reports whether a cpuset of cgroup v1 has no CPU. A task that is in
// it for a moment may run anywhere.
func (g Group) deserted() bool { return g.snap.Cgroup() == 1 && g.Effective().Empty() }

func checkRootCPUs(c *Case) []Violation {
	root := c.After.Group(rootGroup)
	// A pending update would change the first one that is read.
	for _, key := range []Key{root.Key("effective"), root.Key("")} {
		if is := c.After.List(key); !is.Equal(c.After.Online()) {
			return []Violation{{
				Touches: "the root cpuset",
				Seen:    fmt.Sprintf("%s is %q, and CPUs %v are online", key, is, c.After.Online()),
				Facts:   c.After.facts(key, onlineKey),
			}}
		}
	}
	return nil
}

func checkCopies(c *Case) []Violation {
	var broken []Violation
	for _, g := range c.After.All() {
		for _, file := range []string{"cpus", "mems"} {
			original, duplicate := g.File("cpuset."+file), g.File("cpuset.effective_"+file)
			if c.After.Has(duplicate) && c.After.Readings[original] != c.After.Readings[duplicate] {
				broken = append(broken, Violation{
					Touches: "effective_" + file,
					Seen:    fmt.Sprintf("%s is %q, and %s %q", original, c.After.Readings[original], duplicate, c.After.Readings[duplicate]),
					Facts:   c.After.facts(original, duplicate),
				})
			}
		}
	}
	return broken
}

func checkSubset(c *Case) []Violation {
	var broken []Violation
	for _, g := range c.After.All() {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			key, above := g.File(file), g.Parent().File(file)
			if more := c.After.List(key).Difference(c.After.List(above)); !more.Empty() {
				broken = append(broken, Violation{
					Touches: file,
					Seen:    fmt.Sprintf("%s has %v, and %s has not", key, more, above),
					Facts:   c.After.facts(key, above),
				})
			}
		}
	}
	return broken
}

func checkExclusive(c *Case) []Violation {
	var broken []Violation
	for _, kind := range []string{"cpu", "mem"} {
		flag, set := "cpuset."+kind+"_exclusive", "cpuset."+kind+"s"
		for _, g := range c.After.All() {
			parent := g.Parent()
			if g.Root() || !g.flag(flag) {
				continue
			}
			if !parent.Root() && !parent.flag(flag) {
				broken = append(broken, Violation{
					Touches: flag + " below a cpuset that is not",
					Seen:    fmt.Sprintf("%s is 1, and %s is not", g.File(flag), parent.File(flag)),
					Facts:   c.After.facts(g.File(flag), parent.File(flag)),
				})
			}
			for _, h := range c.After.All() {
				shared := c.After.List(g.File(set)).Intersect(c.After.List(h.File(set)))
				told := h.flag(flag) && h.Name < g.Name
				if h.Root() || h.Name == g.Name || h.Parent().Name != parent.Name || shared.Empty() || told {
					continue
				}
				broken = append(broken, Violation{
					Touches: flag + " of overlapping siblings",
					Seen:    fmt.Sprintf("%s is 1, and %s has %v too", g.File(flag), h.File(set), shared),
					Facts:   c.After.facts(g.File(flag), g.File(set), h.File(set)),
				})
			}
		}
	}
	return broken
}

// settings are the files of a cpuset that have what was written to them.
var settings = []string{
	"cpuset.cpus", "cpuset.mems", "cpuset.cpu_exclusive", "cpuset.mem_exclusive", balanceFile, "cpuset.memory_migrate", "cgroup.clone_children",
}

func checkSettings(c *Case) []Violation {
	var broken []Violation
	add := func(key Key, touches, seen string) {
		broken = append(broken, Violation{Touches: touches, Seen: seen, Facts: c.After.facts(key)})
	}
	for _, g := range c.After.All() {
		for _, file := range settings {
			key := g.File(file)
			was, there := c.Before.Readings[key]
			is := c.After.Readings[key]
			want, wrote := c.wrote(key)
			switch {
			case wrote && want != is:
				add(key, file+" is not what was written", fmt.Sprintf("%q succeeded, and %s is %q", c.Step, key, is))
			case !there || was == is || c.names(key):
			case g.Root() && file != balanceFile: // it follows the machine
			case file == "cpuset.cpus" && c.mayLose(parseList(was), parseList(is)):
			default:
				add(key, file, fmt.Sprintf("%s is %q and was %q, and nobody wrote to it", key, is, was))
			}
		}
	}
	return broken
}

// names reports whether the step writes to the file.
func (c *Case) names(key Key) bool {
	return slices.ContainsFunc(c.Step.Commands, func(command Command) bool { return command.Op == Write && command.Path == string(key) })
}

// wrote returns what the file must have after a step that wrote to it,
// succeeded, and did nothing else.
func (c *Case) wrote(key Key) (value string, ok bool) {
	if len(c.Step.Commands) != 1 || !c.names(key) || c.Result.Failed() {
		return "", false
	}
	value = c.Step.Commands[0].Value
	if strings.HasSuffix(string(key), "/cpuset.cpus") {
		set, err := affinity.ParseList(value)
		return set.String(), err == nil
	}
	return value, true
}

// mayLose reports whether a cpuset that had some CPUs may have others after a
// step that took CPUs offline, or failed to.
func (c *Case) mayLose(was, is affinity.CPUSet) bool {
	named, others := touchesCPUs(c.Step)
	wentOffline := c.Before.Online().Difference(c.After.Online())
	lost := was.Difference(is).Difference(wentOffline).Without(named...)
	return is.Difference(was).Empty() && (others || lost.Empty())
}

func checkEmptied(c *Case) []Violation {
	var broken []Violation
	for _, task := range c.After.Tasks {
		g, ok := c.After.cpusetOf(task)
		// A deadline task may have no room among those of the ancestor.
		if !ok || !g.CPUs().Empty() || strings.HasPrefix(c.After.Readings[Key(task+"#class")], deadline) {
			continue
		}
		broken = append(broken, Violation{
			Touches: "a task in a cpuset without CPUs",
			Seen:    fmt.Sprintf("%s is empty, and task %s is there", g.Key(""), task),
			Facts:   c.After.facts(g.Key(""), Key(task+"#cgroup")),
		})
	}
	return broken
}

// fled reports whether a task may have gone from one cpuset of cgroup v1 to
// another, as the one lost its last CPU: the other is the nearest ancestor that
// has one.
func (c *Case) fled(from, to string) bool {
	if c.After.Cgroup() != 1 {
		return false
	}
	if c.Step.Parallel && slices.ContainsFunc(c.Step.Commands, func(c Command) bool { return strings.HasSuffix(c.Path, "/cpuset.cpus") }) {
		return true // the cpuset may have been given CPUs after that
	}
	for _, s := range []*Snapshot{c.Before, c.After} { // it may have been late
		g := s.Group(from)
		for !g.Root() && g.CPUs().Empty() {
			g = g.Parent()
		}
		if g.Name != from && g.Name == to {
			return true
		}
	}
	return false
}
