package suite

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

// Placement is a cpuset to look from: what a thread may do with a CPU depends
// on the cpuset that it is in.
type Placement struct {
	// Name is as in a test's name.
	Name string
	// Group is the cpuset. nil: this machine does not have it.
	Group *cpuset.Group
	// Parent is the child's parent, for more of its kind. nil: there is none.
	Parent *cpuset.Group
	// Enters says that a thread must be moved there: the process is in the
	// root already.
	Enters bool
	// Partition is what the cpuset is a partition of. nil: it is none.
	Partition *Partition
	// Missing is an [*Unsupported] if this machine does not have it.
	Missing error
	// DropsOffline says that it loses a CPU that goes offline for good.
	DropsOffline bool

	detects string // whether a stale cpuset shows there
}

// Enter moves the calling thread into the cpuset.
func (p *Placement) Enter() error {
	if !p.Enters {
		return nil
	}
	return p.Group.AttachThread(0)
}

// dropsOffline reports whether a child in a hierarchy loses a CPU that goes
// offline for good. This is by design of cgroup v1.
func dropsOffline(h *cpuset.Hierarchy) bool { return h.Version() == 1 && !h.V2Mode() }

// view returns a CPU's states before and after a transition, as seen from the
// placement, and whether they can be seen from there. In a cpuset that loses
// CPUs, one that has been offline stays away.
func (p *Placement) view(tr *Transition) (before, after State, ok bool) {
	if !p.DropsOffline {
		return tr.Before, tr.After, true
	}
	// A CPU that goes half-way is lost or not, as it happens, and one that is
	// not prepared by a write to its online file cannot be given back before.
	if tr.RolledBack || tr.Prepare != nil || tr.Once {
		return 0, 0, false
	}
	if tr.Before == Offline {
		return Offline, Offline, true
	}
	return tr.Before, tr.After, true
}

// NeedsChild returns an [*Unsupported] if there is no child cpuset that keeps
// its CPUs. It is the [Scenario.Needs] of promises about a task in a cpuset
// that is not the root.
func NeedsChild(m *Machine) error {
	if m.Child.DropsOffline {
		return Unsupportedf("cgroup v1: a child cpuset loses a CPU that goes offline for good, by design")
	}
	return m.Child.Missing
}

// groupName is the beginning of the name of each cpuset of this process.
func groupName() string { return "hotplugtest-" + strconv.Itoa(os.Getpid()) }

// place makes the cpusets to look from, and returns what removes them again.
func (m *Machine) place(siblings int) (cleanup func() error, err error) {
	m.Root = &Placement{Name: "root-cpuset", detects: "before v6.2 only: since 3fb906e7fabb a task in the root cpuset is not bound by the stale mask"}
	m.Child = &Placement{Name: "child-cpuset", Enters: true, detects: fmt.Sprintf("yes: after %d other cpusets", siblings)}
	none := func() error { return nil }

	h, err := cpuset.New("/")
	if err != nil {
		m.Root.Missing = Unsupportedf("%v", err)
		m.Child.Missing = m.Root.Missing
		return none, nil
	}
	m.Root.Group = h.Root()
	if dropsOffline(h) {
		m.Child = &Placement{Name: "v1-child-cpuset", Enters: true, DropsOffline: true, detects: "yes"}
	}

	var undo undoList
	fail := func(err error) (func() error, error) {
		return nil, errors.Join(err, undo.run())
	}
	if err := m.moveToRoot(h, &undo); err != nil {
		return fail(err)
	}
	disable, err := h.EnableController()
	if err != nil {
		return fail(err)
	}
	undo.add(disable)
	parent, err := m.NewGroup("")
	if err != nil {
		return fail(err)
	}
	undo.add(parent.Remove)
	if m.Child.DropsOffline {
		m.Child.Group = parent
		return undo.run, nil
	}
	m.Child.Parent = parent
	// To remove cgroups that are no cpusets takes less time.
	undo.add(func() error { return m.siblings.set(false) })
	if err := parent.EnableChildren(); err != nil {
		return fail(err)
	}
	if m.siblings, err = newSiblings(parent, siblings); err != nil {
		return fail(err)
	}
	if m.Child.Group, err = threaded(parent, "last"); err != nil {
		return fail(err)
	}
	return undo.run, nil
}

// moveToRoot moves the process to the root cpuset, and adds the way back to
// undo.
func (m *Machine) moveToRoot(h *cpuset.Hierarchy, undo *undoList) error {
	home, err := h.Of(os.Getpid())
	if err != nil || home.Path() == m.Root.Group.Path() {
		return err
	}
	if err := m.Root.Group.AttachProcess(os.Getpid()); err != nil {
		return err
	}
	undo.add(func() error {
		err := home.AttachProcess(os.Getpid())
		if errors.Is(err, os.ErrNotExist) {
			return nil // it was the last process there, and systemd, say, has removed the cgroup
		}
		return err
	})
	return nil
}

// threaded makes a child that single threads may be in.
func threaded(parent *cpuset.Group, name string) (*cpuset.Group, error) {
	c, err := parent.Create(name)
	if err != nil {
		return nil, err
	}
	if err := c.MakeThreaded(); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// siblings are many cpusets for the kernel to go through before the one that is
// looked from. It goes through them in the order of their creation, and its
// state was stale while it did so: the more there are, the surer a probe is to
// be first. They make each operation two to three times as long, so they are
// there only while that matters.
type siblings struct {
	parent *cpuset.Group
	count  int
	made   int
	on     bool
}

func newSiblings(parent *cpuset.Group, count int) (*siblings, error) {
	c, err := threaded(parent, "crowd")
	return &siblings{parent: c, count: count}, err
}

// set makes the siblings part of the cpuset hierarchy, or mere cgroups. On
// cgroup v1 there are none.
func (c *siblings) set(on bool) error {
	if c == nil || c.on == on {
		return nil
	}
	for ; c.made < c.count; c.made++ {
		if _, err := c.parent.Create(strconv.Itoa(c.made)); err != nil {
			return err
		}
	}
	set := c.parent.DisableChildren
	if on {
		set = c.parent.EnableChildren
	}
	if err := set(); err != nil {
		return err
	}
	c.on = on
	return nil
}
