package hotplugtest

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// State is what a CPU can be, or a mask of both.
type State uint8

// The states of a CPU.
const (
	Offline State = 1 << iota
	Online
)

func (s State) String() string {
	switch s {
	case Offline:
		return "offline"
	case Online:
		return "online"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Moment is when the promises are looked at.
type Moment string

// The moments of a transition.
const (
	AtUevent    Moment = "at-uevent"    // a listener has just received the transition's uevent; the write may still go on
	AtReturn    Moment = "at-return"    // the writing thread has just returned from write(2)
	AfterResume Moment = "after-resume" // the thread that wrote to /sys/power/state has just returned from write(2)
)

// moments in words.
var moments = map[Moment]string{
	AtUevent: "at the uevent", AtReturn: "at the return of the write", AfterResume: "at the return from the suspend",
}

// Transition is an operation on one CPU: a row of the table [Transitions].
type Transition struct {
	Name          string // as in the name of its test: the part up to the first slash is that of the Test function, after "Test"
	Before, After State
	Uevent        string     // the action of the uevent that it sends for the CPU; "": it sends none
	Err           unix.Errno // what the operation is to fail with; 0: it is to succeed
	Op            func(c *Cycle) error

	Boot        Boot // the row is counted only on a machine that is booted so; "": on all
	Destructive bool // it may take a kernel that is broken down; see Options

	// Prepare brings a CPU into the state before. nil: by a write to its online file.
	Prepare func(s *Suite, cpu int) error

	// Setup prepares the machine once for all cycles. It picks the CPUs to look at from those that the suite may use, and
	// returns what undoes the preparation, and why the machine cannot do the transition, or "". nil: there is nothing to
	// prepare, and all are looked at.
	Setup func(s *Suite) (cpus []int, undo func() error, missing string, err error)

	// Together makes one cycle serve all invariants, where an operation takes seconds, or takes CPUs along with it.
	Together   bool
	Once       bool // it can be done to a CPU once, so that each moment has a CPU of its own. Implies Together
	Sleep      bool // the moment of its return is [AfterResume]
	RolledBack bool // the operation fails when the CPU is half-way, and goes back from there

	// Partition has the CPU and the probing threads in a partition. nil: they are in the root cpuset and in a child.
	Partition *Partition

	// Variants are the ways in which it can be done to a CPU, each of which is a test. They imply Together.
	Variants func(s *Suite, cpu int) ([]string, error)
}

// moments are those that the transition has.
func (t *Transition) moments() []Moment {
	switch {
	case t.Sleep:
		return []Moment{AfterResume}
	case t.Uevent == "":
		return []Moment{AtReturn}
	default:
		return []Moment{AtUevent, AtReturn}
	}
}

// crowded tells whether the window shows in which the cpusets are not what they should be: the kernel goes through them.
func (t *Transition) crowded() bool { return t.Before != t.After && t.Partition == nil }

// test is the name of the transition's Test function, without "Test".
func (t *Transition) test() string {
	name, _, _ := strings.Cut(t.Name, "/")
	return name
}

// judge tells what is wrong with the outcome of the operation.
func (t *Transition) judge(err error) error {
	switch {
	case t.Err == 0 && err == nil, t.Err != 0 && errors.Is(err, t.Err):
		return nil
	case t.Err == 0:
		return fmt.Errorf("the operation failed: %w", err)
	case err == nil:
		return fmt.Errorf("the operation succeeded, want %s", unix.ErrnoName(t.Err))
	default:
		return fmt.Errorf("%w, want %s", err, unix.ErrnoName(t.Err))
	}
}

func setOnline(c *Cycle) error  { return c.suite.cpus.SetOnline(c.CPU, true) }
func setOffline(c *Cycle) error { return c.suite.cpus.SetOnline(c.CPU, false) }

// Transitions are the operations after which the [Invariants] are to hold. Whoever embeds the suite may append. Those that
// may take a broken kernel down are the last of their test, and those tests the last, so that the results of others are
// not lost.
var Transitions = []Transition{
	{Name: "Online", Before: Offline, After: Online, Uevent: "online", Op: setOnline},
	{Name: "Offline", Before: Online, After: Offline, Uevent: "offline", Op: setOffline},

	// The first time that a CPU comes it gets what it then keeps: threads, files, memory.
	{Name: "Online/first", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Setup: firstOnline, Boot: MaxCPUs, Once: true},

	{Name: "Online/first-of-node", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Setup: lastOfNode, Boot: NUMA, Together: true},
	{Name: "Offline/last-of-node", Before: Online, After: Offline, Uevent: "offline", Op: setOffline, Setup: lastOfNode, Boot: NUMA, Together: true},

	{Name: "SameValue/online", Before: Online, After: Online, Op: setOnline},
	{Name: "SameValue/offline", Before: Offline, After: Offline, Op: setOffline},

	{Name: "Rollback/online", Before: Offline, After: Offline, Err: unix.EAGAIN, Op: failing(setOnline), Setup: disarm, Variants: failStates, RolledBack: true},
	{Name: "Rollback/offline", Before: Online, After: Online, Err: unix.EAGAIN, Op: failing(setOffline), Setup: disarm, Variants: failStates, RolledBack: true},

	{Name: "SMT/nosmt-online-refused", Before: Offline, After: Offline, Err: errSMTOff, Op: setOnline, Setup: siblingsOff, Prepare: smtThen("off"), Boot: NoSMT, Together: true},
	{Name: "SMT/nosmt-on", Before: Offline, After: Online, Uevent: "online", Op: setSMT("on"), Setup: siblingsOff, Prepare: smtThen("off"), Boot: NoSMT, Together: true},
	{Name: "SMT/off", Before: Online, After: Offline, Uevent: "offline", Op: setSMT("off"), Setup: needSMT, Prepare: smtThen("on"), Together: true},
	{Name: "SMT/on", Before: Offline, After: Online, Uevent: "online", Op: setSMT("on"), Setup: needSMT, Prepare: smtThen("off"), Together: true},
	{Name: "SMT/on-though-offlined-before", Before: Offline, After: Online, Uevent: "online", Op: setSMT("on"), Setup: needSMT, Prepare: offlineThenSMTOff, Together: true},
	{Name: "SMT/online-refused", Before: Offline, After: Offline, Err: errSMTOff, Op: setOnline, Setup: needSMT, Prepare: smtThen("off"), Together: true},

	{Name: "Partition/online", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Partition: &Partition{Kind: "root"}, Together: true},
	{Name: "Partition/offline", Before: Online, After: Offline, Uevent: "offline", Op: setOffline, Partition: &Partition{Kind: "root"}, Together: true},
	{Name: "Partition/refilled", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Setup: emptiable, Partition: &Partition{Kind: "root", Alone: true}, Together: true},
	{Name: "Partition/emptied", Before: Online, After: Offline, Uevent: "offline", Op: setOffline, Setup: emptiable, Partition: &Partition{Kind: "root", Alone: true}, Together: true},
	{Name: "Partition/isolated-online", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Partition: &Partition{Kind: "isolated"}, Together: true},
	{Name: "Partition/isolated-offline", Before: Online, After: Offline, Uevent: "offline", Op: setOffline, Partition: &Partition{Kind: "isolated"}, Together: true},

	{Name: "Suspend/mem-freezer", Before: Online, After: Online, Op: enter("mem"), Setup: pmTest("mem", "freezer"), Together: true, Sleep: true},
	{Name: "Suspend/mem-devices", Before: Online, After: Online, Op: enter("mem"), Setup: pmTest("mem", "devices"), Together: true, Sleep: true},
	{Name: "Suspend/mem-platform", Before: Online, After: Online, Op: enter("mem"), Setup: pmTest("mem", "platform"), Together: true, Sleep: true},
	{Name: "Suspend/mem-processors", Before: Online, After: Online, Op: enter("mem"), Setup: butHousekeeping(pmTest("mem", "processors")), Together: true, Sleep: true},
	{Name: "Suspend/mem-core", Before: Online, After: Online, Op: enter("mem"), Setup: butHousekeeping(pmTest("mem", "core")), Together: true, Sleep: true},
	{Name: "Suspend/mem-core-offline", Before: Offline, After: Offline, Op: enter("mem"), Setup: ofLast(butHousekeeping(pmTest("mem", "core"))), Together: true, Sleep: true},
	{Name: "Suspend/mem-core-partition", Before: Online, After: Online, Op: enter("mem"), Setup: butHousekeeping(pmTest("mem", "core")), Partition: &Partition{Kind: "root"}, Together: true, Sleep: true},
	{Name: "Suspend/freeze-freezer", Before: Online, After: Online, Op: enter("freeze"), Setup: pmTest("freeze", "freezer"), Together: true, Sleep: true},
	{Name: "Suspend/freeze-devices", Before: Online, After: Online, Op: enter("freeze"), Setup: pmTest("freeze", "devices"), Together: true, Sleep: true},
	{Name: "Suspend/freeze-platform", Before: Online, After: Online, Op: enter("freeze"), Setup: pmTest("freeze", "platform"), Together: true, Sleep: true},
	// A state that offlines no CPU has nothing to test at the levels that do.
	{Name: "Suspend/freeze-core", Before: Online, After: Online, Err: unix.EAGAIN, Op: enter("freeze"), Setup: pmTest("freeze", "core"), Together: true, Sleep: true},
	// pm_test is for a kernel that does not turn back: it is not to sleep.
	{Name: "Suspend/mem-woken", Before: Online, After: Online, Err: unix.EBUSY, Op: enterWoken("mem"), Setup: butHousekeeping(pmTest("mem", "core")), Together: true, Sleep: true},
	{Name: "Suspend/freeze-woken", Before: Online, After: Online, Err: unix.EBUSY, Op: enterWoken("freeze"), Setup: pmTest("freeze", "devices"), Together: true, Sleep: true},
	{Name: "Suspend/mem-notified", Before: Online, After: Online, Err: unix.ENXIO, Op: enter("mem"), Setup: notified("mem", unix.ENXIO), Together: true, Sleep: true},
	{Name: "Suspend/mem", Before: Online, After: Online, Op: enterAndWake("mem"), Setup: butHousekeeping(really("mem")), Together: true, Sleep: true},
	{Name: "Suspend/mem-offline", Before: Offline, After: Offline, Op: enterAndWake("mem"), Setup: ofLast(butHousekeeping(really("mem"))), Together: true, Sleep: true},
	{Name: "Suspend/disk-core", Before: Online, After: Online, Op: enter("disk"), Setup: butHousekeeping(hibernation("core")), Together: true, Sleep: true},
	{Name: "Suspend/freeze", Before: Online, After: Online, Op: enterAndWake("freeze"), Setup: really("freeze"), Together: true, Sleep: true},
	// Here all that is not isolated goes, and past what refuses that in Refused/last-housekeeping.
	{Name: "Suspend/last-housekeeping", Before: Online, After: Online, Op: enter("mem"), Setup: allButOne(pmTest("mem", "processors")), Boot: IsolcpusFirst, Destructive: true, Together: true, Sleep: true},

	{Name: "Refused/last-cpu", Before: Online, After: Online, Err: unix.EBUSY, Op: setOffline, Setup: makeLast},
	// tick_nohz_cpu_down() refuses, in a hotplug state of its own. Without that the kernel crashes.
	{Name: "Refused/timekeeper", Before: Online, After: Online, Err: unix.EBUSY, Op: setOffline, Setup: timekeeper, Boot: NohzFull, Destructive: true, RolledBack: true},
	// 38685e2a0476 ("cpu/hotplug: Don't offline the last non-isolated CPU", v6.7): without it there is no scheduler domain left.
	{Name: "Refused/last-housekeeping", Before: Online, After: Online, Err: unix.EBUSY, Op: setOffline, Setup: lastHousekeeping, Boot: Isolcpus, Destructive: true, Together: true},
}
