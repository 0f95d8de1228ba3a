package hotplugtest

import "golang.org/x/sys/unix"

// transitions are the operations after which the invariants must hold. Rows
// that may crash a broken kernel are the last of their test, and their tests
// the last, so that a crash loses no other results.
var transitions = []Transition{
	goesOnline("Online", Transition{Source: docOnline, Soak: true, Known: []Defect{tscLockup}}),
	goesOffline("Offline", Transition{Source: docOnline, Soak: true, Known: []Defect{loneIsolated, dyingNotVacated, deadlineBandwidth}}),
	// The first time that a CPU comes online it gets what it then keeps:
	// threads, files, memory.
	goesOnline("Online/first", Transition{Source: docHotplug + ": maxcpus=", Setup: firstOnline, Boot: MaxCPUs, Once: true}),
	goesOnline("Online/hot-added", Transition{Source: docHotplug + ": cpu_present_mask", Setup: hotAdded, Prepare: addAgain, Boot: HotAdd, Together: true}),
	goesOnline("Online/first-of-node", Transition{Source: docNode, Setup: lastOfNode, Boot: NUMA, Together: true}),
	goesOffline("Offline/last-of-node", Transition{Source: docNode, Setup: lastOfNode, Boot: NUMA, Together: true}),

	stays("SameValue/online", Online, Transition{Source: docSameValue, Op: setOnline}),
	stays("SameValue/offline", Offline, Transition{Source: docSameValue, Op: setOffline}),
	stays("SameTarget/online", Online, Transition{Source: docSameTarget, Op: setSameTarget, Setup: lastWithTarget, Together: true}),
	stays("SameTarget/offline", Offline, Transition{Source: docSameTarget, Op: setSameTarget, Setup: lastWithTarget, Together: true}),

	rolledBack("online", Offline, setOnline),
	rolledBack("offline", Online, setOffline),

	stays("SMT/nosmt-online-refused", Offline, Transition{Source: docSMT + ": nosmt", Op: setOnline, Err: errSMTOff,
		Setup: siblingsOff, Prepare: smtThen("off"), Boot: NoSMT, Together: true}),
	goesOnline("SMT/nosmt-on", Transition{Source: docSMT + ": nosmt", Op: setSMT("on"),
		Setup: siblingsOff, Prepare: smtThen("off"), Boot: NoSMT, Together: true}),
	goesOffline("SMT/off", Transition{Source: docSMT, Op: setSMT("off"), Setup: needSMT, Prepare: smtThen("on"), Together: true}),
	goesOnline("SMT/on", Transition{Source: docSMT, Op: setSMT("on"), Setup: needSMT, Prepare: smtThen("off"), Together: true}),
	goesOnline("SMT/on-though-offlined-before", Transition{Source: docSMT, Op: setSMT("on"),
		Setup: needSMT, Prepare: offlineThenSMTOff, Together: true}),
	// 2066f00e5b2d is in v6.17 and in 6.16.10.
	goesOnline("SMT/on-though-core-offline", Transition{Source: docSMT, Op: setSMT("on"),
		Setup: lastCore, Prepare: coreOfflineThenSMTOff, Together: true, Until: Version{6, 16}}),
	stays("SMT/on-leaves-core-offline", Offline, Transition{Source: `2066f00e5b2d ("x86/topology: Implement topology_is_core_online()", v6.17)`,
		Op: setSMT("on"), Setup: lastCore, Prepare: coreOfflineThenSMTOff, Together: true, Since: Version{6, 17}}),
	stays("SMT/online-refused", Offline, Transition{Source: docSMT, Op: setOnline, Err: errSMTOff,
		Setup: needSMT, Prepare: smtThen("off"), Together: true}),

	goesOnline("Partition/online", partitioned(Partition{Kind: "root"})),
	goesOffline("Partition/offline", partitioned(Partition{Kind: "root"})),
	goesOnline("Partition/refilled", partitioned(Partition{Kind: "root", Single: true}, unemptiable)),
	goesOffline("Partition/emptied", partitioned(Partition{Kind: "root", Single: true}, unemptiable)),
	goesOnline("Partition/isolated-online", partitioned(Partition{Kind: "isolated"})),
	goesOffline("Partition/isolated-offline", partitioned(Partition{Kind: "isolated"})),

	suspended("mem-freezer", "mem", Transition{Setup: pmTest("mem", "freezer")}),
	suspended("mem-devices", "mem", Transition{Setup: pmTest("mem", "devices")}),
	suspended("mem-platform", "mem", Transition{Setup: pmTest("mem", "platform")}),
	suspended("mem-processors", "mem", Transition{Setup: butHousekeeping(pmTest("mem", "processors"))}),
	suspended("mem-core", "mem", Transition{Setup: butHousekeeping(pmTest("mem", "core"))}),
	suspended("mem-core-offline", "mem", Transition{Setup: ofLast(butHousekeeping(pmTest("mem", "core"))), Before: Offline}),
	suspended("mem-core-partition", "mem", Transition{Setup: butHousekeeping(pmTest("mem", "core")),
		Partition: &Partition{Kind: "root"}, Except: []Span{partitionsTakeKthreads}}),
	suspended("freeze-freezer", "freeze", Transition{Setup: pmTest("freeze", "freezer")}),
	suspended("freeze-devices", "freeze", Transition{Setup: pmTest("freeze", "devices")}),
	suspended("freeze-platform", "freeze", Transition{Setup: pmTest("freeze", "platform")}),
	// A state that offlines no CPU has nothing to test at the levels that do.
	suspended("freeze-core", "freeze", Transition{Setup: pmTest("freeze", "core"), Err: unix.EAGAIN}),
	// pm_test is for a kernel that does not turn back: it must not sleep.
	suspended("mem-woken", "mem", Transition{Source: docWakeup, Op: enterWoken("mem"), Err: unix.EBUSY,
		Setup: unwoken(butHousekeeping(pmTest("mem", "core")))}),
	suspended("freeze-woken", "freeze", Transition{Source: docWakeup, Op: enterWoken("freeze"), Err: unix.EBUSY,
		Setup: unwoken(pmTest("freeze", "devices"))}),
	suspended("mem-notified", "mem", Transition{Source: docNotifier, Setup: notified("mem", unix.ENXIO), Err: unix.ENXIO}),
	suspended("mem", "mem", Transition{Op: enterAndWake("mem"), Setup: butHousekeeping(really("mem"))}),
	suspended("mem-offline", "mem", Transition{Op: enterAndWake("mem"), Setup: ofLast(butHousekeeping(really("mem"))), Before: Offline}),
	suspended("disk-core", "disk", Transition{Setup: butHousekeeping(hibernation("core"))}),
	suspended("freeze", "freeze", Transition{Op: enterAndWake("freeze"), Setup: really("freeze")}),
	// Here all that is not isolated goes, and past what refuses that in
	// Refused/last-housekeeping.
	suspended("last-housekeeping", "mem", Transition{Setup: allButOne(pmTest("mem", "processors")),
		Boot: IsolcpusFirst, Destructive: true, Known: []Defect{isolatedPrimary}}),

	refused("last-cpu", Transition{Source: "kernel/cpu.c: _cpu_down(), EBUSY for the last CPU", Setup: makeLast}),
	stays("Refused/no-value", Online, Transition{Source: docSysfs + ": cpuN/online; lib/kstrtox.c: kstrtobool()",
		Op: setNoValue, Err: unix.EINVAL, Setup: lastTarget, Together: true}),
	// It is refused in a hotplug state of its own. Without that the kernel
	// crashes.
	refused("timekeeper", Transition{Source: "kernel/time/tick-sched.c: tick_nohz_cpu_down()",
		Setup: timekeeper, Boot: NohzFull, Destructive: true, RolledBack: true}),
	// Without it there is no scheduler domain left.
	refused("last-housekeeping", Transition{Source: `38685e2a0476 ("cpu/hotplug: Don't offline the last non-isolated CPU", v6.7)`,
		Setup: lastHousekeeping, Boot: Isolcpus, Destructive: true, Together: true, Known: []Defect{noHousekeeping}}),

	// One node is enough, but nobody binds memory where there is no other.
	goesOffline("Memory/relative-policy", Transition{Source: docPolicy, Setup: relativePolicy, Boot: NUMA, Destructive: true, Together: true,
		Known: []Defect{relativeDivides}}),
}

// Where the outcome of operations is promised.
const (
	docOnline     = docSysfs + ": cpuN/online"
	docNode       = "Documentation/ABI/stable/sysfs-devices-node: nodeX/cpulist"
	docSameValue  = "drivers/base/core.c: device_online(), device_offline(), which do nothing then, with success"
	docSameTarget = `kernel/cpu.c: target_store(); 64ea6e44f85b ("cpu/hotplug: Make target_store() a nop when target == state", v6.2)`
	docSMT        = docSysfs + ": smt/control"
	docSleep      = "Documentation/admin-guide/pm/sleep-states.rst; Documentation/power/basic-pm-debugging.rst: pm_test"
	docWakeup     = "Documentation/ABI/testing/sysfs-power: wakeup_count"
	docPolicy     = "mbind(2): MPOL_F_RELATIVE_NODES; " + docSysfs + ": cpuN/online"
	docNotifier   = "Documentation/fault-injection/notifier-error-inject.rst"
)

func setOnline(o *Operation) error  { return o.Machine.CPUs.SetOnline(o.CPU, true) }
func setOffline(o *Operation) error { return o.Machine.CPUs.SetOnline(o.CPU, false) }

// goesOnline is t for a CPU that goes online.
func goesOnline(name string, t Transition) Transition {
	t.Name, t.Before, t.After, t.Uevent = name, Offline, Online, "online"
	if t.Op == nil {
		t.Op = setOnline
	}
	return t
}

// goesOffline is t for a CPU that goes offline.
func goesOffline(name string, t Transition) Transition {
	t.Name, t.Before, t.After, t.Uevent = name, Online, Offline, "offline"
	if t.Op == nil {
		t.Op = setOffline
	}
	return t
}

// stays is t for a CPU that stays in a state.
func stays(name string, state State, t Transition) Transition {
	t.Name, t.Before, t.After = name, state, state
	return t
}

// refused is t for an attempt to take a CPU offline that the kernel refuses.
func refused(name string, t Transition) Transition {
	t.Op, t.Err = setOffline, unix.EBUSY
	return stays("Refused/"+name, Online, t)
}
