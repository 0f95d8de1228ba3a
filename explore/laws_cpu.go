package explore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const hotplugDoc = "Documentation/core-api/cpu_hotplug.rst"

var cpuLaws = []Law{
	{
		Name:   "cpu-files",
		Text:   "the list of online CPUs, the files of each CPU and the lines of /proc/stat say the same",
		Source: "Documentation/ABI/testing/sysfs-devices-system-cpu; " + hotplugDoc + "; proc(5)",
		State:  true,
		Check:  checkCPUFiles,
	},
	{
		Name:   "other-cpus",
		Text:   "an operation on a CPU leaves the state of the others, and what is no operation on a CPU leaves all",
		Source: "Documentation/ABI/testing/sysfs-devices-system-cpu, cpuX/online: it is about the CPU alone",
		Check:  checkOtherCPUs,
	},
	{
		Name:   "online-succeeds",
		Text:   "a CPU that was taken offline comes online again",
		Source: hotplugDoc + ": \"echo 1 > /sys/devices/system/cpu/cpu4/online\" brings the CPU back",
		Check:  checkOnline,
	},
	{
		Name:   "refused-changes-nothing",
		Text:   "an operation that fails leaves the state as it was",
		Source: "write(2), mkdir(2), rmdir(2), sched_setaffinity(2): on error -1 is returned; " + hotplugDoc + ": a failed operation is rolled back",
		Check:  checkRefused,
	},
	{
		Name:   "there-and-back",
		Text:   "once the same CPUs are online again, and nothing else was done, cpusets and scheduling domains are as before",
		Source: cgroupDoc + ", cpuset.cpus: the value \"won't be affected by any CPU hotplug events\"; cpuset.cpus.partition: a partition is valid again when its CPUs are back",
		Since:  Version{6, 1},
		Cgroup: 2, // on v1, a cpuset has lost a CPU that went offline
		Check:  checkBack,
	},
	undoneLaw,
}

var undoneLaw = Law{
	Name: "undone",
	Text: "once all cpusets are removed and the same CPUs are online, all is as before",
	Source: cgroupDoc + ": a cgroup that is removed has no effect any more; cpuset.cpus.partition: a partition's CPUs go back to its parent; " +
		cpusetsDoc + ": the root's cpuset.cpus \"automatically tracks the value of cpu_online_mask\", and scheduling domains are rebuilt when a cpuset is removed",
	Check: checkUndone,
}

// checkUndone compares with the state before the first step when nothing is
// left of what steps have made.
func checkUndone(c *Case) []Violation {
	if len(c.After.Groups) > 0 || !c.After.Online().Equal(c.Base.Online()) || c.After.Readings[balanceKey] != c.Base.Readings[balanceKey] {
		return nil
	}
	changed := differences(c.Base, c.After, ofSequence)
	if len(changed) == 0 {
		return nil
	}
	return []Violation{{
		Touches: strings.Join(names(changed), ", "),
		Seen:    fmt.Sprintf("no cpuset is left and the CPUs are as before, but %s", story(c.Base, c.After, changed)),
		Facts:   c.After.facts(changed...),
	}}
}

// ofSequence reports whether a reading may be another one before and after a
// sequence: it is about its tasks, or was written to.
func ofSequence(key Key) bool {
	return volatile(key) || strings.Contains(string(key), "$T") ||
		strings.HasPrefix(string(key), cpuDir+"smt/") || strings.HasPrefix(string(key), workqueueDir)
}

func checkCPUFiles(c *Case) []Violation {
	var broken []Violation
	s := c.After
	online := s.Online()
	add := func(touches, seen string, keys ...Key) {
		broken = append(broken, Violation{Touches: touches, Seen: seen, Facts: s.facts(append(keys, onlineKey)...)})
	}
	offline := Key(cpuDir + "offline")
	for _, cpu := range c.Base.pluggable() {
		key, state, target := keysOf(cpu).online, keysOf(cpu).state, keysOf(cpu).target
		if !online.Has(cpu) && !s.List(offline).Has(cpu) {
			add("offline", fmt.Sprintf("CPU %d is in neither list: online are %q, offline %q", cpu, online, s.List(offline)), offline)
		}
		if on := s.Readings[key] == "1"; on != online.Has(cpu) {
			add("cpuN/online", fmt.Sprintf("%s is %s, and CPUs %v are online", key, s.Readings[key], online), key)
		}
		if s.Readings[state] != s.Readings[target] {
			add("cpuN/hotplug/target", fmt.Sprintf("%s is %s and target %s, though no operation is under way", state, s.Readings[state], s.Readings[target]), state, target)
		}
		if off := s.Readings[state] == "0"; s.Has(state) && off == online.Has(cpu) {
			add("cpuN/hotplug/state", fmt.Sprintf("%s is %s, and CPUs %v are online", state, s.Readings[state], online), state)
		}
	}
	if both := s.List(offline).Intersect(online); !both.Empty() {
		add("offline", fmt.Sprintf("CPU %v is in the lists of both online and offline CPUs", both), offline)
	}
	if listed := parseList(strings.ReplaceAll(s.Readings["/proc/stat#cpus"], " ", ",")); !listed.Equal(online) {
		add("/proc/stat", fmt.Sprintf("/proc/stat has lines of CPUs %v, and CPUs %v are online", listed, online), "/proc/stat#cpus")
	}
	const interrupts = Key("/proc/interrupts#cpus")
	if listed := parseList(strings.ReplaceAll(s.Readings[interrupts], " ", ",")); s.Has(interrupts) && !listed.Equal(online) {
		add("/proc/interrupts", fmt.Sprintf("/proc/interrupts has columns of CPUs %v, and CPUs %v are online", listed, online), interrupts)
	}
	return broken
}

// touchesCPUs reports whether a line has an operation that may change which
// CPUs are online: the CPUs that it names, and whether it may change others.
func touchesCPUs(l Line) (cpus []int, others bool) {
	for _, c := range l.Commands {
		for _, file := range []string{"online", "hotplug/target"} {
			if cpu, ok := cpuOf(Key(c.Path), file); ok {
				cpus = append(cpus, cpu)
			}
		}
		others = others || strings.HasPrefix(c.Path, cpuDir+"smt/")
	}
	return cpus, others
}

func checkOtherCPUs(c *Case) []Violation {
	named, others := touchesCPUs(c.Step)
	if others {
		return nil
	}
	was, is := c.Before.Online().Without(named...), c.After.Online().Without(named...)
	if was.Equal(is) {
		return nil
	}
	return []Violation{{
		Touches: "a CPU that was not named",
		Seen:    fmt.Sprintf("besides what was asked for, CPUs %q are online, and were %q", is, was),
		Facts:   c.After.facts(onlineKey),
	}}
}

// checkOnline judges a line that brings one CPU online and does nothing else.
func checkOnline(c *Case) []Violation {
	cpu, ok := plugged(c.Step)
	if !ok || c.Step.Commands[0].Value != "1" || !c.Result.Failed() {
		return nil
	}
	if armed, ok := c.Before.Readings[keysOf(cpu).fail]; ok && armed != "-1" {
		return nil
	}
	// A number says that other threads of the cores must be offline.
	control := c.Before.Readings[smtControl]
	if _, err := strconv.Atoi(control); err == nil || control == "off" || control == "forceoff" {
		return nil
	}
	return []Violation{{
		Touches: c.Result.String(),
		Seen:    fmt.Sprintf("CPU %d did not come online: %s", cpu, c.Result),
		Facts:   c.After.facts(keysOf(cpu).online, onlineKey),
	}}
}

// volatile reports whether a reading may change by itself, or by an operation
// that fails.
func volatile(key Key) bool {
	_, fail := cpuOf(key, "hotplug/fail")
	return fail || irqMask.MatchString(string(key)) || strings.HasSuffix(string(key), "#asked") || strings.HasSuffix(string(key), "#class")
}

// refused reports whether all that the line was to do has failed. To inject a
// failure is not what it was to do.
func (c *Case) refused() bool {
	failed := 0
	for i, command := range c.Step.Commands {
		switch _, fail := cpuOf(Key(command.Path), "hotplug/fail"); {
		case fail:
		case c.Result.Errs[i] == 0:
			return false
		default:
			failed++
		}
	}
	return failed > 0
}

// wakes reports whether the key is of a task whose CPUs are all offline: it gets
// others as soon as it runs, whatever the step does.
func (c *Case) wakes(key Key) bool {
	return slices.ContainsFunc(c.Before.Tasks, func(task string) bool {
		mask := key == affinityKey(task) || strings.HasSuffix(string(key), task+"/status#allowed")
		return mask && c.Before.Has(affinityKey(task)) && c.Before.List(affinityKey(task)).Empty()
	})
}

func checkRefused(c *Case) []Violation {
	// SMT control is about several CPUs. cpuhp_smt_disable() ends at the first that
	// cannot go, and those that have gone stay offline: nobody promises else.
	if !c.refused() || strings.Contains(c.Step.String(), smtControl) {
		return nil
	}
	// A task that runs on a CPU that is about to go, and may run on no other,
	// loses its mask, also if the CPU then stays.
	named, others := touchesCPUs(c.Step)
	changed := differences(c.Before, c.After, func(key Key) bool {
		return volatile(key) || c.wakes(key) || (named != nil || others) && (strings.Contains(string(key), "$T") || c.After.Cgroup() == 1 && lostWithCPU(key))
	})
	if len(changed) == 0 {
		return nil
	}
	return []Violation{{
		Touches: c.Step.Commands[len(c.Step.Commands)/2].file() + ": " + strings.Join(names(changed), ", "),
		Seen:    fmt.Sprintf("%q failed with %s, and yet %s", c.Step, c.Result, story(c.Before, c.After, changed)),
		Facts:   c.After.facts(changed...),
	}}
}

// lostWithCPU reports whether a reading of a machine with cgroup v1 may be
// another one after an operation on a CPU that was rolled back: cpusets other
// than the root lose a CPU as soon as it is about to go, and do not get it
// back.
func lostWithCPU(key Key) bool {
	text := string(key)
	return strings.HasPrefix(text, "$") && !strings.HasPrefix(text, rootGroup+"/") || strings.HasPrefix(text, "/proc/schedstat#")
}

// file returns what a command is about, the same for any cgroup and CPU.
func (c Command) file() string {
	switch c.Op {
	case Mkdir, Rmdir, Taskset, Chrt:
		word, _, _ := strings.Cut(c.String(), " ")
		return word
	}
	return name(Key(c.Path))
}

// differences returns the keys whose readings differ, but for those passed
// over.
func differences(a, b *Snapshot, pass func(Key) bool) []Key {
	all := make(map[Key]bool)
	for key := range a.Readings {
		all[key] = true
	}
	for key := range b.Readings {
		all[key] = true
	}
	var keys []Key
	for _, key := range slices.Sorted(maps.Keys(all)) {
		was, wasThere := a.Readings[key]
		is, isThere := b.Readings[key]
		if (was != is || wasThere != isThere) && !onlyReason(was, is) && !pass(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// onlyReason reports whether two readings are of a partition that is invalid for
// one reason and for another: of several that hold, the kernel names the one
// that it has met first.
func onlyReason(was, is string) bool {
	wasKind, _, wasInvalid := strings.Cut(was, " invalid")
	isKind, _, isInvalid := strings.Cut(is, " invalid")
	return wasInvalid && isInvalid && wasKind == isKind
}

// name returns the end of a key that is the same for any cgroup, CPU and task.
func name(key Key) string {
	text := string(key)
	if file, part, ok := strings.Cut(text, "#"); ok {
		switch {
		case strings.HasPrefix(part, "cpu") && part != "cpus":
			part = "cpuN"
		}
		if strings.HasPrefix(file, "$") {
			file = "$T"
		}
		return file[strings.LastIndexByte(file, '/')+1:] + "#" + part
	}
	return text[strings.LastIndexByte(text, '/')+1:]
}

// names returns the name of each key once.
func names(keys []Key) []string {
	all := make(map[string]bool)
	for _, key := range keys {
		all[name(key)] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// story says how readings have changed.
func story(was, is *Snapshot, keys []Key) string {
	var all []string
	for _, key := range keys {
		all = append(all, fmt.Sprintf("%s is %q and was %q", key, is.Readings[key], was.Readings[key]))
	}
	return strings.Join(all, ", ")
}

// checkBack compares with the states since the last step that was more than a
// CPU offline or online, of the same CPUs online.
func checkBack(c *Case) []Violation {
	if _, ok := plugged(c.Step); !ok || c.Result.Failed() {
		return nil
	}
	for _, then := range c.Earlier {
		if !then.Online().Equal(c.After.Online()) {
			continue
		}
		changed := differences(then, c.After, func(key Key) bool { return volatile(key) || strings.Contains(string(key), "$T") })
		if len(changed) == 0 {
			return nil
		}
		return []Violation{{
			Touches: strings.Join(names(changed), ", "),
			Seen:    fmt.Sprintf("CPUs %v are online as they were, but %s", c.After.Online(), story(then, c.After, changed)),
			Facts:   c.After.facts(changed...),
		}}
	}
	return nil
}
