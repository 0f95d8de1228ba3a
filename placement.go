package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// placement is a cpuset to look from: what a thread may do with a CPU depends on the cpuset that it is in.
type placement struct {
	name      string
	cpuset    *cpuset.Cpuset
	parent    *cpuset.Cpuset // of the child, for more of its kind
	enter     bool           // the probing thread has to be moved there; the process is in the root already
	partition *Partition
	missing   string // why this machine does not have it, or ""
	detects   string // whether a stale cpuset shows there
	losing    bool   // it loses a CPU that goes offline for good
}

// losing tells of a hierarchy whether a child there loses a CPU that goes offline for good. That is by design of cgroup v1.
func losing(h *cpuset.Hierarchy) bool { return h.Version() == 1 && !h.V2Mode() }

// view is what a CPU is before and after a transition to those who look from the placement, and whether they can. In a
// cpuset that loses CPUs, one that has been offline stays away.
func (p *placement) view(tr *Transition) (before, after State, ok bool) {
	if !p.losing {
		return tr.Before, tr.After, true
	}
	// A CPU that goes half-way is lost or not, as it happens, and one that is not prepared by a write to its online file
	// cannot be given back before.
	if tr.RolledBack || tr.Prepare != nil || tr.Once {
		return 0, 0, false
	}
	if tr.Before == Offline {
		return Offline, Offline, true
	}
	return tr.Before, tr.After, true
}

// placements sets up the cpusets to look from, and returns what removes them again.
func (s *Suite) placements(siblings int) (cleanup func() error, err error) {
	root := &placement{name: "root-cpuset", detects: "before v6.2 only: since 3fb906e7fabb a task in the root cpuset is not bound by the stale mask"}
	child := &placement{name: "child-cpuset", enter: true, detects: fmt.Sprintf("yes: after %d other cpusets", siblings)}
	s.places = []*placement{root, child}
	none := func() error { return nil }

	h, err := cpuset.Find("/")
	if err != nil {
		root.missing, child.missing = err.Error(), err.Error()
		return none, nil
	}
	root.cpuset = h.Root()
	if losing(h) {
		*child = placement{name: "v1-child-cpuset", enter: true, losing: true, detects: "yes"}
	}

	var undo undoList
	fail := func(err error) (func() error, error) {
		return nil, errors.Join(err, undo.run())
	}
	home, err := h.Of(os.Getpid())
	if err != nil {
		return fail(err)
	}
	if home.Path() != root.cpuset.Path() {
		if err := root.cpuset.AttachProcess(os.Getpid()); err != nil {
			return fail(err)
		}
		undo.add(func() error {
			err := home.AttachProcess(os.Getpid())
			if errors.Is(err, os.ErrNotExist) {
				return nil // it was the last process there, and systemd, say, has removed the cgroup
			}
			return err
		})
	}
	disable, err := h.EnableController()
	if err != nil {
		return fail(err)
	}
	undo.add(disable)
	parent, err := s.ownCpuset("")
	if err != nil {
		return fail(err)
	}
	undo.add(parent.Remove)
	if child.losing {
		child.cpuset = parent
		return undo.run, nil
	}
	// To remove cgroups that are no cpusets takes less time.
	undo.add(func() error { return s.crowd.set(false) })
	child.parent = parent
	if err := parent.EnableChildren(); err != nil {
		return fail(err)
	}
	if s.crowd, err = newCrowd(parent, siblings); err != nil {
		return fail(err)
	}
	if child.cpuset, err = threaded(parent, "last"); err != nil {
		return fail(err)
	}
	return undo.run, nil
}

// ownCpuset makes a cpuset of this process below the root one, which single threads may be in. Its name tells the
// supervisor whose it is.
func (s *Suite) ownCpuset(suffix string) (*cpuset.Cpuset, error) {
	return threaded(s.places[0].cpuset, "hotplugtest-"+strconv.Itoa(os.Getpid())+suffix)
}

// threaded makes a child that single threads may be in.
func threaded(parent *cpuset.Cpuset, name string) (*cpuset.Cpuset, error) {
	c, err := parent.Create(name)
	if err != nil {
		return nil, err
	}
	if err := c.MakeThreaded(); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// crowd are many cpusets for the kernel to go through before the one that is looked from. It goes through them in the
// order of their creation, and it was while it did so that its state was stale: the more there are, the surer a probe is
// to be first. They make each operation two to three times as long, so they are there only while that matters.
type crowd struct {
	parent *cpuset.Cpuset
	count  int
	made   bool
	on     bool
}

func newCrowd(parent *cpuset.Cpuset, count int) (*crowd, error) {
	c, err := threaded(parent, "crowd")
	return &crowd{parent: c, count: count}, err
}

// set makes the crowd part of the cpuset hierarchy, or just cgroups. On cgroup v1 there is no way back.
func (c *crowd) set(on bool) error {
	if c == nil || c.on == on {
		return nil
	}
	for i := 0; !c.made && i < c.count; i++ {
		if _, err := c.parent.Create(strconv.Itoa(i)); err != nil {
			return err
		}
	}
	c.made, c.on = true, on
	if on {
		return c.parent.EnableChildren()
	}
	return c.parent.DisableChildren()
}

// giveBack gives a cpuset that loses CPUs those back that were offline. Whether the kernel lets it have them at once is
// for the probes of the root cpuset to tell, so it is tried for as long as they look.
func (s *Suite) giveBack(place *placement, cpus []int) error {
	for _, cpu := range cpus {
		if err := s.put(cpu, Online); err != nil {
			return err
		}
	}
	online, err := s.cpus.Online()
	if err != nil {
		return err
	}
	for end := time.Now().Add(lookLimit); ; {
		if err := place.cpuset.SetCPUs(online); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// armEmptied puts a task into a cpuset that has just the CPU.
func armEmptied(p *Probe) (Check, error) {
	h, err := cpuset.Find("/")
	if err != nil {
		return nil, err
	}
	only, err := h.Root().Create(fmt.Sprintf("hotplugtest-%d-cpu%d-%s", os.Getpid(), p.CPU, p.cycle.Moment))
	if err != nil {
		return nil, err
	}
	var tid int
	stop := make(chan struct{})
	err = only.SetCPUs(affinity.Of(p.CPU))
	if err == nil {
		err = p.spawnIn(func() error {
			tid = unix.Gettid()
			return only.AttachThread(0)
		}, func() error { <-stop; return nil }, func() { close(stop) })
	}
	// After the end of the task.
	p.cleanups = append(p.cleanups, func() { _ = only.Remove() })
	return func() error {
		c, err := h.Of(tid)
		if err == nil && c.Name() != h.Root().Name() {
			err = fmt.Errorf("thread %d is still in %s", tid, c.Name())
		}
		return err
	}, err
}
