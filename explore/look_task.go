package explore

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// task reads what there is about a task, and reports whether it lives. One that
// has ended has no readings.
func (o *Observer) task(name string) bool {
	t := o.target
	pid, err := t.pid(name)
	if err != nil {
		o.forgetTask(name)
		return false
	}
	set, err := affinity.Get(pid)
	if err != nil {
		o.forgetTask(name)
		return false
	}
	files := o.tasks[name]
	if files == nil || files.pid != pid {
		o.forgetTask(name)
		files = &taskFiles{pid: pid}
		files.status = newFile(Key("/proc/"+name+"/status#allowed"), t.Path("/proc/"+name+"/status"))
		files.cgroup = newFile(Key(name+"#cgroup"), t.Path("/proc/"+name+"/cgroup"))
		o.tasks[name] = files
	}
	if !o.has(affinityKey(name)) || !set.Equal(files.affinity) {
		files.affinity = set
		o.set(affinityKey(name), set.String())
	}
	if asked, ok := t.asked[name]; ok {
		o.set(Key(name+"#asked"), asked)
	}
	if class, ok := t.class[name]; ok {
		o.set(Key(name+"#class"), class)
	}
	if text, err := o.reader.read(files.status); err == nil {
		_, rest, _ := bytes.Cut(text, []byte("\nCpus_allowed_list:\t"))
		list, _, _ := bytes.Cut(rest, []byte("\n"))
		o.set(files.status.key, string(list))
		files.ran(switches(text), time.Now())
	}
	if text, err := o.reader.read(files.cgroup); err == nil && (!o.has(files.cgroup.key) || string(text) != files.cgroup.text) {
		files.cgroup.text = string(text)
		o.set(files.cgroup.key, o.group(files.cgroup.text))
	}
	return true
}

// switchCount matches the lines of /proc/PID/status that say how often a task was
// taken off a CPU.
var switchCount = regexp.MustCompile(`(?m)^(?:non)?voluntary_ctxt_switches:\t(\d+)$`)

// switches returns how often a task was taken off a CPU.
func switches(status []byte) (n uint64) {
	for _, m := range switchCount.FindAllSubmatch(status, -1) {
		count, _ := strconv.ParseUint(string(m[1]), 10, 64)
		n += count
	}
	return n
}

// ran notes how often the task was taken off a CPU by now.
func (t *taskFiles) ran(switches uint64, now time.Time) {
	if switches != t.switches || t.since.IsZero() {
		t.switches, t.since = switches, now
	}
}

// stuck returns the tasks that wake up often and have not run for stuckTime.
func (o *Observer) stuck() (tasks []string) {
	for _, name := range taskNames {
		t := o.tasks["$"+name]
		if t != nil && naps[name].Sec == 0 && time.Since(t.since) > stuckTime {
			tasks = append(tasks, "$"+name)
		}
	}
	return tasks
}

// stuckTime is how long a task that wakes up every 20 ms may take to run on a
// busy machine.
const stuckTime = time.Second

func (o *Observer) has(key Key) bool {
	_, ok := o.readings[key]
	return ok
}

func (o *Observer) forgetTask(name string) {
	if files := o.tasks[name]; files != nil {
		files.status.close()
		files.cgroup.close()
		for _, key := range []Key{files.status.key, files.cgroup.key, affinityKey(name), Key(name + "#asked"), Key(name + "#class")} {
			o.drop(key)
		}
	}
	delete(o.tasks, name)
}

// group returns the path in lines of the cgroup that a /proc/PID/cgroup names,
// by the line of cgroup v1 for cpusets, or if there is none by that of v2,
// which is the last.
func (o *Observer) group(text string) string {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if controllers != "" && !slices.Contains(strings.Split(controllers, ","), "cpuset") {
			continue
		}
		path = strings.TrimSuffix(path, " (deleted)")
		path = o.target.Vars["R"] + strings.TrimSuffix(path, "/")
		for _, name := range append(slices.Clone(topGroups), "R") {
			if rest, ok := strings.CutPrefix(path, o.target.Vars[name]); ok && (rest == "" || rest[0] == '/') {
				return "$" + name + rest
			}
		}
	}
	return ""
}
