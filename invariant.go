package hotplugtest

import (
	"fmt"

	"github.com/hotplugtest/hotplugtest/suite"
)

const (
	docHotplug  = "Documentation/core-api/cpu_hotplug.rst"
	docSysfs    = "Documentation/ABI/testing/sysfs-devices-system-cpu"
	docCgroup   = "Documentation/admin-guide/cgroup-v2.rst"
	docCgroupV1 = "Documentation/admin-guide/cgroup-v1/cpusets.rst"
	trainwreck  = `b22afcdf04c9 ("cpu/hotplug: Cure the cpusets trainwreck", v5.14)`
)

// invariants are the promises that hold at every moment after every transition.
var invariants = []Invariant{
	{
		Name:        "affinity",
		Promise:     "sched_setaffinity(2) to the CPU alone succeeds while it is online, and is EINVAL while it is offline",
		Source:      "sched_setaffinity(2); " + trainwreck,
		SuspectLate: trainwreck,
		Placed:      true,
		Soak:        true,
		Arm:         armAffinity,
	},
	{
		Name:        "runs",
		Promise:     "a thread that is pinned to the CPU runs there when sched_setaffinity(2) returns",
		Source:      "sched_setaffinity(2): the thread is migrated before the call returns",
		SuspectLate: trainwreck,
		After:       Online,
		Placed:      true,
		Arm:         armRuns,
	},
	{
		Name:    "running-task",
		Promise: "a task that ran pinned to the CPU goes on: there while it is online, elsewhere when it is taken offline",
		Source:  docHotplug + ": all processes are migrated away from the outgoing CPU",
		Before:  Online,
		Placed:  true,
		Arm:     armRunningTask,
	},
	{
		Name:    "sleeping-task",
		Promise: "a task that slept pinned to the CPU runs when it is woken: there while it is online, elsewhere when it was taken offline",
		Source:  docHotplug + ": all processes are migrated away from the outgoing CPU",
		Before:  Online,
		Placed:  true,
		Arm:     armSleepingTask,
	},
	{
		Name:        "getaffinity",
		Promise:     "sched_getaffinity(2) of a thread with no affinity of its own has the CPU while it is online, and only then",
		Source:      "sched_getaffinity(2): cpus_mask & cpu_active_mask; " + trainwreck,
		SuspectLate: trainwreck,
		Placed:      true,
		Arm:         armGetaffinity,
	},
	{
		Name:        "effective",
		Promise:     "the cpuset's effective CPUs have the CPU while it is online, and only then",
		Source:      docCgroup + ": cpuset.cpus.effective; " + trainwreck,
		SuspectLate: trainwreck,
		Placed:      true,
		Needs:       func(v View) error { return v.From.Missing },
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.From.Group.Effective()
				if err != nil {
					return err
				}
				return p.Listed(cpus.Has(p.CPU), "%s has effective CPUs %v", p.From.Group.Path(), cpus)
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
				cpus, err := p.From.Group.CPUs()
				if err != nil {
					return err
				}
				return p.Listed(cpus.Has(p.CPU), "%s has CPUs %v", p.From.Group.Path(), cpus)
			}, nil
		},
	},
	{
		Name:    "emptied",
		Promise: "a task in a cpuset whose only CPU goes offline is moved to the next ancestor that has one",
		Source:  docCgroupV1 + ": that is done from a workqueue, and nobody waits for it; ten seconds are much more than it takes on a busy machine",
		Boot:    CgroupV1,
		Before:  Online,
		After:   Offline,
		Lag:     suite.TaskTimeout,
		Arm:     armEmptied,
	},
	{
		Name:    "cpu-online",
		Promise: "/sys/devices/system/cpu/cpuN/online is 1 while the CPU is online, and only then",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				online, err := p.Machine.CPUs.IsOnline(p.CPU)
				if err != nil {
					return err
				}
				return p.Listed(online, "cpu%d/online is %t", p.CPU, online)
			}, nil
		},
	},
	{
		Name:    "online-mask",
		Promise: "/sys/devices/system/cpu/online lists the CPU while it is online, and only then",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.Machine.CPUs.Online()
				if err != nil {
					return err
				}
				return p.Listed(cpus.Has(p.CPU), "the online mask is %v", cpus)
			}, nil
		},
	},
	{
		Name:    "offline-mask",
		Promise: "/sys/devices/system/cpu/offline lists the CPU while it is offline, and only then",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.Machine.CPUs.Offline()
				if err != nil {
					return err
				}
				return p.Listed(!cpus.Has(p.CPU), "the offline mask is %v", cpus)
			}, nil
		},
	},
	{
		Name:    "present-mask",
		Promise: "/sys/devices/system/cpu/present lists the CPU, online or not",
		Source:  docSysfs,
		Arm: func(p *Probe) (Check, error) {
			return func() error {
				cpus, err := p.Machine.CPUs.Present()
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
		Needs:   needsState,
		Arm:     armHotplugState,
	},
	{
		Name:    "uevent",
		Promise: "the operation sends exactly the uevents that it should: one for a CPU that came or went, none for one that did not, with a SEQNUM above all before it",
		Source:  "drivers/base/core.c: device_online(), device_offline()",
		Arm: func(p *Probe) (Check, error) {
			return func() error { return p.Machine.Events.Check(p.CPU, p.Transition.Uevent) }, nil
		},
	},
	{
		Name:    "proc-stat",
		Promise: "/proc/stat has a line for the CPU while it is online, and only then",
		Source:  "proc_stat(5)",
		Arm:     lineCheck("/proc/stat", statLine),
	},
	{
		Name:    "proc-cpuinfo",
		Promise: "/proc/cpuinfo has an entry for the CPU while it is online, and only then",
		Source:  "proc_cpuinfo(5)",
		Arm:     lineCheck("/proc/cpuinfo", cpuinfoLine),
	},
	{
		Name:    "proc-interrupts",
		Promise: "/proc/interrupts has a column for the CPU while it is online, and only then",
		Source:  "proc_interrupts(5)",
		Arm:     lineCheck("/proc/interrupts", interruptsLine),
	},
	{
		Name:    "proc-schedstat",
		Promise: "/proc/schedstat has a line for the CPU while it is online, and only then",
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
		Promise: "the scheduling domains in /proc/schedstat have the CPU while it is online, and only then, so that load is balanced to it",
		Source:  "Documentation/scheduler/sched-domains.rst",
		Suspect: `50e76632339d ("sched/cpuset/pm: Fix cpuset vs. suspend-resume bugs", v4.13)`,
		Needs:   needsDomains,
		Arm:     armDomains,
	},
	{
		Name:    "topology",
		Promise: "/sys/devices/system/cpu/cpuN/topology exists while the CPU is online, and only then",
		Source:  "drivers/base/topology.c: added and removed by a hotplug state",
		Arm:     existsCheck("topology"),
	},
	{
		Name:    "cache",
		Promise: "/sys/devices/system/cpu/cpuN/cache exists while the CPU is online, and only then",
		Source:  "drivers/base/cacheinfo.c: added and removed by a hotplug state",
		Needs:   needsCaches,
		Arm:     existsCheck("cache/index0"),
	},
	{
		Name:    "node",
		Promise: "the cpulist of the CPU's NUMA node has the CPU while it is online, and only then; the cpulist of no other node ever has it; has_cpu lists the nodes that have a CPU",
		Source:  "drivers/base/node.c: the node's CPUs & cpu_online_mask; Documentation/ABI/stable/sysfs-devices-node: has_cpu; mm/vmstat.c: vmstat_cpu_online(), vmstat_cpu_dead()",
		Needs:   needsFile("/sys/devices/system/node/online", "CONFIG_NUMA"),
		Arm:     armNode,
	},
	{
		Name:    "perf-event",
		Promise: "perf_event_open(2) on the CPU succeeds while it is online, and is ENODEV while it is offline",
		Source:  "kernel/events/core.c: perf_event_init_cpu(), perf_event_exit_cpu()",
		Needs:   needsFile("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS"),
		Arm:     armPerfEvent,
	},
	{
		Name:    "settled",
		Promise: "nothing that the operation has set going is unfinished when it returns, but for what docs/ledger.md lists",
		Source:  trainwreck + ": state must be consistent when the operation returns",
		Own:     true,
		Repeat:  settledOperations,
		Needs:   needsTracer,
		Arm:     armSettled,
	},
}
