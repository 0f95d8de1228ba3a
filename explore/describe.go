package explore

import (
	"fmt"
	"path"
	"strings"
)

// describe says what a line does, for people.
func describe(l Line) string {
	var all []string
	for _, c := range l.Commands {
		all = append(all, c.describe())
	}
	if l.Parallel {
		return strings.Join(all, ", at the same time ")
	}
	return strings.Join(all, ", then ")
}

func (c Command) describe() string {
	switch c.Op {
	case Mkdir:
		return "make a cgroup"
	case Rmdir:
		return "remove the cgroup"
	case Taskset:
		return "give the task a mask"
	case Chrt:
		return "give the task a scheduling class"
	}
	if cpu, ok := cpuOf(Key(c.Path), "online"); ok {
		return fmt.Sprintf("take CPU %d %s", cpu, map[string]string{"0": "offline", "1": "online"}[c.Value])
	}
	if cpu, ok := cpuOf(Key(c.Path), "hotplug/fail"); ok {
		return fmt.Sprintf("have the next operation on CPU %d fail at a state", cpu)
	}
	switch file := path.Base(c.Path); file {
	case "cpuset.cpus", "cpuset.mems", "cpuset.cpus.exclusive":
		if c.Value == "" {
			return "ask for none in particular"
		}
		return "ask for " + c.Value
	case "cpuset.cpus.partition":
		return "make it " + map[string]string{"root": "a partition root", "isolated": "an isolated partition", "member": "no partition"}[c.Value]
	case "cgroup.subtree_control":
		return "for its children: " + c.Value
	case balanceFile, "cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.memory_migrate", "cgroup.clone_children":
		_, flag, _ := strings.Cut(file, ".")
		return map[string]string{"0": "no ", "1": ""}[c.Value] + strings.ReplaceAll(flag, "_", " ")
	case "cgroup.procs", "cgroup.threads", "tasks":
		return "move the task here"
	default:
		return "write to " + file
	}
}
