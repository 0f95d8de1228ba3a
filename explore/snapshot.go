package explore

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// A Snapshot is what the kernel says about its CPUs, cpusets and tasks at one
// moment. Laws are functions of snapshots.
type Snapshot struct {
	// Readings are the texts that were read, by what was read: see [Key].
	Readings map[Key]string

	// state is the same for snapshots of one [Observer] that have the same
	// readings, and 0 for others.
	state uint64

	// Log is what the kernel has logged since the snapshot before this one.
	Log []kmsg.Record

	// Uevents are those about CPUs since the snapshot before this one. Heard is
	// false if they are not known.
	Uevents []Uevent
	Heard   bool

	// Groups are the cgroups that lines have made, parents first, by their path
	// in lines. The root of the hierarchy is not among them.
	Groups []string

	// Tasks are the tasks that lines can move, such as "$T1".
	Tasks []string

	// Stuck are those of them that wake up often and have not run for a second.
	Stuck []string
}

// A Key says what was read. It is the path of a file, in which variables may
// be, or one of:
//   - /proc/stat#cpus: the CPUs that have a line, with blanks between
//   - /proc/interrupts#cpus: the CPUs that have a column, with blanks between
//   - /proc/schedstat#cpuN: the masks of the CPU's scheduling domains, lowest
//     first, with blanks between
//   - /proc/TASK/status#allowed: the CPU list Cpus_allowed_list
//   - TASK#affinity: what sched_getaffinity(2) returns for a task, a CPU list
//   - TASK#asked: the last mask that taskset gave a task; none: it was given none
//   - TASK#class: the options of the last chrt that gave a task its scheduling
//     class; none: it has the one that it had at first
//   - TASK#cgroup: the cgroup of a task, by its path in lines
type Key string

// follow has the snapshot tell also of what has happened up to an earlier one of
// the same step.
func (s *Snapshot) follow(earlier *Snapshot) {
	s.Log = slices.Concat(earlier.Log, s.Log)
	s.Uevents, s.Heard = slices.Concat(earlier.Uevents, s.Uevents), earlier.Heard && s.Heard
}

// Has reports whether the kernel has what the key stands for.
func (s *Snapshot) Has(key Key) bool {
	_, ok := s.Readings[key]
	return ok
}

// List returns a reading that is a CPU list. It is empty if there is none.
func (s *Snapshot) List(key Key) affinity.CPUSet { return parseList(s.Readings[key]) }

// lists and masks have the sets of texts: the empty one if a text is none.
var (
	lists = newMemo(orEmpty(affinity.ParseList))
	masks = newMemo(orEmpty(affinity.ParseMask))
)

func parseList(text string) affinity.CPUSet { return lists.of(text) }

func parseMask(text string) affinity.CPUSet { return masks.of(text) }

func orEmpty(parse func(string) (affinity.CPUSet, error)) func(string) affinity.CPUSet {
	return func(text string) affinity.CPUSet {
		set, _ := parse(text)
		return set
	}
}

// A memo has what a function has returned before: there are few texts, and they
// come over and over.
type memo[T any] struct {
	f     func(string) T
	mutex sync.Mutex
	known map[string]T
}

// maxKnown bounds what a memo has.
const maxKnown = 4096

func newMemo[T any](f func(string) T) *memo[T] { return &memo[T]{f: f, known: make(map[string]T)} }

func (m *memo[T]) of(text string) T {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	value, ok := m.known[text]
	if !ok {
		if len(m.known) >= maxKnown {
			clear(m.known)
		}
		value = m.f(text)
		m.known[text] = value
	}
	return value
}

// balanceFile is a file that cpusets of cgroup v1 have, and others have not.
const balanceFile = "cpuset.sched_load_balance"

const balanceKey = Key(rootGroup + "/" + balanceFile)

// Cgroup returns the version of cgroup that the cpusets are of: 1 or 2.
func (s *Snapshot) Cgroup() int {
	if s.Has(balanceKey) {
		return 1
	}
	return 2
}

// Online returns /sys/devices/system/cpu/online.
func (s *Snapshot) Online() affinity.CPUSet { return s.List(onlineKey) }

const (
	cpuDir     = "/sys/devices/system/cpu/"
	smtControl = cpuDir + "smt/control"
	onlineKey  = Key(cpuDir + "online")
)

// A Group is a cpuset in a snapshot.
type Group struct {
	Name string // its path in lines: "$R" is the root
	snap *Snapshot
}

// Group returns a cpuset of the snapshot.
func (s *Snapshot) Group(name string) Group { return Group{name, s} }

// All returns the root cpuset and those that lines have made and that have the
// cpuset controller, parents first.
func (s *Snapshot) All() []Group {
	all := []Group{s.Group(rootGroup)}
	for _, name := range s.Groups {
		if g := s.Group(name); s.Has(g.Key("effective")) {
			all = append(all, g)
		}
	}
	return all
}

const rootGroup = "$R"

// Key returns the key of a file of the cpuset controller: "effective" stands
// for cpuset.cpus.effective, on cgroup v1 for cpuset.effective_cpus, and "" for
// cpuset.cpus.
func (g Group) Key(file string) Key {
	if file == "effective" && g.snap.Cgroup() == 1 {
		return Key(g.Name + "/cpuset.effective_cpus")
	}
	return Key(strings.TrimSuffix(g.Name+"/cpuset.cpus."+file, "."))
}

// CPUs returns cpuset.cpus.
func (g Group) CPUs() affinity.CPUSet { return g.snap.List(g.Key("")) }

// Effective returns cpuset.cpus.effective, on cgroup v1 cpuset.effective_cpus.
func (g Group) Effective() affinity.CPUSet { return g.snap.List(g.Key("effective")) }

// Partition returns cpuset.cpus.partition: "member", "root", "isolated", or an
// invalid one with its reason. That of the root cpuset is "root".
func (g Group) Partition() string {
	if g.Root() {
		return "root"
	}
	return g.snap.Readings[g.Key("partition")]
}

// Kind returns Partition without the reason, and "cpuset" on cgroup v1, which
// has no partitions.
func (g Group) Kind() string {
	kind, _, _ := strings.Cut(g.Partition(), " (")
	return cmp.Or(kind, "cpuset")
}

// Valid reports whether the cpuset is a valid partition.
func (g Group) Valid() bool { return g.Partition() == "root" || g.Partition() == "isolated" }

// Root reports whether it is the root cpuset.
func (g Group) Root() bool { return g.Name == rootGroup }

// Parent returns the cpuset above, which for the root is the root itself.
func (g Group) Parent() Group {
	i := strings.LastIndexByte(g.Name, '/')
	if i < 0 {
		return g.snap.Group(rootGroup)
	}
	return g.snap.Group(g.Name[:i])
}

// Below reports whether g is h or somewhere below it.
func (g Group) Below(h Group) bool {
	return h.Root() || g.Name == h.Name || strings.HasPrefix(g.Name, h.Name+"/")
}

// WriteTo writes the snapshot as text: a line KEY: VALUE for each reading, in
// order, one "log: LEVEL TEXT" for each record of the log, and one "uevent:
// ACTION CPU" for each uevent, or for all of them "uevent: none", and one "stuck:
// TASK" for each task of Stuck. [ReadSnapshot] reads it.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(s.Readings)) {
		fmt.Fprintf(&b, "%s: %s\n", key, strings.ReplaceAll(s.Readings[key], "\n", `\n`))
	}
	for _, r := range s.Log {
		fmt.Fprintf(&b, "log: %d %s\n", r.Level, r.Text)
	}
	for _, e := range s.Uevents {
		fmt.Fprintf(&b, "uevent: %s %d\n", e.Action, e.CPU)
	}
	for _, task := range s.Stuck {
		fmt.Fprintf(&b, "stuck: %s\n", task)
	}
	if s.Heard && s.Uevents == nil {
		b.WriteString("uevent: none\n")
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// ReadSnapshot reads what [Snapshot.WriteTo] writes. Empty lines, and those
// that begin with #, are passed over.
func ReadSnapshot(r io.Reader) (*Snapshot, error) {
	s := &Snapshot{Readings: make(map[Key]string)}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d: %q: want KEY: VALUE", n, line)
		}
		value = strings.TrimPrefix(value, " ")
		switch key {
		case "log":
			var record kmsg.Record
			level, text, _ := strings.Cut(value, " ")
			if _, err := fmt.Sscan(level, &record.Level); err != nil {
				return nil, fmt.Errorf("line %d: %q: want log: LEVEL TEXT", n, line)
			}
			record.Text = text
			s.Log = append(s.Log, record)
		case "uevent":
			s.Heard = true
			var e Uevent
			if value == "none" {
				continue
			}
			if _, err := fmt.Sscan(value, &e.Action, &e.CPU); err != nil {
				return nil, fmt.Errorf("line %d: %q: want uevent: ACTION CPU", n, line)
			}
			s.Uevents = append(s.Uevents, e)
		case "stuck":
			s.Stuck = append(s.Stuck, value)
		default:
			s.Readings[Key(key)] = strings.ReplaceAll(value, `\n`, "\n")
		}
	}
	s.index()
	return s, lines.Err()
}

// index finds the groups and the tasks among the readings.
func (s *Snapshot) index() {
	for _, key := range slices.Sorted(maps.Keys(s.Readings)) {
		for _, file := range []string{"/cpuset.cpus.effective", "/cpuset.effective_cpus"} {
			if name, ok := strings.CutSuffix(string(key), file); ok && name != rootGroup {
				s.Groups = append(s.Groups, name)
			}
		}
		if name, ok := strings.CutSuffix(string(key), "#affinity"); ok {
			s.Tasks = append(s.Tasks, name)
		}
	}
}
