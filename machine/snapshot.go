package machine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// A Snapshot is the state of all that a test of CPU hotplug or suspend can
// change about a machine, on purpose or because the kernel does it then. What
// the machine does not have is not in it. It can be stored by encoding/gob.
type Snapshot struct {
	Root string // directory of the machine's file system, "/" but for tests
	PID  int    // the process that took it, whose own threads are not in it

	// Online is /sys/devices/system/cpu/online, a cpulist.
	Online string

	// Present is /sys/devices/system/cpu/present, a cpulist.
	Present string
	// HotAdd says that CPUs which are added later are the run's, which has to
	// remove them again.
	HotAdd bool

	// Settings are files that hold one value each, by what they are about and
	// their path: SMT control, cpuset.cpus of all cpusets, cpufreq governors
	// and so on.
	Settings map[string]map[string]string

	// Groups are the directories of cpusets and of resctrl's groups, and the
	// numbers of their inodes.
	Groups map[string]uint64

	// IRQs are the interrupts whose mask can be read.
	IRQs []IRQ

	// Threads are those of other processes and of the kernel, by their id,
	// without those whose affinity is the kernel's affair.
	Threads map[int]Thread

	// Leftovers are the directories hotplugtest-* in the cpuset hierarchy.
	Leftovers []string

	// Tracing are the instances hotplugtest-* of tracefs, and the mounts of it
	// that tests have made.
	Tracing []string

	// Modules are those of the kernel's modules for the injection of errors
	// that are loaded.
	Modules []string

	tries
}

// tries is what was found when the machine was to be restored.
type tries struct {
	// fixedIRQs are the interrupts that nobody can move, by their identity.
	fixedIRQs map[string]bool
	// busySince is when each directory that was to be removed, and has been
	// busy since, was busy first.
	busySince map[string]time.Time
}

// A Difference is one thing that was different in an earlier [Snapshot].
type Difference struct {
	What string // "cpu3", "thread 12 (sshd)", or the path of a file
	Was  string
	Is   string

	mend func() error
	lost bool // nothing can mend it
}

// String returns a text such as "cpu3 is offline, was online".
func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, was %s", d.What, orNothing(d.Is), orNothing(d.Was))
}

func orNothing(value string) string {
	if value == "" {
		return "empty"
	}
	return value
}

// A part is a part of the machine's state.
type part interface {
	// take reads it into the snapshot.
	take(s *Snapshot) error
	// diff says what differs now from what was.
	diff(was, now *Snapshot) []Difference
}

// parts are all parts, in the order in which they have to be restored: an
// injected failure or SMT that is off keeps CPUs from coming back; without the
// CPUs no mask can have them; and a leftover partition keeps them from other
// cpusets.
var parts = []part{
	failures,
	pmTest,
	pmTestDelay,
	pmNotifier,
	smtControl,
	added{},
	online{},
	leftovers{},
	tracing{},
	subtreeControl,
	cpusetCPUs,
	cpusetPartition,
	cpusetTasks{},
	threads{},
	irqMasks{},
	defaultIRQMask,
	workqueueMask,
	loopbackMasks,
	ledTriggers,
	resctrlControl,
	resctrlMonitor,
	governors,
	sysctls,
	memSleep,
	rtcTime,
	wakeAlarm,
	wakeup,
	modules{},
}

// Take reads the state of the machine whose file system is at root, "/" but for
// tests.
//
// The error wraps [fs.ErrNotExist] if that has no
// /sys/devices/system/cpu/online. Anything else that it does not have, or that
// cannot be read, is left out.
func Take(root string) (*Snapshot, error) {
	s := &Snapshot{Root: root, PID: os.Getpid(), Settings: make(map[string]map[string]string)}
	for _, p := range parts {
		if err := p.take(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Diff returns what is different in a later snapshot of the same machine. What
// is in one of them alone is no difference: a thread that has ended, a new
// cpuset; except for leftovers and modules.
func (s *Snapshot) Diff(later *Snapshot) []Difference {
	var diffs []Difference
	for _, p := range parts {
		diffs = append(diffs, p.diff(s, later)...)
	}
	return diffs
}

// Compare returns what is different on the machine now. The errors are those of
// [Take].
func (s *Snapshot) Compare() ([]Difference, error) {
	now, err := Take(s.Root)
	if err != nil {
		return nil, err
	}
	now.PID = s.PID
	return s.Diff(now), nil
}

// Restore mends what is different on the machine now. It goes on where
// something cannot be mended, and then returns an error that says so of each,
// and wraps the errnos.
//
// An affinity is set again only where somebody had restricted it. A thread that
// is still in a leftover hotplugtest-* directory is killed, unless it is one of
// this process.
func (s *Snapshot) Restore() error {
	if diffs, err := s.Compare(); err == nil && len(diffs) == 0 {
		return nil
	}
	var errs []error
	for _, p := range parts {
		// Each part is read anew, for it may have changed with those before,
		// and with it what others are compared by.
		now := &Snapshot{Root: s.Root, PID: s.PID, Settings: make(map[string]map[string]string)}
		if err := errors.Join(online{}.take(now), rtcTime.take(now), p.take(now)); err != nil {
			errs = append(errs, err)
			continue
		}
		var failed []Difference
		for _, d := range p.diff(s, now) {
			if d.mend() != nil {
				failed = append(failed, d)
			}
		}
		// What depends on another may have come first: a cpuset cannot lose
		// CPUs before its children do.
		for _, d := range slices.Backward(failed) {
			if err := d.mend(); err != nil {
				errs = append(errs, fmt.Errorf("%v: %w", d, err))
			}
		}
	}
	return errors.Join(errs...)
}

// mendable returns the differences that a later try may mend.
func mendable(diffs []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(diffs), func(d Difference) bool { return d.lost })
}

// mendAll restores until nothing is different, and returns what is at last. It
// asks each time for what has to be restored, as others may go on changing
// that.
func mendAll(wanted func() *Snapshot) (diffs []Difference, err error) {
	// What was changed can change more in turn, such as the masks of what moves
	// when a CPU comes back.
	var found tries
	for range 3 {
		s := wanted()
		s.tries = found
		restoreErr := s.Restore()
		found = s.tries
		s = wanted()
		s.tries = found
		diffs, err = s.Compare()
		if err = errors.Join(restoreErr, err); err == nil && len(diffs) == 0 {
			break
		}
	}
	return diffs, err
}

// clone returns a copy that does not change with what others write.
func (s *Snapshot) clone() *Snapshot {
	c := *s
	c.Settings = make(map[string]map[string]string, len(s.Settings))
	for name, files := range s.Settings {
		c.Settings[name] = maps.Clone(files)
	}
	c.Groups = maps.Clone(s.Groups)
	return &c
}

// path returns where a file of the machine is.
func (s *Snapshot) path(path string) string { return filepath.Join(s.Root, path) }

// online is the set of CPUs that are online.
type online struct{}

func (online) take(s *Snapshot) error {
	cpus, err := cpuhp.New(s.Root)
	if err != nil {
		return err
	}
	set, err := cpus.Online()
	if err != nil {
		return err
	}
	s.Online = set.String()
	if present, err := cpus.Present(); err == nil {
		s.Present = present.String()
	}
	return nil
}

func (online) diff(was, now *Snapshot) []Difference {
	before, after := cpuList(was.Online), cpuList(now.Online)
	words := map[bool]string{true: "online", false: "offline"}
	// CPUs come before others go, for the last one cannot.
	var diffs []Difference
	for _, up := range []bool{true, false} {
		changed := before.Difference(after)
		if !up {
			changed = after.Difference(before)
			// One that was added since was brought online by somebody else.
			if was.Present != "" {
				changed = changed.Intersect(cpuList(was.Present))
			}
		}
		for cpu := range changed.All() {
			diffs = append(diffs, Difference{"cpu" + strconv.Itoa(cpu), words[up], words[!up], func() error {
				sys, err := cpuhp.New(was.Root)
				if err != nil {
					return err
				}
				return sys.SetOnline(cpu, up)
			}, false})
		}
	}
	return diffs
}

// cpuList parses a cpulist of a snapshot; one that is none is the empty set.
func cpuList(list string) affinity.CPUSet {
	set, _ := affinity.ParseList(list)
	return set
}
