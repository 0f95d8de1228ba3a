package suite

import (
	"fmt"
	"slices"
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

// single reports whether a CPU can be in the state: it is not a mask.
func (s State) single() bool { return s == Offline || s == Online }

// Moment is when the promises are checked.
type Moment string

// The moments of a transition.
const (
	// AtUevent: a listener has just received the transition's uevent. The
	// write may still be going on.
	AtUevent Moment = "at-uevent"
	// AtReturn: the writing thread has just returned from write(2).
	AtReturn Moment = "at-return"
	// AfterResume: the thread that wrote to /sys/power/state has just
	// returned from write(2).
	AfterResume Moment = "after-resume"
)

// moments in words.
var moments = map[Moment]string{
	AtUevent: "at the uevent", AtReturn: "at the return of the write", AfterResume: "at the return from the suspend",
}

// Boot is a way in which a machine is booted, or made, that some promises are
// about. A row that needs one is left out on a machine that is booted
// otherwise.
type Boot string

// The ways to boot that rows may need.
const (
	Isolcpus      Boot = "isolcpus"       // isolcpus=: some CPUs are in no scheduler domain
	IsolcpusFirst Boot = "isolcpus-first" // one of them is the CPU that alone stays online during a suspend
	NohzFull      Boot = "nohz_full"      // nohz_full=: some CPUs have no tick, and one that has keeps the time for them
	SMT           Boot = "smt"            // cores have two threads or more, of which SMT control knows
	NoSMT         Boot = "nosmt"          // nosmt: the second threads of cores are present and offline
	MaxCPUs       Boot = "maxcpus"        // maxcpus=: some CPUs are present and have never been online
	NUMA          Boot = "numa"           // the CPUs are of two NUMA nodes or more
	HotAdd        Boot = "hot-add"        // the machine gets a CPU while it runs: see [Options].HotAdd
	CgroupV1      Boot = "cgroup-v1"      // cpusets of cgroup v1 without cpuset_v2_mode, which lose CPUs that go offline
)

// boots are those that a machine can be.
var boots = []Boot{Isolcpus, IsolcpusFirst, NohzFull, SMT, NoSMT, MaxCPUs, NUMA, HotAdd, CgroupV1}

// unknown reports whether no machine is booted like that: a row that needs it
// would never be run.
func (b Boot) unknown() bool { return b != "" && !slices.Contains(boots, b) }
