package explore

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// Undo returns the lines that take the machine back to the state base, from
// wherever lines have brought it.
func (t *Target) Undo(base *Snapshot) []Line {
	var lines []Line
	add := func(c Command) { lines = append(lines, Line{Commands: []Command{c}}) }
	for _, task := range taskNames {
		if _, ok := t.Vars[task]; ok && len(t.groups) > 0 {
			add(Command{Op: Write, Path: rootGroup + "/cgroup.procs", Value: "$" + task})
		}
	}
	for _, group := range slices.Backward(t.Groups()) {
		add(Command{Op: Rmdir, Path: group})
	}
	for _, path := range slices.Sorted(maps.Keys(t.first)) {
		_, online := cpuOf(Key(path), "online")
		if was := t.first[path]; !online && strings.HasPrefix(path, "/sys/devices/") || strings.HasPrefix(path, "/proc/irq/") {
			if now, err := sysfs.ReadFile(t.Path(path)); err == nil && now != was {
				add(Command{Op: Write, Path: path, Value: was})
			}
		}
	}
	for _, key := range onlineKeys(base) {
		if now, err := sysfs.ReadFile(t.Path(string(key))); err == nil && now != base.Readings[key] {
			add(Command{Op: Write, Path: string(key), Value: base.Readings[key]})
		}
	}
	return lines
}

// onlineKeys returns the keys of the files online of CPUs.
func onlineKeys(s *Snapshot) []Key {
	var keys []Key
	for key := range s.Readings {
		if _, ok := cpuOf(key, "online"); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

var cpuFile = regexp.MustCompile(`^/sys/devices/system/cpu/cpu(\d+)/(.+)$`)

// cpuOf returns the CPU whose file a key is.
func cpuOf(key Key, file string) (cpu int, ok bool) {
	m := cpuFile.FindStringSubmatch(string(key))
	if m == nil || m[2] != file {
		return 0, false
	}
	cpu, err := strconv.Atoi(m[1])
	return cpu, err == nil
}

// plugged returns the CPU that a line takes offline or online, if it does
// nothing else.
func plugged(l Line) (cpu int, ok bool) {
	if len(l.Commands) != 1 || l.Commands[0].Op != Write {
		return 0, false
	}
	return cpuOf(Key(l.Commands[0].Path), "online")
}
