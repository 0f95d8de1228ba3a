package hotplugtest

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/suite"
)

// errSMTOff is what bringing a second thread online gives while SMT is off.
// With CONFIG_GENERIC_ARCH_TOPOLOGY the kernel does not know that an offline
// CPU is one before it is up, and takes it down again:
// bringup_wait_for_ap_online().
var errSMTOff = func() unix.Errno {
	switch runtime.GOARCH {
	case "arm64", "riscv64":
		return unix.ECANCELED
	}
	return unix.EPERM
}()

// needSMT picks the last sibling thread that SMT control takes offline: one
// that is not the first of its core.
func needSMT(m *Machine) (Prepared, error) {
	control, active, err := m.CPUs.SMT()
	if err != nil {
		return Prepared{}, suite.Unsupportedf("%v", err)
	}
	if m.Options.CPUs != "" {
		return Prepared{}, suite.Unsupportedf("SMT control takes CPUs offline beside those to be used, %s", m.Options.CPUs)
	}
	prepared := Prepared{Undo: func() error { return m.CPUs.SetSMT(control) }}
	if control == "off" { // by nosmt
		if err := m.CPUs.SetSMT("on"); err != nil {
			return prepared, err
		}
		if _, active, err = m.CPUs.SMT(); err != nil {
			return prepared, err
		}
	} else if !cpuhp.SMTEnabled(control) {
		return Prepared{}, suite.Unsupportedf("no SMT to turn off: smt/control is %s, smt/active %t", control, active)
	}
	if !active {
		return prepared, suite.Unsupportedf("no core has two threads online")
	}
	seconds, unclear, err := secondThreads(m)
	if err != nil {
		return prepared, err
	}
	if err := mayGo(m, seconds, "is"); err != nil {
		return prepared, err
	}
	if err := mayGo(m, unclear, "may be"); err != nil {
		return prepared, err
	}
	last, ok := seconds.Last()
	if !ok {
		return prepared, errors.New("smt/active is 1, and no online CPU is the second thread of a core")
	}
	prepared.CPUs = []int{last}
	return prepared, nil
}

// mayGo returns an [*suite.Unsupported] if SMT control must not take all of the
// CPUs offline, each of which is the second thread of a core, or may be.
func mayGo(m *Machine, cpus affinity.CPUSet, is string) error {
	if err := m.OffLimits(cpus); err != nil {
		return suite.Unsupportedf("SMT control takes second threads offline: %v, and %s one", err, is)
	}
	if keep := cpus.Intersect(m.KeepOnline); !keep.Empty() {
		return suite.Unsupportedf("CPU %v has to stay online, and %s the second thread of a core", keep, is)
	}
	return nil
}

// secondThreads returns the online CPUs that are not the first thread of their
// core, and those of which that is unclear: the lists of siblings have no CPU
// that is offline, so a second thread seems to be a first while that is away.
// SMT control goes by the hardware's numbers, and takes it offline.
func secondThreads(m *Machine) (seconds, unclear affinity.CPUSet, err error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return seconds, unclear, err
	}
	present, err := m.CPUs.Present()
	if err != nil {
		return seconds, unclear, err
	}
	firsts, most := make(map[int]int), 0 // how many threads their cores have
	for cpu := range online.All() {
		siblings, err := m.CPUs.ThreadSiblings(cpu)
		if err != nil {
			return seconds, unclear, err
		}
		most = max(most, siblings.Count())
		if first, _ := siblings.First(); first == cpu {
			firsts[cpu] = siblings.Count()
		} else {
			seconds = seconds.With(cpu)
		}
	}
	// A core that has as many as any is complete.
	away, some := present.Difference(online).First()
	for cpu, threads := range firsts {
		if some && away < cpu && threads < most {
			unclear = unclear.With(cpu)
		}
	}
	return seconds, unclear, nil
}

// siblingsOff picks the last CPU of those that nosmt keeps offline.
func siblingsOff(m *Machine) (Prepared, error) {
	if m.Options.CPUs != "" {
		return Prepared{}, suite.Unsupportedf("SMT control brings CPUs online beside those to be used, %s", m.Options.CPUs)
	}
	present, err := m.CPUs.Present()
	if err != nil {
		return Prepared{}, err
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return Prepared{}, err
	}
	last, ok := present.Difference(online).Difference(m.NeverOnline).Last()
	if !ok {
		return Prepared{}, suite.Unsupportedf("no CPU that is present is offline")
	}
	return Prepared{CPUs: []int{last}, Undo: func() error { return m.CPUs.SetSMT("off") }}, nil
}

func setSMT(control string) func(*Operation) error {
	return func(o *Operation) error { return o.Machine.CPUs.SetSMT(control) }
}

// smtThen prepares a cycle by SMT control. "on" brings all CPUs online.
func smtThen(control string) func(*Machine, int) error {
	return func(m *Machine, cpu int) error {
		if err := m.CPUs.SetSMT(control); err != nil || control == "off" {
			return err
		}
		return m.Ensure(cpu, Online)
	}
}

// offlineThenSMTOff takes the CPU offline by itself before SMT control would.
func offlineThenSMTOff(m *Machine, cpu int) error {
	if err := m.CPUs.SetSMT("on"); err != nil {
		return err
	}
	return errors.Join(m.Ensure(cpu, Online), m.Ensure(cpu, Offline), m.CPUs.SetSMT("off"))
}
