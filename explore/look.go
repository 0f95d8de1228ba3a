package explore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// groupFiles are the files of a cpuset that a snapshot has, of those that the
// kernel has. What a pending update would change comes first.
var groupFiles = []string{
	"cpuset.cpus.effective", "cpuset.cpus.partition", "cpuset.cpus.exclusive.effective", "cpuset.cpus.exclusive", "cpuset.cpus",
	"cpuset.mems", "cpuset.mems.effective",
	// of cgroup v1
	"cpuset.effective_cpus", "cpuset.effective_mems", "cpuset.cpu_exclusive", "cpuset.mem_exclusive", balanceFile, "cpuset.memory_migrate",
	"cgroup.clone_children",
}

// machineFiles are the other files that any line may change.
var machineFiles = []string{
	cpuDir + "online", "$R/cpuset.cpus.isolated", "$R/cpuset.mems.effective",
	"$R/cpuset.cpus", "$R/cpuset.mems", string(balanceKey), // of cgroup v1
	"/proc/irq/default_smp_affinity",
	cpuDir + "isolated", workqueueDir + "cpumask", workqueueDir + "cpumask_isolated", workqueueDir + "cpumask_requested",
}

// cpuFiles are the files that an operation on a CPU changes, and nothing else.
// N stands for each present CPU.
var cpuFiles = []string{
	cpuDir + "offline", cpuDir + "cpuN/online", cpuDir + "cpuN/hotplug/state", cpuDir + "cpuN/hotplug/target", cpuDir + "cpuN/hotplug/fail",
	smtControl, string(smtActive), string(presentKey),
}

const workqueueDir = "/sys/devices/virtual/workqueue/"

// An Observer takes snapshots of a [Target]. Make one with [NewObserver].
type Observer struct {
	target  *Target
	log     *kmsg.Log    // nil: there is none
	uevents *uevent.Conn // nil: nobody listens
	reader  *reader

	root            *file // the root's effective CPUs
	machine, cpus   []*file
	described       []*file          // of CPUs and nodes: they come and go
	irqs            map[string]*file // masks of interrupts that lines have written
	stat, schedstat *file
	interrupts      *file
	domainKeys      []Key              // of schedstat
	groups          map[string][]*file // by the path of the cgroup in lines
	tasks           map[string]*taskFiles

	complaint *Violation // the first of the kernel's log; nil: none

	readings map[Key]string // the last ones; never changed if a snapshot has them
	shared   bool           // a snapshot has them
	state    uint64         // how often they have changed
	partial  int            // how many looks were not at everything since one was
}

// taskFiles are those of a task.
type taskFiles struct {
	pid            int
	status, cgroup *file
	affinity       affinity.CPUSet
	switches       uint64    // how often it was taken off a CPU
	since          time.Time // when that was seen to change
}

// maxPartial is how many looks in a row may leave out what the line before
// cannot have changed.
const maxPartial = 15

// NewObserver returns the observer of a machine. log is where the kernel's log
// is read; nil: it is not read.
func NewObserver(t *Target, log *kmsg.Log) (*Observer, error) {
	present, err := sysfs.Read(t.Path(cpuDir+"present"), affinity.ParseList)
	if err != nil {
		return nil, err
	}
	o := &Observer{target: t, log: log, reader: newReader(), readings: make(map[Key]string)}
	o.groups, o.tasks = make(map[string][]*file), make(map[string]*taskFiles)
	root := Key("$R/cpuset.cpus.effective")
	if exists(t.Path(string(balanceKey))) {
		root = "$R/cpuset.effective_cpus"
	}
	o.root = newFile(root, t.Path(string(root)))
	o.irqs = make(map[string]*file)
	o.stat, o.schedstat = newFile("/proc/stat#cpus", t.Path("/proc/stat")), newFile("/proc/schedstat", t.Path("/proc/schedstat"))
	o.stat.records, o.schedstat.records = true, true
	o.interrupts = newFile("/proc/interrupts#cpus", t.Path("/proc/interrupts"))
	for _, name := range machineFiles {
		o.machine = o.add(o.machine, name)
	}
	for _, name := range cpuFiles {
		if !strings.Contains(name, "cpuN") {
			o.cpus = o.add(o.cpus, name)
			continue
		}
		for cpu := range present.All() {
			o.cpus = o.add(o.cpus, strings.Replace(name, "cpuN", fmt.Sprintf("cpu%d", cpu), 1))
		}
	}
	o.describe(present)
	return o, nil
}

// add adds a file if it can be read.
func (o *Observer) add(files []*file, name string) []*file {
	if _, err := sysfs.ReadFile(o.target.Path(name)); err != nil {
		return files
	}
	return append(files, newFile(Key(name), o.target.Path(name)))
}

// Close closes the files that are kept open, but for the log.
func (o *Observer) Close() {
	o.Forget()
	for _, f := range slices.Concat(o.machine, o.cpus, o.described, []*file{o.root, o.stat, o.schedstat, o.interrupts}) {
		f.close()
	}
}

// Forget closes the files of a sequence: its tasks and cgroups are gone.
func (o *Observer) Forget() {
	for name := range o.groups {
		o.forgetGroup(name)
	}
	for name := range o.tasks {
		o.forgetTask(name)
	}
	for path, f := range o.irqs {
		f.close()
		o.drop(f.key)
		delete(o.irqs, path)
	}
}

func (o *Observer) forgetGroup(name string) {
	for _, f := range o.groups[name] {
		f.close()
		o.drop(f.key)
	}
	delete(o.groups, name)
}

// own returns the readings, to be changed: those that a snapshot has are
// copied.
func (o *Observer) own() map[Key]string {
	if o.shared {
		o.readings, o.shared = maps.Clone(o.readings), false
	}
	o.state++
	return o.readings
}

func (o *Observer) set(key Key, text string) {
	if was, ok := o.readings[key]; !ok || was != text {
		o.own()[key] = text
	}
}

func (o *Observer) drop(key Key) {
	if _, ok := o.readings[key]; ok {
		delete(o.own(), key)
	}
}

// read reads a file into the readings. What can't be read has none.
func (o *Observer) read(f *file) error {
	text, err := o.reader.read(f)
	if err != nil {
		o.drop(f.key)
		return err
	}
	if string(text) != f.text {
		f.text = string(text)
	}
	o.set(f.key, f.text)
	return nil
}

func (o *Observer) readAll(files []*file) error {
	for _, f := range files {
		if err := o.read(f); err != nil {
			return err
		}
	}
	return nil
}

// Look takes a snapshot. An error says that there is no state to judge: a file
// that was there is gone, or the log was overrun and the rest has no complaint.
func (o *Observer) Look() (*Snapshot, error) { return o.look(true, true, true) }

// LookAfter is [Observer.Look] right after a line was performed. It leaves out
// what such a line cannot change, mostly.
func (o *Observer) LookAfter(l Line) (*Snapshot, error) {
	o.wrote(l)
	if o.partial++; o.partial > maxPartial {
		return o.Look()
	}
	return o.look(touches(l))
}

// touches says what a line may change: CPUs, scheduling domains, and which
// cgroups there are and what files they have.
func touches(l Line) (cpus, domains, groups bool) {
	for _, c := range l.Commands {
		switch {
		case c.Op == Taskset || c.Op == Chrt:
		case c.Op == Mkdir || c.Op == Rmdir, strings.HasSuffix(c.Path, "/cgroup.subtree_control"):
			domains, groups = true, true
		case strings.HasPrefix(c.Path, "$"):
			domains = domains || strings.Contains(c.Path, "/cpuset.cpus") || strings.HasSuffix(c.Path, "/"+balanceFile)
		case !strings.HasPrefix(c.Path, workqueueDir) && !strings.HasPrefix(c.Path, "/proc/irq/"):
			cpus, domains = true, true
		}
	}
	return cpus, domains, groups
}

// look takes a snapshot of what any line changes, and of what is named.
func (o *Observer) look(cpus, domains, groups bool) (*Snapshot, error) {
	if cpus && domains && groups {
		o.partial = 0
	}
	s := &Snapshot{Groups: o.target.Groups()}
	// What an operation left to be done later may be done in a moment.
	if err := o.read(o.root); err != nil && o.root.text != "" {
		return nil, err
	}
	o.lookAtGroups(s.Groups, groups)
	online := o.readings[onlineKey]
	if err := o.readAll(o.machine); err != nil {
		return nil, err
	}
	if cpus = cpus || o.readings[onlineKey] != online; cpus {
		if err := o.readAll(o.cpus); err != nil {
			return nil, err
		}
		for _, f := range o.described {
			_ = o.read(f)
		}
	}
	for _, f := range o.irqs {
		_ = o.read(f)
	}
	for _, name := range taskNames {
		if o.task("$" + name) {
			s.Tasks = append(s.Tasks, "$"+name)
		}
	}
	s.Stuck = o.stuck()
	if err := o.proc(cpus, domains); err != nil {
		return nil, err
	}
	var err error
	if s.Log, err = o.readLog(); err != nil {
		return nil, err
	}
	if s.Uevents, s.Heard, err = o.readUevents(); err != nil {
		return nil, err
	}
	s.Readings, s.state, o.shared = o.readings, o.state, true
	return s, nil
}

// readLog returns what the kernel has logged since it was called last.
func (o *Observer) readLog() ([]kmsg.Record, error) {
	if o.log == nil {
		return nil, nil
	}
	log, err := o.log.Read()
	if !enough(log, err) {
		return nil, err
	}
	if broken := complaints(log); broken != nil && o.complaint == nil {
		o.complaint = &broken[0]
		o.complaint.Law = logLaw.Name
	}
	return log, nil
}

// enough reports whether a read of the log has what laws need. If the log was
// overrun there may have been a complaint in what is lost: unless there is one
// in the rest, nobody knows. A kernel that warns without end does that.
func enough(log []kmsg.Record, err error) bool {
	var overrun *kmsg.Overrun
	return err == nil || errors.As(err, &overrun) && complaints(log) != nil
}

// lookAtGroups reads the files of the cgroups. Which there are depends on the
// kernel and on the parent's cgroup.subtree_control.
func (o *Observer) lookAtGroups(names []string, changed bool) {
	for name := range o.groups {
		if !slices.Contains(names, name) {
			o.forgetGroup(name)
		}
	}
	for _, name := range slices.Backward(names) {
		if o.groups[name] == nil {
			for _, base := range groupFiles {
				o.groups[name] = append(o.groups[name], newFile(Key(name+"/"+base), o.target.Path(name+"/"+base)))
			}
		}
		for _, f := range o.groups[name] {
			if changed || !f.absent {
				_ = o.read(f)
			}
		}
	}
}
