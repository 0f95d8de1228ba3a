package explore

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

const cpusDoc = "Documentation/ABI/testing/sysfs-devices-system-cpu"

// machineLaws are about what the machine says of its CPUs besides their state.
var machineLaws = []Law{
	{
		Name:   "topology",
		Text:   "an online CPU has the files topology/ and cache/, which name online CPUs, each of which names it; an offline CPU has neither",
		Source: "Documentation/admin-guide/cputopology.rst; " + cpusDoc + ": shared_cpu_list; drivers/base/topology.c and cacheinfo.c: a hotplug state adds and removes them",
		State:  true,
		Check:  checkTopology,
	},
	{
		Name:   "nodes",
		Text:   "the lists of the NUMA nodes have the online CPUs, each in one of them",
		Source: "drivers/base/node.c: node_read_cpumap() is the node's CPUs and cpu_online_mask",
		State:  true,
		Check:  checkNodes,
	},
	{
		Name:   "present",
		Text:   "an operation on a CPU leaves the list of CPUs that are present",
		Source: "Documentation/admin-guide/cputopology.rst, present: \"CPUs that have been identified as being present in the system\"",
		State:  true,
		Check: func(c *Case) []Violation {
			if c.After.Readings[presentKey] == c.Base.Readings[presentKey] {
				return nil
			}
			return []Violation{{
				Touches: "the list",
				Seen:    fmt.Sprintf("CPUs %s are present, and were %s", c.After.Readings[presentKey], c.Base.Readings[presentKey]),
				Facts:   c.After.facts(presentKey),
			}}
		},
	},
	{
		Name:   "smt-active",
		Text:   "smt/active is 1 while a core has two threads online, and only then",
		Source: cpusDoc + ": smt/active; kernel/sched/core.c: sched_smt_present, set in sched_cpu_activate()",
		State:  true,
		Check:  checkSMTActive,
	},
	{
		Name:   "irq-mask",
		Text:   "an interrupt has the mask that was written",
		Source: "Documentation/core-api/irq/irq-affinity.rst: smp_affinity \"specify which target CPUs are permitted for a given IRQ source\"",
		Lags:   true, // show_irq_affinity() takes no lock, and may read an empty mask as a pending move is done
		Check:  checkIRQ,
	},
	{
		Name:   "nonsense",
		Text:   "a value that means nothing is refused",
		Source: "write(2): EINVAL; " + cpusDoc + "; " + cgroupDoc,
		Check:  checkNonsense,
	},
}

const presentKey = Key(cpuDir + "present")

// described are the files of a CPU that come and go with it, and that are lists
// of CPUs.
var described = []string{"topology/core_siblings_list", siblingsFile, "cache/index0/shared_cpu_list", "cache/index2/shared_cpu_list", "cache/index3/shared_cpu_list"}

// cacheID is beside the list of those that share the last of these caches.
const cacheID = "cache/index3/id"

const siblingsFile = "topology/thread_siblings_list"

func describedKey(cpu int, file string) Key { return Key(fmt.Sprintf(cpuDir+"cpu%d/%s", cpu, file)) }

func checkTopology(c *Case) []Violation {
	var broken []Violation
	online := c.After.Online()
	for _, file := range described {
		for _, cpu := range c.Base.pluggable() {
			key := describedKey(cpu, file)
			if !c.Base.Has(key) {
				continue // it was offline, or its machine tells nothing of that
			}
			list, has := c.After.Readings[key]
			what := ""
			switch {
			case has && !online.Has(cpu):
				what = "of a CPU that is offline"
			case !has && online.Has(cpu):
				what = "missing of a CPU that is online"
			case has && !mutual(c.After, file, cpu):
				what = "with CPUs that do not belong there"
				if strings.HasPrefix(cacheID, filepath.Dir(file)+"/") && !sameID(c.Base, cpu, parseList(list)) {
					what = "with CPUs that have another cache by its id"
				}
			default:
				continue
			}
			broken = append(broken, Violation{
				Touches: file + " " + what,
				Seen:    fmt.Sprintf("%s is %q, and CPUs %v are online", key, list, online),
				Facts:   append(c.After.facts(onlineKey), Fact{key, list}),
			})
			break
		}
	}
	return broken
}

// mutual reports whether the list in a file of an online CPU has that CPU and
// others that are online alone, each of which has it in its own list.
func mutual(s *Snapshot, file string, cpu int) bool {
	list := s.List(describedKey(cpu, file))
	if !list.Has(cpu) || !list.Difference(s.Online()).Empty() {
		return false
	}
	for other := range list.All() {
		if !s.List(describedKey(other, file)).Has(cpu) {
			return false
		}
	}
	return true
}

// sameID reports whether a cache is the same for a CPU and others by its id, as
// far as the machine tells.
func sameID(s *Snapshot, cpu int, others affinity.CPUSet) bool {
	own, has := s.Readings[describedKey(cpu, cacheID)]
	for other := range others.All() {
		if id, ok := s.Readings[describedKey(other, cacheID)]; has && ok && id != own {
			return false
		}
	}
	return true
}

var nodeList = regexp.MustCompile(`^/sys/devices/system/node/node\d+/cpulist$`)

func checkNodes(c *Case) []Violation {
	var all affinity.CPUSet
	var keys []Key
	twice := false
	for _, key := range slices.Sorted(maps.Keys(c.After.Readings)) {
		if !nodeList.MatchString(string(key)) {
			continue
		}
		list := c.After.List(key)
		twice = twice || !list.Intersect(all).Empty()
		all, keys = all.Union(list), append(keys, key)
	}
	if len(keys) == 0 || !twice && all.Equal(c.After.Online()) {
		return nil
	}
	seen := fmt.Sprintf("the NUMA nodes have CPUs %v, and CPUs %v are online", all, c.After.Online())
	if twice {
		seen = "two NUMA nodes have the same CPU"
	}
	return []Violation{{Touches: "cpulist", Seen: seen, Facts: c.After.facts(append(keys, onlineKey)...)}}
}

const smtActive = Key(cpuDir + "smt/active")

func checkSMTActive(c *Case) []Violation {
	if !c.After.Has(smtActive) {
		return nil
	}
	want, siblings := "0", Key("")
	for cpu := range c.After.Online().All() {
		key := describedKey(cpu, siblingsFile)
		list, ok := c.After.Readings[key]
		if !ok {
			return nil
		}
		// A CPU that an operation has left on its way counts for one list and not
		// for the other.
		if key := keysOf(cpu).online; c.After.Has(key) && c.After.Readings[key] != "1" {
			return nil
		}
		siblings = key
		if parseList(list).Intersect(c.After.Online()).Count() > 1 {
			want = "1"
			break
		}
	}
	if is := c.After.Readings[smtActive]; is != want {
		return []Violation{{
			Touches: "smt/active is " + is,
			Seen:    fmt.Sprintf("%s is %s, and %s is %q", smtActive, is, siblings, c.After.Readings[siblings]),
			Facts:   c.After.facts(smtActive, siblings, onlineKey),
		}}
	}
	return nil
}

// irqMask matches the file of an interrupt's mask.
var irqMask = regexp.MustCompile(`^/proc/irq/\d+/smp_affinity$`)

// checkIRQ judges a line that gives an interrupt a mask and does nothing else.
func checkIRQ(c *Case) []Violation {
	if len(c.Step.Commands) != 1 || c.Result.Failed() {
		return nil
	}
	command := c.Step.Commands[0]
	key := Key(command.Path)
	if !irqMask.MatchString(command.Path) || !c.After.Has(key) {
		return nil
	}
	if is := c.After.Readings[key]; !parseMask(is).Equal(parseMask(command.Value)) {
		return []Violation{{
			Touches: "smp_affinity",
			Seen:    fmt.Sprintf("%s is %q, and %q was written", key, is, command.Value),
			Facts:   c.After.facts(key),
		}}
	}
	return nil
}

// sense says whether a value means something to a file, by the file's name.
var sense = map[string]func(value string) bool{
	"cpuset.cpus":           isList,
	"cpuset.cpus.exclusive": isList,
	"cpuset.cpus.partition": regexp.MustCompile(`^(root|member|isolated)$`).MatchString,
	"online":                regexp.MustCompile(`^([01]|[yYnNtTfF].*|[oO][nNfF].*)$`).MatchString, // kstrtobool()
	"target":                regexp.MustCompile(`^[-+]?(\d+|0x[0-9a-f]+)$`).MatchString,
	"control":               regexp.MustCompile(`^(on|off|forceoff|\d+)$`).MatchString,
}

// isList reports whether a value is a CPU list, or may be one of the forms that
// only the kernel knows, such as "0-7:1/2".
func isList(value string) bool {
	_, err := affinity.ParseList(value)
	return err == nil || strings.ContainsAny(value, ":/N") || value == "all"
}

func checkNonsense(c *Case) []Violation {
	for i, command := range c.Step.Commands {
		file := command.Path[strings.LastIndexByte(command.Path, '/')+1:]
		means := sense[file]
		if command.Op != Write || means == nil || c.Result.Errs[i] != 0 || means(command.Value) {
			continue
		}
		v := Violation{Touches: file, Seen: fmt.Sprintf("%q succeeded", command)}
		if key := Key(command.Path); c.After.Readings[key] != c.Before.Readings[key] {
			v.Facts = c.After.facts(key)
		}
		return []Violation{v}
	}
	return nil
}
