package explore

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var taskLaws = []Law{
	{
		Name: "task-in-cpuset",
		Text: "a task may run on CPUs of its cpuset alone",
		Source: cgroupDoc + ", Cpuset: it constrains \"the CPU and memory node placement of tasks to only the resources specified in the cpuset interface files " +
			"in a task's current cgroup\"; cpuset.cpus.effective: \"These CPUs are allowed to be used by tasks within the current cgroup\"; " +
			cpusetsDoc + ", 1.9: a task's \"processor placement is updated immediately\" when its cpuset's is, or when it is moved",
		State: true,
		Check: checkInCpuset,
	},
	{
		Name: "task-has-all",
		Text: "a task may run on all CPUs of its cpuset, or on all those of them that it asked for",
		Source: cgroupDoc + ", Cpuset; cpuset.cpus.effective: the CPUs that \"are allowed to be used by tasks within the current cgroup\"; " + cpusetSource +
			": cpuset_update_tasks_cpumask(); 8f9ea86fdf99 (\"sched: Always preserve the user requested cpumask\", v6.2)",
		Cgroup: 2,
		State:  true,
		Check:  checkHasAll,
	},
	{
		Name: "task-runs",
		Text: "a task that wakes up runs, whatever CPU has gone",
		Source: "Documentation/core-api/cpu_hotplug.rst: when a CPU goes offline \"all processes are migrated away from this outgoing CPU to new CPUs\"; " +
			"kernel/sched/core.c: select_fallback_rq()",
		Lags:  true,
		Check: checkRuns,
	},
	{
		Name: "deadline-admitted",
		Text: "the deadline tasks of a machine need no more than 95 % of its online CPUs",
		Source: "Documentation/scheduler/sched-deadline.rst, 4: the admission control; kernel/sched/deadline.c: dl_bw_deactivate(), before dl_bw_check_overflow(): " +
			"a CPU that is needed does not go offline",
		Check: checkAdmitted,
	},
	{
		Name:   "taskset",
		Text:   "sched_setaffinity(2) succeeds just if an online CPU of the cpuset is in the mask, and the task then has those",
		Source: "sched_setaffinity(2): EINVAL if the mask \"contains no processors that are currently physically on the system and permitted to the thread\"",
		Check:  checkTaskset,
	},
	{
		Name: "cgroup-of-task",
		Text: "a task stays in its cgroup until it is moved, on cgroup v1 until its cpuset has no CPU any more: then the nearest ancestor that has one gets it",
		Source: cgroupDoc + ", Processes: a process is moved by a write to cgroup.procs; " + cpusetsDoc + ", 1.9: " +
			"\"all the tasks in that cpuset will be moved to the nearest ancestor with non-empty cpus\"",
		Check: checkMoved,
	},
}

// cpusetOf returns the cpuset that a task is in: its cgroup, or the nearest
// above that has the controller. ok is false if that is not known, as of a
// cgroup that no line has made: nobody reads its files.
func (s *Snapshot) cpusetOf(task string) (g Group, ok bool) {
	name, ok := s.Readings[Key(task+"#cgroup")]
	if !ok || name == "" || strings.HasPrefix(name, rootGroup+"/") {
		return g, false
	}
	for g = s.Group(name); !g.Root(); g = g.Parent() {
		if s.Has(g.Key("effective")) {
			return g, true
		}
	}
	return g, true
}

// refusedOffline reports whether the step has a CPU that was to go offline, and
// did not.
func (c *Case) refusedOffline() bool {
	for i, command := range c.Step.Commands {
		if c.Result.Errs[i] == 0 {
			continue
		}
		if _, ok := cpuOf(Key(command.Path), "online"); ok && command.Value == "0" {
			return true
		}
		if cpu, ok := cpuOf(Key(command.Path), "hotplug/target"); ok && c.Before.Readings[keysOf(cpu).online] == "1" {
			return true
		}
	}
	return false
}

// moves reports whether the step moves a task to a cgroup.
func (c *Case) moves(task string) bool {
	for i, command := range c.Step.Commands {
		if command.Op == Write && command.Value == task && c.Result.Errs[i] == 0 {
			return true
		}
	}
	return false
}

func affinityKey(task string) Key { return Key(task + "#affinity") }

func checkInCpuset(c *Case) []Violation {
	var broken []Violation
	for _, task := range c.After.Tasks {
		g, ok := c.After.cpusetOf(task)
		if !ok || g.Root() || g.deserted() {
			continue
		}
		outside := c.After.List(affinityKey(task)).Difference(g.Effective())
		if outside.Empty() {
			continue
		}
		touches := "a task in a " + g.Kind()
		switch {
		case outside.Difference(c.After.Online().Difference(c.Before.Online())).Empty():
			touches = "a CPU that came online, and " + touches
		case c.refusedOffline():
			touches = "an offline that was refused, and " + touches
		case c.moves(task):
			touches = "a move, and " + touches
		}
		broken = append(broken, c.misplaced(task, g, touches, "CPU "+outside.String()))
	}
	return broken
}

// misplaced is the violation of a task whose mask does not fit its cpuset g.
func (c *Case) misplaced(task string, g Group, touches, cpus string) Violation {
	return Violation{
		Touches: touches,
		Seen:    fmt.Sprintf("task %s may run on %s, and its cpuset %s has %q", task, cpus, g.Name, g.Effective()),
		Facts:   c.After.facts(affinityKey(task), Key(task+"#cgroup"), g.Key("effective")),
	}
}

// checkHasAll does not judge tasks in the root cpuset: the kernel leaves their
// masks alone.
func checkHasAll(c *Case) []Violation {
	var broken []Violation
	for _, task := range c.After.Tasks {
		g, ok := c.After.cpusetOf(task)
		mask := c.After.List(affinityKey(task))
		if !ok || g.Root() || g.deserted() || mask.Empty() {
			continue
		}
		may := g.Effective().Intersect(c.After.Online())
		asked, err := parseHex(c.After.Readings[Key(task+"#asked")])
		if may.Difference(mask).Empty() || err == nil && mask.Equal(asked.Intersect(may)) {
			continue
		}
		if !mask.Difference(may).Empty() {
			continue // another law is about that
		}
		touches := "a task in a " + g.Kind() + c.afterWrite(g)
		if c.moves(task) {
			touches = "a move, and " + touches
		}
		broken = append(broken, c.misplaced(task, g, touches, "CPUs "+mask.String()+" alone"))
	}
	return broken
}

// checkRuns leaves out deadline tasks, which wait for their next period.
func checkRuns(c *Case) []Violation {
	var broken []Violation
	for _, task := range c.After.Stuck {
		class := Key(task + "#class")
		if strings.HasPrefix(c.After.Readings[class], deadline) {
			continue
		}
		broken = append(broken, Violation{
			Touches: "a task that wakes up",
			Seen:    fmt.Sprintf("task %s has not run for more than %v; it may run on CPUs %q", task, stuckTime, c.After.List(affinityKey(task))),
			Facts:   c.After.facts(affinityKey(task), onlineKey),
		})
	}
	return broken
}

// dlOptions has the runtime and the period of a deadline task's class.
var dlOptions = regexp.MustCompile(`^-d -T (\d+) -D \d+ -P (\d+) `)

// checkAdmitted looks at a machine without partitions: each has its own share.
func checkAdmitted(c *Case) []Violation {
	if slices.ContainsFunc(c.After.All(), func(g Group) bool { return !g.Root() && g.Valid() }) || c.After.Cgroup() == 1 {
		return nil
	}
	var needed float64
	for _, task := range c.After.Tasks {
		if m := dlOptions.FindStringSubmatch(c.After.Readings[Key(task+"#class")]); m != nil {
			runtime, _ := strconv.ParseFloat(m[1], 64)
			period, _ := strconv.ParseFloat(m[2], 64)
			needed += runtime / period
		}
	}
	if online := c.After.Online(); needed > 0.96*float64(online.Count()) {
		return []Violation{{
			Touches: "the online CPUs",
			Seen:    fmt.Sprintf("deadline tasks need %.2f CPUs, and CPUs %v are online", needed, online),
			Facts:   c.After.facts(onlineKey),
		}}
	}
	return nil
}

// checkTaskset judges a line that gives one task a mask and does nothing else.
func checkTaskset(c *Case) []Violation {
	if len(c.Step.Commands) != 1 || c.Step.Commands[0].Op != Taskset {
		return nil
	}
	command, got := c.Step.Commands[0], c.Result.Errs[0]
	asked, err := parseHex(command.Value)
	g, ok := c.Before.cpusetOf(command.Task)
	if err != nil || !ok || g.deserted() || !c.Before.Has(affinityKey(command.Task)) {
		return nil
	}
	if strings.HasPrefix(c.Before.Readings[Key(command.Task+"#class")], deadline) {
		return nil // SCHED_DEADLINE has rules of its own: sched(7)
	}
	can := asked.Intersect(g.Effective()).Intersect(c.Before.Online())
	facts := c.After.facts(affinityKey(command.Task), Key(command.Task+"#cgroup"), g.Key("effective"), onlineKey)
	was, is := c.Before.List(affinityKey(command.Task)), c.After.List(affinityKey(command.Task))
	v := Violation{Facts: facts}
	switch {
	case asked.Intersect(c.Before.Online()).Empty() && got == 0 && was.Empty():
		// All CPUs of its mask are offline, and it has not run since. It may be
		// given that mask again: __set_cpus_allowed_ptr_locked() does nothing then.
		return nil
	case can.Empty() && got == 0:
		v.Touches = "a mask of no CPU of the cpuset's is taken"
	case can.Empty() && got != unix.EINVAL, !can.Empty() && got != 0:
		v.Touches = "a mask is refused with " + errnoName(got)
	case !can.Empty() && !is.Equal(can):
		v.Touches = "the task has another mask than it was given"
	default:
		return nil
	}
	v.Seen = fmt.Sprintf("%q: %s; of its mask the cpuset %s has %q, and the task has %q", c.Step, errnoName(got), g.Name, can, is)
	return []Violation{v}
}

func errnoName(e unix.Errno) string {
	if e == 0 {
		return "success"
	}
	return unix.ErrnoName(e)
}

func checkMoved(c *Case) []Violation {
	var broken []Violation
	for _, task := range c.After.Tasks {
		key := Key(task + "#cgroup")
		was, ok := c.Before.Readings[key]
		if is := c.After.Readings[key]; ok && is != was && !strings.Contains(c.Step.String(), task) && !c.fled(was, is) {
			broken = append(broken, Violation{
				Touches: "a task that nobody moved",
				Seen:    fmt.Sprintf("task %s is in %s and was in %s", task, is, was),
				Facts:   c.After.facts(key),
			})
		}
	}
	return broken
}
