package hotplugtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Check tells whether a promise is kept at this instant: nil, or what was seen instead. It is called on the probing
// thread, the first time at the moment of the probe; when that fails it is called again and again, to find out how long
// it takes until the promise is kept.
type Check func() error

// Invariant is one promise about a CPU that is online or offline: a row of the table [Invariants].
type Invariant struct {
	Name    string // as in a test's name
	Promise string // what holds, as a sentence about "the CPU"
	Source  string // where that is promised: a document, or the commit that established it
	Suspect string // what it was last broken by, or cured by, if known

	Boot          Boot  // it is counted only on a machine that is booted so; "": on all
	Before, After State // the transitions that it speaks about, by the CPU's state before and after; 0: any
	Partition     bool  // it speaks about transitions in a partition only
	Placed        bool  // it depends on the cpuset that the probing thread is in, so it is checked from every placement

	// Lag is for how long it may be broken at first, where that is by design; Source says so. 0: it has to hold at once.
	Lag time.Duration

	// Needs returns why this machine cannot show the promise for the CPU, or "". nil: every machine can.
	Needs func(p *Probe) string

	// Arm prepares the check before the transition begins, on the probing thread.
	Arm func(p *Probe) (Check, error)
}

// applies tells whether the promise is about what t leaves behind, as seen from a placement.
func (i *Invariant) applies(t *Transition, from *placement) bool {
	before, after, ok := from.view(t)
	if !ok {
		return false
	}
	in := func(s, mask State) bool { return mask == 0 || s&mask != 0 }
	return in(before, i.Before) && in(after, i.After) && (!i.Partition || t.Partition != nil)
}

const (
	docHotplug  = "Documentation/core-api/cpu_hotplug.rst"
	docSysfs    = "Documentation/ABI/testing/sysfs-devices-system-cpu"
	docCgroup   = "Documentation/admin-guide/cgroup-v2.rst"
	docCgroupV1 = "Documentation/admin-guide/cgroup-v1/cpusets.rst"
	trainwreck  = `b22afcdf04c9 ("cpu/hotplug: Cure the cpusets trainwreck", v5.14)`
)

// Invariants are the promises that hold at every moment after every transition. Whoever embeds the suite may append.
var Invariants = []Invariant{
	{
		Name:    "affinity",
		Promise: "sched_setaffinity(2) to just the CPU succeeds while it is online, and is EINVAL while it is offline",
		Source:  "sched_setaffinity(2); " + trainwreck,
		Suspect: trainwreck,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			only := affinity.Of(p.CPU)
			if p.State == Online {
				return func() error { return affinity.Set(0, only) }, nil
			}
			return func() error {
				switch err := affinity.Set(0, only); {
				case errors.Is(err, unix.EINVAL):
					return nil
				case err == nil:
					return fmt.Errorf("sched_setaffinity to {%v} succeeded, want EINVAL", only)
				default:
					return fmt.Errorf("%w, want EINVAL", err)
				}
			}, nil
		},
	},
	{
		Name:    "runs",
		Promise: "a thread that is pinned to the CPU runs there when sched_setaffinity(2) returns",
		Source:  "sched_setaffinity(2): the thread is migrated before the call returns",
		Suspect: trainwreck,
		After:   Online,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			only := affinity.Of(p.CPU)
			return func() error {
				if err := affinity.Set(0, only); err != nil {
					return err
				}
				cpu, _, err := affinity.Current()
				if err == nil && cpu != p.CPU {
					err = fmt.Errorf("the thread is pinned to cpu%d and runs on cpu%d", p.CPU, cpu)
				}
				return err
			}, nil
		},
	},
	{
		Name:    "running-task",
		Promise: "a task that ran pinned to the CPU goes on: there while it is online, elsewhere when it is taken offline",
		Source:  docHotplug + ": all processes are migrated away from the outgoing CPU",
		Before:  Online,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			var laps atomic.Uint64
			var stop atomic.Bool
			var on atomic.Int64
			err := p.spawn(func() error {
				for !stop.Load() {
					cpu, _, err := affinity.Current()
					if err != nil {
						return err
					}
					on.Store(int64(cpu))
					laps.Add(1)
				}
				return nil
			}, func() { stop.Store(true) })
			return func() error {
				// The second lap from now began after now.
				for from, end := laps.Load(), time.Now().Add(goesOn); laps.Load() < from+2; {
					if time.Now().After(end) {
						return fmt.Errorf("it has not run for %v", goesOn)
					}
					runtime.Gosched()
				}
				return p.taskOn(int(on.Load()))
			}, err
		},
	},
	{
		Name:    "sleeping-task",
		Promise: "a task that slept pinned to the CPU runs when it is woken: there while it is online, elsewhere when it was taken offline",
		Source:  docHotplug + ": all processes are migrated away from the outgoing CPU",
		Before:  Online,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			wake, sleep, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			// Fd makes the pipe blocking, so that the task sleeps in the kernel, on its own thread.
			in, out := int(wake.Fd()), int(sleep.Fd())
			type answer struct {
				cpu int
				err error
			}
			answers := make(chan answer, 1) // for one that comes late, too
			err = p.spawn(func() error {
				defer wake.Close()
				for buf := make([]byte, 1); ; {
					if n, err := unix.Read(in, buf); n == 0 || (err != nil && err != unix.EINTR) {
						return err
					}
					cpu, _, err := affinity.Current()
					answers <- answer{cpu, err}
				}
			}, func() { sleep.Close() })
			return func() error {
				if _, err := unix.Write(out, []byte{0}); err != nil {
					return os.NewSyscallError("write", err)
				}
				select {
				case a := <-answers:
					if a.err != nil {
						return a.err
					}
					return p.taskOn(a.cpu)
				case <-time.After(goesOn):
					return fmt.Errorf("it has not run for %v", goesOn)
				}
			}, err
		},
	},
	{
		Name:    "getaffinity",
		Promise: "sched_getaffinity(2) of a thread that may run anywhere, as far as it is concerned, has the CPU just while it is online",
		Source:  "sched_getaffinity(2): cpus_mask & cpu_active_mask; " + trainwreck,
		Suspect: trainwreck,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			// While the CPU is offline, this leaves a mask without it, which the cpuset has to mend when the CPU is back. A
			// thread that just comes into the cpuset may keep the mask that it had. The root cpuset mends none, but before v6.2
			// has a thread that comes run anywhere.
			if p.placement.enter {
				present, err := p.suite.cpus.Present()
				if err := errors.Join(err, affinity.Set(0, present)); err != nil {
					return nil, err
				}
			} else if p.suite.rebound && !p.suite.kernel.since(6, 2) && p.suite.places[1].cpuset != nil {
				child := p.suite.places[1]
				if child.losing {
					if err := p.suite.giveBack(child, nil); err != nil { // or it may have none
						return nil, err
					}
				}
				if err := errors.Join(child.cpuset.AttachThread(0), p.placement.cpuset.AttachThread(0)); err != nil {
					return nil, err
				}
			}
			return func() error {
				cpus, err := affinity.Get(0)
				if err != nil {
					return err
				}
				return p.listed(cpus.Has(p.CPU), "sched_getaffinity gives %v", cpus)
			}, nil
		},
	},
	{
		Name:    "effective",
		Promise: "the cpuset's effective CPUs have the CPU just while it is online",
		Source:  docCgroup + ": cpuset.cpus.effective; " + trainwreck,
		Suspect: trainwreck,
		Placed:  true,
		Needs:   func(p *Probe) string { return p.placement.missing },
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.placement.cpuset.Effective()
				if err != nil {
					return err
				}
				return p.listed(cpus.Has(p.CPU), "%s has effective CPUs %v", p.placement.cpuset.Path(), cpus)
			}, nil
		},
	},
	{
		Name:      "partition",
		Promise:   "a partition is one while a CPU of it is online; without any it is invalid, and gets well by itself",
		Source:    docCgroup + ": cpuset.cpus.partition",
		Suspect:   `959ab6350add ("cgroup/cpuset: fix panic caused by partcmd_update", v6.11)`,
		Partition: true,
		Placed:    true,
		Arm:       armPartition,
	},
	{
		Name:    "configured",
		Promise: "the cpuset's configured CPUs, cpuset.cpus, lose a CPU that goes offline; the root gets it back, a child does not",
		Source:  docCgroupV1 + ": the kernel detaches a CPU from all cpusets",
		Boot:    CgroupV1,
		Placed:  true,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.placement.cpuset.CPUs()
				if err != nil {
					return err
				}
				return p.listed(cpus.Has(p.CPU), "%s has CPUs %v", p.placement.cpuset.Path(), cpus)
			}, nil
		},
	},
	{
		Name:    "emptied",
		Promise: "a task in a cpuset whose only CPU goes offline is moved to the next ancestor that has one",
		Source:  docCgroupV1 + ": that is done from a workqueue, and nobody waits for it; a second is much more than one on an idle machine takes",
		Boot:    CgroupV1,
		Before:  Online,
		After:   Offline,
		Lag:     lookLimit,
		Arm:     armEmptied,
	},
	{
		Name:    "cpu-online",
		Promise: "/sys/devices/system/cpu/cpuN/online is 1 just while the CPU is online",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				online, err := p.suite.cpus.IsOnline(p.CPU)
				if err != nil {
					return err
				}
				return p.listed(online, "cpu%d/online is %t", p.CPU, online)
			}, nil
		},
	},
	{
		Name:    "online-mask",
		Promise: "/sys/devices/system/cpu/online lists the CPU just while it is online",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.suite.cpus.Online()
				if err != nil {
					return err
				}
				return p.listed(cpus.Has(p.CPU), "the online mask is %v", cpus)
			}, nil
		},
	},
	{
		Name:    "offline-mask",
		Promise: "/sys/devices/system/cpu/offline lists the CPU just while it is offline",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.suite.cpus.Offline()
				if err != nil {
					return err
				}
				return p.listed(!cpus.Has(p.CPU), "the offline mask is %v", cpus)
			}, nil
		},
	},
	{
		Name:    "present-mask",
		Promise: "/sys/devices/system/cpu/present lists the CPU, online or not",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.suite.cpus.Present()
				if err == nil && !cpus.Has(p.CPU) {
					err = fmt.Errorf("the present mask is %v", cpus)
				}
				return err
			}, nil
		},
	},
	{
		Name:    "hotplug-state",
		Promise: "the CPU's hotplug state and target are both the last state when it has come online, both 0 when it has gone offline, and as they were when it stayed",
		Source:  docHotplug,
		Arm: func(p *Probe) (Check, error) {
			states, err := p.suite.cpus.States()
			if err != nil {
				return nil, err
			}
			state, target, err := p.suite.cpus.State(p.CPU)
			if err != nil {
				return nil, err
			}
			// The boot CPU has a target of 0 until it first goes offline, before v6.2.
			if tr := p.cycle.Transition; tr.Before != tr.After {
				state = 0
				if tr.After == Online {
					state = states[len(states)-1].ID
				}
				target = state
			}
			return func() error {
				s, t, err := p.suite.cpus.State(p.CPU)
				if err == nil && (s != state || t != target) {
					err = fmt.Errorf("state is %d and target %d, want %d and %d", s, t, state, target)
				}
				return err
			}, nil
		},
	},
	{
		Name:    "uevent",
		Promise: "the operation sends exactly the uevents that it should: one for a CPU that came or went, none for one that did not, with a SEQNUM above all before it",
		Source:  "drivers/base/core.c: device_online(), device_offline()",
		Arm: func(p *Probe) (Check, error) {
			return func() error { return p.suite.events.Check(p.CPU, p.cycle.Transition.Uevent) }, nil
		},
	},
	{
		Name:    "proc-stat",
		Promise: "/proc/stat has a line for the CPU just while it is online",
		Source:  "proc_stat(5)",
		Arm:     lineCheck("/proc/stat", statLine),
	},
	{
		Name:    "proc-cpuinfo",
		Promise: "/proc/cpuinfo has an entry for the CPU just while it is online",
		Source:  "proc_cpuinfo(5)",
		Arm:     lineCheck("/proc/cpuinfo", cpuinfoLine),
	},
	{
		Name:    "proc-interrupts",
		Promise: "/proc/interrupts has a column for the CPU just while it is online",
		Source:  "proc_interrupts(5)",
		Arm:     lineCheck("/proc/interrupts", interruptsLine),
	},
	{
		Name:    "proc-schedstat",
		Promise: "/proc/schedstat has a line for the CPU just while it is online",
		Source:  "Documentation/scheduler/sched-stats.rst",
		Needs:   needsFile("/proc/schedstat", "CONFIG_SCHEDSTATS"),
		Arm:     lineCheck("/proc/schedstat", statLine),
	},
	{
		Name:    "hrtimer",
		Promise: "a timerfd that was armed on the CPU expires, also when the CPU has gone offline meanwhile",
		Source:  "timerfd_create(2); kernel/time/hrtimer.c: hrtimers_cpu_dying()",
		Suspect: `5c0930ccaad5 ("hrtimers: Push pending hrtimers away from outgoing CPU earlier", v6.7)`,
		Before:  Online,
		Arm:     armTimerfds,
	},
	{
		Name:    "timeout",
		Promise: "a task that waited on the CPU, for a limited time, goes on when that is over, though the CPU has gone offline meanwhile",
		Source:  "socket(7): SO_RCVTIMEO; kernel/time/timer.c: timers_dead_cpu()",
		Before:  Online,
		After:   Offline,
		Arm:     armTimeouts,
	},
	{
		Name:    "sched-domains",
		Promise: "the scheduling domains in /proc/schedstat have the CPU just while it is online, so that load is balanced to it",
		Source:  "Documentation/scheduler/sched-domains.rst",
		Suspect: `50e76632339d ("sched/cpuset/pm: Fix cpuset vs. suspend-resume bugs", v4.13)`,
		Needs:   needsFile("/proc/schedstat", "CONFIG_SCHEDSTATS"),
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				data, err := os.ReadFile("/proc/schedstat")
				if err != nil {
					return err
				}
				spans, err := parseDomains(string(data))
				if err != nil {
					return err
				}
				if p.State == Online {
					if balanced, err := p.balanced(); err != nil || !balanced {
						return err
					}
				}
				return p.listed(spans.Has(p.CPU), "the domains of all CPUs have %v", spans)
			}, nil
		},
	},
	{
		Name:    "topology",
		Promise: "/sys/devices/system/cpu/cpuN/topology is there just while the CPU is online",
		Source:  "drivers/base/topology.c: added and removed by a hotplug state",
		Arm:     existsCheck("topology"),
	},
	{
		Name:    "cache",
		Promise: "/sys/devices/system/cpu/cpuN/cache is there just while the CPU is online",
		Source:  "drivers/base/cacheinfo.c: added and removed by a hotplug state",
		Needs: func(p *Probe) string {
			if !p.suite.caches.Has(p.CPU) {
				return "this machine tells nothing of the CPU's caches"
			}
			return ""
		},
		Arm: existsCheck("cache/index0"),
	},
	{
		Name:    "node",
		Promise: "the cpulist of the CPU's NUMA node has the CPU just while it is online, and that of no other node ever has",
		Source:  "drivers/base/node.c: the node's CPUs & cpu_online_mask",
		Needs:   needsFile("/sys/devices/system/node/online", "CONFIG_NUMA"),
		Arm: func(p *Probe) (Check, error) {
			home, err := p.suite.cpus.Node(p.CPU)
			return func() error {
				files, err := filepath.Glob("/sys/devices/system/node/node*/cpulist")
				if err != nil {
					return err
				}
				var at, elsewhere affinity.CPUSet
				for _, file := range files {
					data, err := os.ReadFile(file)
					if err != nil {
						return err
					}
					cpus, err := affinity.ParseList(string(data))
					if err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
					if filepath.Base(filepath.Dir(file)) == fmt.Sprintf("node%d", home) {
						at = cpus
					} else {
						elsewhere = elsewhere.Union(cpus)
					}
				}
				if elsewhere.Has(p.CPU) {
					return fmt.Errorf("cpu%d is of node %d, but the cpulists of the others have %v", p.CPU, home, elsewhere)
				}
				return p.listed(at.Has(p.CPU), "the cpulist of node %d has %v", home, at)
			}, err
		},
	},
	{
		Name:    "perf-event",
		Promise: "perf_event_open(2) on the CPU succeeds while it is online, and is ENODEV while it is offline",
		Source:  "kernel/events/core.c: perf_event_init_cpu(), perf_event_exit_cpu()",
		Needs:   needsFile("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS"),
		Arm: func(p *Probe) (Check, error) {
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
			attr.Size = uint32(unix.PERF_ATTR_SIZE_VER1)
			return func() error {
				fd, err := unix.PerfEventOpen(&attr, -1, p.CPU, -1, unix.PERF_FLAG_FD_CLOEXEC)
				if err == nil {
					unix.Close(fd)
				}
				switch {
				case p.State == Online && err != nil:
					return os.NewSyscallError("perf_event_open", err)
				case p.State == Offline && !errors.Is(err, unix.ENODEV):
					return fmt.Errorf("perf_event_open: %v, want ENODEV", err)
				}
				return nil
			}, nil
		},
	},
}

// Where files in /proc name CPU %d.
const (
	statLine       = `^cpu%d `
	cpuinfoLine    = `^processor\s*:\s*%[1]d$|^processor %[1]d:` // x86, arm64, powerpc, riscv; s390
	interruptsLine = `^\s+(CPU\d+\s+)*CPU%d(\s|$)`
)

// goesOn bounds the wait for a task that is to go on. The promise is that it does, not how soon; a task that is not
// scheduled for so long on a machine with idle CPUs is lost.
const goesOn = 10 * time.Second

// listed is nil when has agrees with the state that the CPU is to be in, and says what was seen otherwise.
func (p *Probe) listed(has bool, format string, args ...any) error {
	if has == (p.State == Online) {
		return nil
	}
	return fmt.Errorf("%s, but cpu%d is %v", fmt.Sprintf(format, args...), p.CPU, p.State)
}

// taskOn checks where a task that was pinned to the CPU runs after the transition. An operation that was rolled back may
// have moved it away before that, and nothing is promised to bring it back.
func (p *Probe) taskOn(cpu int) error {
	if p.cycle.Transition.RolledBack && p.State == Online {
		return nil
	}
	if (cpu == p.CPU) == (p.State == Online) {
		return p.inCpuset(cpu)
	}
	return fmt.Errorf("it runs on cpu%d, but cpu%d, which it was pinned to, is %v", cpu, p.CPU, p.State)
}

// inCpuset checks that a task may be on a CPU as far as its cpuset is concerned.
func (p *Probe) inCpuset(cpu int) error {
	if p.placement.missing != "" {
		return nil
	}
	cpus, err := p.placement.cpuset.Effective()
	if err == nil && !cpus.Has(cpu) {
		err = fmt.Errorf("it runs on cpu%d, but its cpuset %s has only CPUs %v", cpu, p.placement.cpuset.Path(), cpus)
	}
	return err
}

// lineCheck makes a check that a file has a line for the CPU just while it is online; the pattern is a regular
// expression with a verb for the CPU's number.
func lineCheck(path, pattern string) func(*Probe) (Check, error) {
	return func(p *Probe) (Check, error) {
		line, err := regexp.Compile(fmt.Sprintf(pattern, p.CPU))
		return func() error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found := false
			// Lines of /proc/interrupts and /proc/stat outgrow a scanner's default on large machines.
			for lines := bufio.NewReader(bytes.NewReader(data)); !found; {
				text, err := lines.ReadString('\n')
				if text == "" && err != nil {
					break
				}
				found = line.MatchString(strings.TrimSuffix(text, "\n"))
			}
			return p.listed(found, "%s has a match of %q: %t", path, line, found)
		}, err
	}
}

// existsCheck makes a check that something in the CPU's sysfs directory is there just while it is online.
func existsCheck(name string) func(*Probe) (Check, error) {
	return func(p *Probe) (Check, error) {
		path := filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(p.CPU), name)
		return func() error {
			_, err := os.Stat(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return p.listed(err == nil, "%s is there: %t", path, err == nil)
		}, nil
	}
}

// needsFile makes a Needs for promises that are only kept by kernels that have the file.
func needsFile(path, config string) func(*Probe) string {
	return func(*Probe) string {
		if _, err := os.Stat(path); err != nil {
			return fmt.Sprintf("there is no %s: the kernel has no %s", path, config)
		}
		return ""
	}
}
