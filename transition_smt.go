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
	seconds, err := secondThreads(m)
	if err != nil {
		return prepared, err
	}
	if err := m.OffLimits(seconds); err != nil {
		return prepared, suite.Unsupportedf("SMT control takes second threads offline: %v", err)
	}
	if keep := seconds.Intersect(m.KeepOnline); !keep.Empty() {
		return prepared, suite.Unsupportedf("CPU %v has to stay online, and is the second thread of a core", keep)
	}
	last, ok := seconds.Last()
	if !ok {
		return prepared, errors.New("smt/active is 1, and no online CPU is the second thread of a core")
	}
	prepared.CPUs = []int{last}
	return prepared, nil
}

// secondThreads returns the online CPUs that are not the first thread of their
// core.
func secondThreads(m *Machine) (seconds affinity.CPUSet, err error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return seconds, err
	}
	for cpu := range online.All() {
		siblings, err := m.CPUs.ThreadSiblings(cpu)
		if err != nil {
			return seconds, err
		}
		if first, _ := siblings.First(); first != cpu {
			seconds = seconds.With(cpu)
		}
	}
	return seconds, nil
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
