package suite

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/suspend"
)

// Machine is what rows work on: facts about it that do not change once it is
// opened, and the instruments.
type Machine struct {
	Facts

	// CPUs takes CPUs offline and online.
	CPUs CPUs
	// Power puts the machine to sleep.
	Power suspend.FS
	// Events is what the CPUs have sent in this cycle.
	Events *Events

	// Root is the placement in the root cpuset, and Child the one in a child.
	// Missing says so if this machine has no cpusets.
	Root, Child *Placement

	real            bool // it is the machine that this process runs on
	log             *testLog
	siblings        *siblings
	limits          limits
	attributes      [][2]string // about the machine, for the report
	instruments     map[string]instrument
	afterWrite      atomic.Pointer[func()] // see Probe.AfterWrite
	beforeOperation hooks                  // see Probe.BeforeOperation
	told            atomic.Bool            // it was called in this operation
	hang            hang
	known           *knownDefects
	progress        atomic.Uint64 // counts what was done, for a watchdog
}

// Shared returns the CPUs that are online, without those of somebody's
// partition: a task outside may not run there.
func (m *Machine) Shared() (affinity.CPUSet, error) {
	online, err := m.CPUs.Online()
	return online.Difference(m.Partitioned), err
}

// Ensure brings a CPU into a state, if it is not in it. The error is that of
// [CPUs].SetOnline.
func (m *Machine) Ensure(cpu int, state State) error {
	if online, err := m.CPUs.IsOnline(cpu); err != nil || online == (state == Online) {
		return err
	}
	defer m.progress.Add(1)
	return m.CPUs.SetOnline(cpu, state == Online)
}

// SetAll takes CPUs online or offline, one after the other, whatever fails of
// it.
func (m *Machine) SetAll(cpus affinity.CPUSet, state State) error {
	var errs []error
	for cpu := range cpus.All() {
		errs = append(errs, m.CPUs.SetOnline(cpu, state == Online))
		m.progress.Add(1)
	}
	return errors.Join(errs...)
}

// restore brings the CPUs back to the given online mask.
func (m *Machine) restore(online affinity.CPUSet) error {
	now, err := m.CPUs.Online()
	if err != nil {
		return err
	}
	return errors.Join(m.SetAll(online.Difference(now), Online), m.SetAll(now.Difference(online), Offline))
}

// OffLimits returns an [*Unsupported] if some of the CPUs are somebody's, or
// were not given by the machine's owner.
func (m *Machine) OffLimits(cpus affinity.CPUSet) error {
	if theirs := cpus.Intersect(m.Partitioned); !theirs.Empty() {
		return Unsupportedf("CPU %v belongs to a cpuset partition", theirs)
	}
	return m.NotGiven(cpus)
}

// NotGiven returns an [*Unsupported] if the machine's owner has not given some
// of the CPUs with [Options.CPUs].
func (m *Machine) NotGiven(cpus affinity.CPUSet) error {
	if rest := cpus.Difference(m.Usable); m.Options.CPUs != "" && !rest.Empty() {
		return Unsupportedf("CPU %v is not among those to be used, %s", rest, m.Options.CPUs)
	}
	return nil
}

// GiveBack brings CPUs online, and gives all that are online to a cpuset that
// lost them. Whether the kernel lets it have them at once is for the probes of
// the root cpuset to tell, so it is tried for as long as they look.
func (m *Machine) GiveBack(place *Placement, cpus []int) error {
	for _, cpu := range cpus {
		if err := m.Ensure(cpu, Online); err != nil {
			return err
		}
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return err
	}
	for end := time.Now().Add(PollTimeout); ; {
		if err := place.Group.SetCPUs(online); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// NewGroup makes a cpuset of this process below the root one, which single
// threads may be in. Its name, which ends with suffix, tells the supervisor
// whose it is.
func (m *Machine) NewGroup(suffix string) (*cpuset.Group, error) {
	return threaded(m.Root.Group, groupName()+suffix)
}

// TakeOffline takes CPUs offline, one after the other. If the kernel refuses
// one with ENOSPC, because the other CPUs have no room for its interrupts, the
// error is an [*Unsupported] with the kernel's own line: such a machine cannot
// have so few CPUs online. After that refusal nothing may have changed; if
// something has, that is the error.
func (m *Machine) TakeOffline(cpus affinity.CPUSet) error {
	for cpu := range cpus.All() {
		if err := m.takeOffline(cpu); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) takeOffline(cpu int) error {
	if err := m.Events.Forget(); err != nil {
		return err
	}
	before, err := m.standing(cpu)
	if err != nil {
		return err
	}
	m.log.begin()
	err = m.CPUs.SetOnline(cpu, false)
	said := m.log.end()
	m.progress.Add(1)
	switch {
	case err == nil:
		return said.judge()
	case !errors.Is(err, unix.ENOSPC):
		return errors.Join(err, said.explain())
	}
	if changed := errors.Join(m.sameAs(cpu, before), said.judge()); changed != nil {
		return fmt.Errorf("%w, and then:\n%w\n    promised: %s\n    source:   %s", err, changed,
			"a refused operation changes nothing and sends no uevent",
			"Documentation/core-api/cpu_hotplug.rst: a failed operation is rolled back")
	}
	return Unsupportedf("the other CPUs have no room for the interrupts of cpu%d (ENOSPC): %s", cpu, said.about(cpu))
}

// reading is something that was read of the machine.
type reading struct{ name, value string }

// standing is what must stay as it is when an operation on the CPU is refused.
func (m *Machine) standing(cpu int) (list []reading, err error) {
	add := func(name string, value any, e error) {
		list = append(list, reading{name, fmt.Sprint(value)})
		err = errors.Join(err, e)
	}
	online, e := m.CPUs.Online()
	add("the online mask", online, e)
	offline, e := m.CPUs.Offline()
	add("the offline mask", offline, e)
	present, e := m.CPUs.Present()
	add("the present mask", present, e)
	is, e := m.CPUs.IsOnline(cpu)
	add(fmt.Sprintf("cpu%d/online", cpu), is, e)
	if !m.Stateless.Has(cpu) {
		state, target, e := m.CPUs.State(cpu)
		add(fmt.Sprintf("cpu%d/hotplug/state", cpu), state, e)
		add(fmt.Sprintf("cpu%d/hotplug/target", cpu), target, e)
	}
	for _, place := range []*Placement{m.Root, m.Child} {
		if place.Group != nil {
			cpus, e := place.Group.Effective()
			add("the effective mask of "+place.Group.Path(), cpus, e)
		}
	}
	return list, err
}

// sameAs checks that a CPU stands as it did before, and has sent no uevent.
func (m *Machine) sameAs(cpu int, before []reading) error {
	after, err := m.standing(cpu)
	errs := []error{err, m.Events.Check(cpu, "")}
	for i, was := range before {
		if is := after[i]; is != was {
			errs = append(errs, fmt.Errorf("%s is %s, and was %s", is.name, is.value, was.value))
		}
	}
	return errors.Join(errs...)
}

// state says how the machine is now, for the report of a failure.
func (m *Machine) state(cpu int) string {
	var b strings.Builder
	b.WriteString("the machine after that:")
	say := func(name string, value any, err error) {
		if err != nil {
			value = err
		}
		fmt.Fprintf(&b, "\n    %-32s %v", name, value)
	}
	online, err := m.CPUs.Online()
	say("online", online, err)
	state, target, err := m.CPUs.State(cpu)
	say(fmt.Sprintf("cpu%d hotplug state, target", cpu), fmt.Sprintf("%d, %d", state, target), err)
	for _, place := range []*Placement{m.Root, m.Child} {
		if place.Group != nil {
			cpus, err := place.Group.Effective()
			say(place.Name+" effective", cpus, err)
		}
	}
	return b.String()
}

// NewMachine returns a machine with the given facts and instruments, for tests
// of rows without a kernel. It has no cpusets. Events and log may be nil if
// nothing asks for them.
func NewMachine(facts Facts, cpus CPUs, events Source, log *kmsg.Log) *Machine {
	facts.Options = facts.Options.withDefaults()
	missing := Unsupportedf("this machine has no cpusets")
	return &Machine{
		Facts: facts, CPUs: cpus, Events: NewEvents(events),
		Root:   &Placement{Name: "root-cpuset", Missing: missing},
		Child:  &Placement{Name: "child-cpuset", Missing: missing, Enters: true},
		log:    &testLog{log: log, askForBlockedTasks: func() error { return nil }},
		limits: limitsFor(facts.Online.Count()),
	}
}
