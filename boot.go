package hotplugtest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// Boot is a way in which a machine is booted, or made, that some promises are about. A row that needs one is not counted
// on a machine that is not booted so.
type Boot string

// The ways to boot that rows may need.
const (
	Isolcpus      Boot = "isolcpus"       // isolcpus=: some CPUs are in no scheduler domain
	IsolcpusFirst Boot = "isolcpus-first" // one of them is the CPU that alone stays online during a suspend
	NohzFull      Boot = "nohz_full"      // nohz_full=: some CPUs have no tick, and one that has keeps the time for them
	NoSMT         Boot = "nosmt"          // nosmt: the second threads of cores are present and offline
	MaxCPUs       Boot = "maxcpus"        // maxcpus=: some CPUs are present and have never been online
	NUMA          Boot = "numa"           // the CPUs are of two NUMA nodes or more
	CgroupV1      Boot = "cgroup-v1"      // cpusets of cgroup v1 without cpuset_v2_mode, which lose CPUs that go offline
)

// learnBoot finds out how the machine is booted, and which CPUs have to stay because of that.
func (s *Suite) learnBoot(online, hotpluggable affinity.CPUSet) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if s.isolated, err = s.cpus.Isolated(); err != nil {
		return err
	}
	nohzFull, err := s.cpus.NohzFull()
	if err != nil {
		return err
	}
	present, err := s.cpus.Present()
	if err != nil {
		return err
	}
	s.fresh = neverOnline("/proc", present.Difference(online))
	control, _, _ := s.cpus.SMT() // a machine without SMT control is not booted with nosmt
	hierarchy, _ := cpuset.Find("/")
	nodes := make(map[int]bool)
	for cpu := range online.All() {
		if node, err := s.cpus.Node(cpu); err == nil {
			nodes[node] = true
		}
	}
	isolcpus := hasParameter(string(cmdline), "isolcpus") && !s.isolated.Empty()
	// freeze_secondary_cpus() leaves the first CPU that has a tick.
	s.awake, _ = online.Difference(nohzFull).First()
	for _, b := range []struct {
		boot Boot
		is   bool
	}{
		{Isolcpus, isolcpus},
		{IsolcpusFirst, isolcpus && s.isolated.Has(s.awake)},
		{NohzFull, !nohzFull.Empty()},
		{NoSMT, control == "off"},
		{MaxCPUs, !s.fresh.Empty()},
		{NUMA, len(nodes) > 1},
		{CgroupV1, hierarchy != nil && losing(hierarchy)},
	} {
		if b.is {
			s.boots = append(s.boots, b.boot)
		}
	}
	s.stay = staying(online, hotpluggable, s.isolated, nohzFull)
	return nil
}

// counts tells whether rows that need a boot are about this machine.
func (s *Suite) counts(b Boot) bool { return b == "" || slices.Contains(s.boots, b) }

// hasParameter tells whether the kernel was booted with a parameter that has a value.
func hasParameter(cmdline, name string) bool {
	return slices.ContainsFunc(strings.Fields(cmdline), func(word string) bool { return strings.HasPrefix(word, name+"=") })
}

// neverOnline are those CPUs that have not been online since the kernel was booted: its threads for a CPU are made when it
// first comes, and stay. Where nosmt keeps a CPU offline it has been up for a moment.
func neverOnline(proc string, cpus affinity.CPUSet) affinity.CPUSet {
	if cpus.Empty() {
		return cpus
	}
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/comm"))
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if number, ok := strings.CutPrefix(strings.TrimSpace(string(comm)), "cpuhp/"); ok {
			if cpu, err := strconv.Atoi(number); err == nil {
				cpus = cpus.Without(cpu)
			}
		}
	}
	return cpus
}

// staying are the CPUs that must not go offline, but in a row that is about just that: the one that keeps the time for
// those of nohz_full, which is refused; and of those that are not isolated one, as without them a kernel may crash.
func staying(online, hotpluggable, isolated, nohzFull affinity.CPUSet) (stay affinity.CPUSet) {
	if ticking := online.Difference(nohzFull); !nohzFull.Empty() && !ticking.Empty() {
		keeper, _ := ticking.First()
		stay = stay.With(keeper)
	}
	housekeeping := online.Difference(isolated)
	safe := housekeeping.Difference(hotpluggable).Union(housekeeping.Intersect(stay))
	if !isolated.Empty() && !housekeeping.Empty() && safe.Empty() {
		first, _ := housekeeping.First()
		stay = stay.With(first)
	}
	return stay
}

// unbind lets the process run on all CPUs if it may not: with isolcpus the kernel starts it on the others. A promise about
// a thread that is free to run anywhere could not be looked at.
func (s *Suite) unbind(present affinity.CPUSet) (undo func() error, err error) {
	bound, err := affinity.Get(os.Getpid())
	if err != nil || s.online.Difference(bound).Empty() {
		return func() error { return nil }, err
	}
	if err := rebind(bound, present); err != nil {
		return nil, err
	}
	free, err := affinity.Get(os.Getpid())
	if err != nil {
		return nil, err
	}
	s.rebound = true
	runtime.SetDefaultGOMAXPROCS()
	return func() error { return rebind(free, bound) }, nil
}

// rebind gives all threads of the process that have one affinity another one. Those that have any other are meant to.
func rebind(from, to affinity.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if cpus, err := affinity.Get(tid); err == nil && cpus.Equal(from) {
			if err := affinity.Set(tid, to); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}
