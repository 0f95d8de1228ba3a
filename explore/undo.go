package explore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// Undo returns the lines that take the machine back to the state base, from
// wherever lines have brought it.
func (t *Target) Undo(base *Snapshot) []Line {
	var lines []Line
	add := func(c Command) { lines = append(lines, Line{Commands: []Command{c}}) }
	for _, task := range taskNames {
		// A deadline task cannot be moved everywhere.
		if class := t.class["$"+task]; class != "" && class != ordinary {
			add(Command{Op: Chrt, Value: ordinary, Task: "$" + task})
		}
	}
	for _, task := range taskNames {
		if _, ok := t.Vars[task]; ok && len(t.groups) > 0 {
			add(Command{Op: Write, Path: rootGroup + "/cgroup.procs", Value: "$" + task})
		}
	}
	for _, group := range slices.Backward(t.Groups()) {
		add(Command{Op: Rmdir, Path: group})
	}
	if was, ok := t.first[string(balanceKey)]; ok {
		if now, err := sysfs.ReadFile(t.Path(string(balanceKey))); err == nil && now != was {
			add(Command{Op: Write, Path: string(balanceKey), Value: was})
		}
	}
	if t.limits {
		add(Command{Op: Write, Path: limitControl, Value: "-cpu"})
	}
	for _, path := range slices.Sorted(maps.Keys(t.first)) {
		if was := t.first[path]; restorable(path) {
			if now, err := sysfs.ReadFile(t.Path(path)); err == nil && now != was {
				add(Command{Op: Write, Path: path, Value: was})
			}
		}
	}
	for _, cpu := range base.pluggable() {
		key := keysOf(cpu).online
		if now, err := sysfs.ReadFile(t.Path(string(key))); err == nil && now != base.Readings[key] {
			add(Command{Op: Write, Path: string(key), Value: base.Readings[key]})
		}
	}
	return lines
}

// restorable reports whether a file gets the value back that it had before it
// was written to. The CPUs are brought online in their own way.
func restorable(path string) bool {
	_, online := cpuOf(Key(path), "online")
	return !online && strings.HasPrefix(path, "/sys/devices/") || strings.HasPrefix(path, "/proc/irq/")
}

// cpuKeys are the keys of a CPU.
type cpuKeys struct{ online, state, target, fail, domains Key }

// keysOfCPU has the keys of each CPU that was asked for: they are asked for in
// each step.
var keysOfCPU struct {
	sync.Mutex
	all []cpuKeys
}

// keysOf returns the keys of a CPU.
func keysOf(cpu int) cpuKeys {
	keysOfCPU.Lock()
	defer keysOfCPU.Unlock()
	for n := len(keysOfCPU.all); n <= cpu; n++ {
		dir := fmt.Sprintf(cpuDir+"cpu%d/", n)
		keysOfCPU.all = append(keysOfCPU.all, cpuKeys{
			Key(dir + "online"), Key(dir + "hotplug/state"), Key(dir + "hotplug/target"), Key(dir + "hotplug/fail"),
			Key(fmt.Sprintf("/proc/schedstat#cpu%d", n)),
		})
	}
	return keysOfCPU.all[cpu]
}

// pluggable returns the CPUs that have a file online.
func (s *Snapshot) pluggable() []int {
	var cpus []int
	for cpu := range s.Online().Union(s.List(cpuDir + "offline")).All() {
		if s.Has(keysOf(cpu).online) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// cpuOf returns the CPU whose file a key is.
func cpuOf(key Key, file string) (cpu int, ok bool) {
	rest, ok := strings.CutPrefix(string(key), cpuDir+"cpu")
	if !ok {
		return 0, false
	}
	number, rest, _ := strings.Cut(rest, "/")
	cpu, err := strconv.Atoi(number)
	return cpu, err == nil && rest == file
}

// plugged returns the CPU that a line takes offline or online, if it does
// nothing else.
func plugged(l Line) (cpu int, ok bool) {
	if len(l.Commands) != 1 || l.Commands[0].Op != Write {
		return 0, false
	}
	return cpuOf(Key(l.Commands[0].Path), "online")
}
