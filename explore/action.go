package explore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Tables are what the explorer does and what it checks. [Default] returns those
// of this package; anybody may add rows.
type Tables struct {
	Actions []Action
	Laws    []Law
}

// An Action is something that user space may do.
type Action struct {
	Name string

	// Weight is how often the action is drawn, in relation to the others. 0: 1.
	Weight int

	// Alone reports whether the action is for a machine that nobody else uses: it
	// changes what belongs to others for a while, such as all interrupts.
	Alone bool

	// Needs returns why the machine has no use for the action, or "". nil: every
	// machine has.
	Needs func(f *Facts) string

	// Draw returns the line of shell that does it, or "" if the action makes no
	// sense now. [ParseLine] says what the line may be. It must depend on nothing
	// but d: so a sequence can be drawn again from its seed.
	Draw func(d *Drawer) string
}

// Facts are what actions need to know of the machine.
type Facts struct {
	// Version is that of the kernel.
	Version Version

	// Cgroup is the version of cgroup that the machine's cpusets are of: 1 or 2.
	Cgroup int

	// CPUs are those that may be taken offline and be given to cpusets.
	CPUs affinity.CPUSet

	// Pluggable are those of CPUs that have a file online.
	Pluggable affinity.CPUSet

	// Exists reports whether the machine has a file, by its path in lines.
	Exists func(path string) bool

	// FailStates are the hotplug states that a failure may be injected at.
	FailStates []int

	// IRQs are the interrupts whose mask can be changed. None are known if no
	// action is [Action.Alone].
	IRQs []int

	// Levels are how far a suspend can go by pm_test, and no farther.
	Levels []string
}

// NeedsFile returns an [Action.Needs] that asks for a file of the machine.
func NeedsFile(path, lacks string) func(*Facts) string {
	return func(f *Facts) string {
		if f.Exists(path) {
			return ""
		}
		return lacks
	}
}

// needsCgroup returns an [Action.Needs] that asks for cpusets of a version of
// cgroup.
func needsCgroup(version int) func(*Facts) string {
	return func(f *Facts) string {
		if f.Cgroup == version {
			return ""
		}
		return fmt.Sprintf("the cpusets are of cgroup v%d", f.Cgroup)
	}
}

// needsAll returns an [Action.Needs] that asks for all that others ask for.
func needsAll(needs ...func(*Facts) string) func(*Facts) string {
	return func(f *Facts) string {
		for _, need := range needs {
			if lacks := need(f); lacks != "" {
				return lacks
			}
		}
		return ""
	}
}

// A Drawer is what the lines of a sequence are drawn from: the random numbers,
// the machine, and what the lines so far have made if none was refused.
type Drawer struct {
	*rand.Rand
	*Facts

	groups  []string
	offline affinity.CPUSet
	nested  map[string]bool // groups whose children have the controller; on cgroup v1 all have
	cpus    map[string]affinity.CPUSet
	limits  bool // cgroups have a cpu.max
}

// NewDrawer returns a drawer for one sequence.
func NewDrawer(r *rand.Rand, f *Facts) *Drawer {
	return &Drawer{Rand: r, Facts: f, nested: make(map[string]bool), cpus: make(map[string]affinity.CPUSet)}
}

// Pick returns one of the values, or the zero value if there is none.
func Pick[T any](d *Drawer, values []T) T {
	if len(values) == 0 {
		var zero T
		return zero
	}
	return values[d.IntN(len(values))]
}

// Groups returns the cgroups that there are, parents first.
func (d *Drawer) Groups() []string { return d.groups }

// Group returns one of the cgroups that there are, or "".
func (d *Drawer) Group() string { return Pick(d, d.groups) }

// Offline returns the CPUs that were taken offline.
func (d *Drawer) Offline() affinity.CPUSet { return d.offline }

// CPU returns one of the CPUs of the set, or -1.
func (d *Drawer) CPU(of affinity.CPUSet) int {
	all := slices.Collect(of.All())
	if len(all) == 0 {
		return -1
	}
	return Pick(d, all)
}

// Subset returns some CPUs of the machine, one at least. Few are as likely as
// many.
func (d *Drawer) Subset() affinity.CPUSet { return d.some(d.CPUs) }

// some returns some CPUs of a set that is not empty, one at least.
func (d *Drawer) some(of affinity.CPUSet) affinity.CPUSet {
	all := slices.Collect(of.All())
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return affinity.Of(all[:1+d.IntN(len(all))]...)
}

// List returns a CPU list to write: mostly of some CPUs of the machine, at
// times none, CPUs that there are not, or what is no list.
func (d *Drawer) List() string {
	switch d.IntN(24) {
	case 0:
		return ""
	case 1:
		last, _ := d.CPUs.Last()
		return Pick(d, []string{fmt.Sprint(last + 1), fmt.Sprintf("0-%d", last+5), "3-1", "none", "0-", "4096"})
	default:
		return d.Subset().String()
	}
}

// note brings the drawer's picture of the machine up to date.
func (d *Drawer) note(l Line) {
	for _, c := range l.Commands {
		var cpu int
		switch {
		case c.Op == Write && strings.HasSuffix(c.Path, "/cpuset.cpus"):
			d.cpus[strings.TrimSuffix(c.Path, "/cpuset.cpus")] = parseList(c.Value)
		case c.Op == Mkdir && !slices.Contains(d.groups, c.Path):
			d.groups = append(d.groups, c.Path)
			slices.Sort(d.groups)
		case c.Op == Rmdir:
			d.groups = slices.DeleteFunc(d.groups, func(g string) bool { return g == c.Path })
			delete(d.nested, c.Path)
			delete(d.cpus, c.Path)
		case c.Op == Write && c.Path == limitControl:
			d.limits = d.limits || c.Value == "+cpu"
		case c.Op == Write && strings.HasSuffix(c.Path, "/cgroup.subtree_control") && strings.HasSuffix(c.Value, "cpuset"):
			d.nested[strings.TrimSuffix(c.Path, "/cgroup.subtree_control")] = c.Value == "+cpuset"
		case c.Op == Write:
			if _, err := fmt.Sscanf(c.Path, cpuDir+"cpu%d/online", &cpu); err != nil {
				continue
			}
			switch c.Value {
			case "0":
				d.offline = d.offline.With(cpu)
			case "1":
				d.offline = d.offline.Without(cpu)
			}
		}
	}
}

// Sequence draws a sequence of n steps from a random part of the actions: a few
// often meet what all of them together seldom do. It is the same for the same
// seed, number, facts and actions. The error says that no action is for this
// machine, or wraps [ErrLine].
func Sequence(seed, number uint64, n int, f *Facts, actions []Action) ([]Line, error) {
	d := NewDrawer(rand.New(rand.NewPCG(seed, number)), f)
	drawn := swarm(d, actions)
	if drawn == nil {
		return nil, fmt.Errorf("there is nothing to draw: of %d actions none is for this machine", len(actions))
	}
	var lines []Line
	for tries := 0; len(lines) < n && tries < 20*n; tries++ {
		a := Pick(d, drawn)
		text := a.Draw(d)
		if text == "" {
			continue
		}
		l, err := ParseLine(text)
		if err != nil {
			return nil, fmt.Errorf("action %s: %w", a.Name, err)
		}
		d.note(l)
		lines = append(lines, l)
	}
	return lines, nil
}

// swarm returns a random part of the actions that the machine has a use for,
// each as often as its weight says. It is nil if there is none.
func swarm(d *Drawer, actions []Action) []Action {
	useless := func(a Action) bool { return a.Needs != nil && a.Needs(d.Facts) != "" }
	useful := 0
	for _, a := range actions {
		if !useless(a) {
			useful++
		}
	}
	for useful > 0 {
		var part []Action
		kinds := 0
		for _, a := range actions {
			if d.IntN(2) == 0 || useless(a) {
				continue
			}
			kinds++
			for range max(a.Weight, 1) {
				part = append(part, a)
			}
		}
		if kinds >= min(3, useful) {
			return part
		}
	}
	return nil
}
