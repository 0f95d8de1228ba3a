package explore

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// groupFiles are the files of a cpuset that a snapshot has, of those that the
// kernel has. What a pending update would change comes first.
var groupFiles = []string{
	"cpuset.cpus.effective", "cpuset.cpus.partition", "cpuset.cpus.exclusive.effective", "cpuset.cpus.exclusive", "cpuset.cpus",
	"cpuset.mems", "cpuset.mems.effective",
}

// machineFiles are the other files. N stands for each present CPU.
var machineFiles = []string{
	cpuDir + "online", "$R/cpuset.cpus.effective", "$R/cpuset.cpus.isolated", "$R/cpuset.mems.effective",
	cpuDir + "offline", cpuDir + "isolated",
	cpuDir + "cpuN/online", cpuDir + "cpuN/hotplug/state", cpuDir + "cpuN/hotplug/target", cpuDir + "cpuN/hotplug/fail",
	cpuDir + "smt/control", cpuDir + "smt/active",
	workqueueDir + "cpumask", workqueueDir + "cpumask_isolated", workqueueDir + "cpumask_requested",
}

const workqueueDir = "/sys/devices/virtual/workqueue/"

// An Observer takes snapshots of a [Target]. Make one with [NewObserver].
type Observer struct {
	target *Target
	log    *kmsg.Log // nil: there is none
	files  []string  // of machineFiles those that the machine has
	reader *reader
}

// NewObserver returns the observer of a machine. log is where the kernel's log
// is read; nil: it is not read.
func NewObserver(t *Target, log *kmsg.Log) (*Observer, error) {
	present, err := sysfs.Read(t.Path(cpuDir+"present"), affinity.ParseList)
	if err != nil {
		return nil, err
	}
	o := &Observer{target: t, log: log, reader: newReader()}
	for _, file := range machineFiles {
		if !strings.Contains(file, "cpuN") {
			o.add(file)
			continue
		}
		for cpu := range present.All() {
			o.add(strings.Replace(file, "cpuN", fmt.Sprintf("cpu%d", cpu), 1))
		}
	}
	return o, nil
}

// Close closes the files that are kept open, but for the log.
func (o *Observer) Close() { o.reader.closeBelow("") }

// Forget closes the files of a sequence: its tasks and cgroups are gone.
func (o *Observer) Forget() {
	o.reader.closeBelow(o.target.Path("/proc/") + "/")
	o.reader.closeBelow(o.target.Path(rootGroup) + "/")
}

// add adds a file if it can be read.
func (o *Observer) add(file string) {
	if _, err := sysfs.ReadFile(o.target.Path(file)); err == nil {
		o.files = append(o.files, file)
	}
}

// Look takes a snapshot. An error says that there is no state to judge: a file
// that was there is gone, or the log was overrun.
func (o *Observer) Look() (*Snapshot, error) {
	t := o.target
	s := &Snapshot{Readings: make(map[Key]string, 64), Groups: t.Groups()}
	for _, group := range slices.Backward(s.Groups) {
		for _, file := range groupFiles {
			// Which files there are depends on the kernel and on the parent's
			// cgroup.subtree_control.
			if text, err := o.reader.read(t.Path(group + "/" + file)); err == nil {
				s.Readings[Key(group+"/"+file)] = text
			}
		}
	}
	for _, file := range o.files {
		text, err := o.reader.read(t.Path(file))
		if err != nil {
			return nil, err
		}
		s.Readings[Key(file)] = text
	}
	for _, task := range taskNames {
		if _, ok := t.Vars[task]; ok {
			o.task(s, "$"+task)
		}
	}
	if err := o.proc(s); err != nil {
		return nil, err
	}
	if o.log != nil {
		var err error
		if s.Log, err = o.log.Read(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// task reads what there is about a task. One that has ended has no readings.
func (o *Observer) task(s *Snapshot, task string) {
	t := o.target
	pid, err := t.pid(task)
	if err != nil {
		return
	}
	set, err := affinity.Get(pid)
	if err != nil {
		return
	}
	s.Tasks = append(s.Tasks, task)
	s.Readings[Key(task+"#affinity")] = set.String()
	if asked, ok := t.asked[task]; ok {
		s.Readings[Key(task+"#asked")] = asked
	}
	if text, err := o.reader.read(t.Path("/proc/" + task + "/status")); err == nil {
		_, rest, _ := strings.Cut(text, "\nCpus_allowed_list:\t")
		list, _, _ := strings.Cut(rest, "\n")
		s.Readings[Key("/proc/"+task+"/status#allowed")] = list
	}
	if text, err := o.reader.read(t.Path("/proc/" + task + "/cgroup")); err == nil {
		s.Readings[Key(task+"#cgroup")] = o.group(text)
	}
}

// group returns the path in lines of the cgroup that a /proc/PID/cgroup names.
func (o *Observer) group(text string) string {
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
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

// proc reads the parts of long files of /proc that are about CPUs.
func (o *Observer) proc(s *Snapshot) error {
	text, err := o.reader.read(o.target.Path("/proc/stat"))
	if err != nil {
		return err
	}
	s.Readings["/proc/stat#cpus"] = statCPUs(text)
	text, err = o.reader.read(o.target.Path("/proc/schedstat"))
	if err != nil {
		return nil // without CONFIG_SCHEDSTATS
	}
	for cpu, masks := range domains([]byte(text)) {
		s.Readings[Key("/proc/schedstat#"+cpu)] = masks
	}
	return nil
}

// hexMask matches a CPU mask. The names of domains are in capitals.
var hexMask = regexp.MustCompile(`^[0-9a-f,]+$`)

// statCPUs returns the CPUs that have a line in a text like that of /proc/stat,
// with blanks between.
func statCPUs(stat string) string {
	var cpus []string
	for line := range strings.Lines(stat) {
		word, _, _ := strings.Cut(line, " ")
		n, ok := strings.CutPrefix(word, "cpu")
		if !ok {
			break // they come first
		}
		if n != "" {
			cpus = append(cpus, n)
		}
	}
	return strings.Join(cpus, " ")
}

// domains returns the masks of the scheduling domains of each CPU in a text like
// that of /proc/schedstat. The mask is the second word, or the third since v6.14,
// where the second is the domain's name.
func domains(schedstat []byte) map[string]string {
	all := make(map[string]string)
	cpu := ""
	for line := range bytes.Lines(schedstat) {
		f := bytes.SplitN(bytes.TrimSpace(line), []byte(" "), 4)
		switch {
		case len(f) > 1 && bytes.HasPrefix(f[0], []byte("cpu")):
			cpu = string(f[0])
			all[cpu] = ""
		case len(f) > 2 && bytes.HasPrefix(f[0], []byte("domain")):
			mask := string(f[1])
			if !hexMask.MatchString(mask) {
				mask = string(f[2])
			}
			all[cpu] = strings.TrimSpace(all[cpu] + " " + mask)
		}
	}
	return all
}
