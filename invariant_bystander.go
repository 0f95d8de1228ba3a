package hotplugtest

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// bystanderInvariants are about all that an operation is not about, and about
// the kernel's own threads of the CPU.
var bystanderInvariants = []Invariant{
	{
		Name: "bystanders",
		Promise: "the operation leaves all else as it was: hotplug state and target of the other CPUs, the masks of CPUs in sysfs, " +
			"the other CPUs of cpusets, and the mask of a task that may run on others",
		Source: docHotplug + ": an operation is about one CPU; " + docCgroup + ": cpuset.cpus.effective; sched_setaffinity(2)",
		Arm:    armBystanders,
	},
	{
		Name: "per-cpu-threads",
		Promise: "the kernel's threads of the CPU, such as ksoftirqd/N and kworker/N:0, may run there alone while it is online; " +
			"those that are no workers are parked while it is offline, and only then; a CPU that comes for the first time has workers of both priorities",
		Source: "kernel/smpboot.c: smpboot_unpark_threads(), smpboot_park_threads(); kernel/workqueue.c: rebind_workers(), workqueue_prepare_cpu(); " +
			"Documentation/core-api/workqueue.rst: there are two worker-pools for each CPU",
		Needs: func(v View) error { _, err := threadsOf(v.Machine); return err },
		Arm:   armPerCPUThreads,
	},
}

// about returns the CPUs whose state a transition may change.
func about(p *Probe) (affinity.CPUSet, error) {
	cpus := affinity.Of(p.CPU)
	if !strings.HasPrefix(p.Transition.Name, "SMT/") {
		return cpus, nil
	}
	// SMT control takes all second threads along. Those that are offline are
	// some.
	offline, err := p.Machine.CPUs.Offline()
	if err != nil {
		return cpus, err
	}
	seconds, unclear, err := secondThreads(p.Machine)
	return cpus.Union(offline).Union(seconds).Union(unclear), err
}

// armBystanders looks at what is not the operation's before it and after it.
func armBystanders(p *Probe) (Check, error) {
	touched, err := about(p)
	if err != nil {
		return nil, err
	}
	tid, err := spawnBystander(p, touched)
	if err != nil {
		return nil, err
	}
	before, err := bystanders(p, touched, tid)
	if err != nil {
		return nil, err
	}
	return func() error {
		after, err := bystanders(p, touched, tid)
		if err != nil {
			return err
		}
		return differences(before, after, "after it")
	}, nil
}

// bystanders looks at what a transition that is about the CPUs in touched must
// not change. tid is a task that may run on others, or 0.
func bystanders(p *Probe, touched affinity.CPUSet, tid int) (is map[string]string, err error) {
	m := p.Machine
	is = make(map[string]string)
	add := func(what string, value any, e error) {
		is[what] = fmt.Sprint(value)
		err = errors.Join(err, e)
	}
	present, e := m.CPUs.Present()
	add("the present mask", present, e)
	possible, e := m.CPUs.Possible()
	add("the possible mask", possible, e)
	nohzFull, e := m.CPUs.NohzFull()
	add("the nohz_full mask", nohzFull, e)
	// Those of an isolated partition come and go with it, some time later.
	isolated, e := m.CPUs.Isolated()
	add("the isolated mask of the boot", isolated.Intersect(m.Isolated), e)
	online, e := m.CPUs.Online()
	add("the online mask of the other CPUs", online.Difference(touched), e)
	offline, e := m.CPUs.Offline()
	add("the offline mask of the other CPUs", offline.Difference(touched), e)
	for cpu := range present.Difference(touched).Difference(m.Stateless).All() {
		state, target, e := m.CPUs.State(cpu)
		add(fmt.Sprintf("cpu%d/hotplug/state and target", cpu), fmt.Sprint(state, " ", target), e)
	}
	for _, place := range []*Placement{m.Root, m.Child} {
		if place.Group != nil && !place.DropsOffline {
			cpus, e := place.Group.Effective()
			add("the other effective CPUs of "+place.Group.Path(), cpus.Difference(touched), e)
		}
	}
	if tid != 0 {
		mask, e := affinity.Get(tid)
		add("the mask of a task that may run on other CPUs", mask, e)
	}
	return is, err
}

// spawnBystander starts a task that may run on up to two CPUs, none of which
// the transition is about, and sleeps. It returns 0 if there is no such CPU, or
// if the kernel gives all tasks outside new masks when a partition ends or
// begins.
func spawnBystander(p *Probe, touched affinity.CPUSet) (tid int, err error) {
	m := p.Machine
	if p.Transition.Partition != nil && !m.Kernel.Since(Version{6, 2}) {
		return 0, nil
	}
	others, err := m.Shared()
	if err == nil && m.Root.Group != nil {
		others, err = m.Root.Group.Effective()
	}
	if err != nil {
		return 0, err
	}
	var mask affinity.CPUSet
	for cpu := range others.Difference(touched).All() {
		if mask.Count() < 2 {
			mask = mask.With(cpu)
		}
	}
	if mask.Empty() {
		return 0, nil
	}
	ready, ended := make(chan error, 1), make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		_ = affinity.Thread(func() error {
			tid = unix.Gettid()
			err := affinity.Set(0, mask)
			if ready <- err; err == nil {
				<-stop
			}
			return err
		})
	}()
	p.Cleanup(func() { close(stop); <-ended })
	return tid, <-ready
}

// perCPUThreads are the threads of the kernel that each CPU has one of, by
// kernel/smpboot.c.
var perCPUThreads = []string{"cpuhp", "migration", "ksoftirqd", "rcuc", "ktimers", "irq_work", "idle_inject", "backlog_napi"}

// cpuOfThread returns the CPU whose thread has the name, such as "ksoftirqd/3",
// or whose worker, such as "kworker/3:1H".
func cpuOfThread(name string) (cpu int, ok bool) {
	kind, number, ok := strings.Cut(name, "/")
	if kind == "kworker" {
		number, _, ok = strings.Cut(number, ":")
	} else {
		ok = ok && slices.Contains(perCPUThreads, kind)
	}
	cpu, err := strconv.Atoi(number)
	return cpu, ok && err == nil
}

// armPerCPUThreads looks at the kernel's threads of the CPU. When it has never
// been online it has none yet.
func armPerCPUThreads(p *Probe) (Check, error) {
	table, err := threadsOf(p.Machine)
	if err != nil {
		return nil, err
	}
	threads, err := table.ofCPU(p.CPU)
	// A worker that is just being made is not bound yet.
	threads = slices.DeleteFunc(threads, func(t kernelThread) bool {
		return t.worker() && p.Transition.Before == Online && t.check(p.CPU, Online) != nil
	})
	return func() error {
		found := threads
		if len(found) == 0 {
			if found, err = table.ofCPU(p.CPU); err != nil {
				return err
			}
			if err := haveWorkers(p.CPU, found); err != nil && p.State == Online {
				return err
			}
			found = slices.DeleteFunc(found, kernelThread.worker)
		}
		if len(found) == 0 && p.State == Online {
			return fmt.Errorf("cpu%d is online, and no thread of the kernel's has a name such as ksoftirqd/%d", p.CPU, p.CPU)
		}
		for _, t := range found {
			if err := t.check(p.CPU, p.State); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// kernelThread is a thread of the kernel's.
type kernelThread struct {
	pid  int
	name string
}

// worker reports whether it does the work of workqueues. The kernel makes
// workers as it needs them, and ends them.
func (t kernelThread) worker() bool { return strings.HasPrefix(t.name, "kworker/") }

// haveWorkers checks that each of the CPU's two pools has a worker: without one,
// what is queued on the CPU never runs, as it takes a worker to make another.
func haveWorkers(cpu int, threads []kernelThread) error {
	for _, priority := range []struct{ name, suffix string }{{"normal", ""}, {"high", "H"}} {
		pool := regexp.MustCompile(fmt.Sprintf(`^kworker/%d:\d+%s$`, cpu, priority.suffix))
		if !slices.ContainsFunc(threads, func(t kernelThread) bool { return pool.MatchString(t.name) }) {
			return fmt.Errorf("cpu%d is online, and no worker of its pool of %s priority is there, such as kworker/%d:0%s", cpu, priority.name, cpu, priority.suffix)
		}
	}
	return nil
}

// A threadTable is the kernel's threads in a run.
type threadTable struct {
	mu    sync.Mutex
	table ledger.ThreadTable
}

// threadsOf returns the table of the run. The first call must not be one of
// several at once.
func threadsOf(m *Machine) (*threadTable, error) {
	is, err := m.Instrument("threads", func() (suite.Instrument, error) {
		return &threadTable{table: ledger.ThreadTable{Root: "/"}}, nil
	})
	if err != nil {
		return nil, err
	}
	return is.(*threadTable), nil
}

// Close does nothing.
func (t *threadTable) Close() error { return nil }

// ofCPU returns the kernel's threads of a CPU.
func (t *threadTable) ofCPU(cpu int) (list []kernelThread, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.table.Scan(); err != nil {
		return nil, err
	}
	for pid, name := range t.table.Names() {
		if of, ok := cpuOfThread(name); ok && of == cpu {
			list = append(list, kernelThread{pid, name})
		}
	}
	slices.SortFunc(list, func(a, b kernelThread) int { return a.pid - b.pid })
	return list, nil
}

// check checks where a thread of the CPU may run, and whether it is parked.
func (t kernelThread) check(cpu int, state State) error {
	status, err := sysfs.ReadFile(fmt.Sprintf("/proc/%d/status", t.pid))
	if t.worker() && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)) {
		return nil // there were too many
	} else if err != nil {
		return err
	}
	if t.worker() && !strings.HasPrefix(statusField(status, "Name"), t.name) {
		return nil // it has ended, and another process has its id
	}
	is, allowed := statusField(status, "State"), statusField(status, "Cpus_allowed_list")
	parked := strings.HasPrefix(is, "P")
	switch {
	case state == Offline && !parked && !t.worker():
		return fmt.Errorf("cpu%d is offline, and the state of %s is %q, not parked", cpu, t.name, is)
	case state == Online && parked:
		return fmt.Errorf("cpu%d is online, and the state of %s is %q", cpu, t.name, is)
	case state == Online && allowed != strconv.Itoa(cpu):
		return fmt.Errorf("cpu%d is online, and %s may run on CPUs %s", cpu, t.name, allowed)
	}
	return nil
}

// statusField returns a field of a /proc/PID/status, or "".
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
