package explore

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/suspend"
)

// FindFacts finds out about the machine of a target. cpus are those that may be
// used; empty: all. The interrupts are left out, as it takes writes to find
// those. The error wraps [fs.ErrNotExist] if the machine has no sysfs.
func FindFacts(t *Target, cpus affinity.CPUSet) (*Facts, error) {
	version, err := suite.RunningKernel()
	if err != nil {
		return nil, err
	}
	sys, err := cpuhp.New(t.Path("/"))
	if err != nil {
		return nil, err
	}
	present, err := sys.Present()
	if err != nil {
		return nil, err
	}
	if !cpus.Empty() {
		present = present.Intersect(cpus)
	}
	pluggable, _, err := sys.Hotpluggable()
	if err != nil {
		return nil, err
	}
	f := &Facts{Version: version, Cgroup: 2, CPUs: present, Pluggable: pluggable.Intersect(present), Exists: func(path string) bool { return exists(t.Path(path)) }}
	if f.Exists(string(balanceKey)) {
		f.Cgroup = 1
	}
	if states, err := sys.States(); err == nil {
		for _, s := range states {
			f.FailStates = append(f.FailStates, s.ID)
		}
	}
	power := suspend.New(t.Path("/"))
	if levels, err := power.PMTest(); err == nil {
		for _, level := range suspend.Levels {
			if levels.Has(level) {
				f.Levels = append(f.Levels, level)
			}
		}
	}
	return f, nil
}

// findIRQs finds the interrupts whose mask can be changed, if an action may do
// so: to find out takes a write to each, and on a machine that others use the
// masks are theirs.
func (f *Facts) findIRQs(t *Target, actions []Action) {
	if !slices.ContainsFunc(actions, func(a Action) bool { return a.Alone }) {
		return
	}
	irqs, _ := filepath.Glob(t.Path("/proc/irq/[0-9]*"))
	for _, dir := range irqs {
		if n, err := strconv.Atoi(filepath.Base(dir)); err == nil && writable(filepath.Join(dir, "smp_affinity")) {
			f.IRQs = append(f.IRQs, n)
		}
	}
	slices.Sort(f.IRQs)
}

// String returns the facts that decide what is drawn.
func (f *Facts) String() string {
	return fmt.Sprintf("Linux %v, cgroup v%d, CPUs %v, hotpluggable %v", f.Version, f.Cgroup, f.CPUs, f.Pluggable)
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// writable reports whether a write of the value that the file has succeeds.
func writable(path string) bool {
	text, err := sysfs.ReadFile(path)
	return err == nil && sysfs.WriteLine(path, text) == nil
}
