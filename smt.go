package hotplugtest

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// errSMTOff is what bringing a second thread online gives while SMT is off. With CONFIG_GENERIC_ARCH_TOPOLOGY the kernel does
// not know that an offline CPU is one before that is up, and takes it down again: bringup_wait_for_ap_online().
var errSMTOff = func() unix.Errno {
	switch runtime.GOARCH {
	case "arm64", "riscv64":
		return unix.ECANCELED
	}
	return unix.EPERM
}()

// needSMT picks the last sibling thread that SMT control takes offline: one that is not the first of its core.
func needSMT(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	control, active, err := s.cpus.SMT()
	if err != nil {
		return nil, nil, err.Error(), nil
	}
	if s.opts.CPUs != "" {
		return nil, nil, fmt.Sprintf("SMT control takes CPUs offline beside those to be used, %s", s.opts.CPUs), nil
	}
	undo = func() error { return s.cpus.SetSMT(control) }
	if control == "off" { // by nosmt
		if err := s.cpus.SetSMT("on"); err != nil {
			return nil, nil, "", err
		}
		if _, active, err = s.cpus.SMT(); err != nil {
			return nil, undo, "", err
		}
	} else if control != "on" {
		return nil, nil, fmt.Sprintf("no SMT to turn off: smt/control is %s, smt/active %t", control, active), nil
	}
	if !active {
		return nil, undo, "no core has two threads online", nil
	}
	online, err := s.cpus.Online()
	if err != nil {
		return nil, undo, "", err
	}
	var others affinity.CPUSet
	for cpu := range online.All() {
		siblings, err := s.cpus.ThreadSiblings(cpu)
		if err != nil {
			return nil, undo, "", err
		}
		if first, _ := siblings.First(); first != cpu {
			others = others.With(cpu)
			cpus = []int{cpu}
		}
	}
	if why := s.offLimits(others); why != "" {
		return nil, undo, "SMT control takes second threads offline: " + why, nil
	}
	if stay := others.Intersect(s.stay); !stay.Empty() {
		return nil, undo, fmt.Sprintf("CPU %v has to stay online, and is the second thread of a core", stay), nil
	}
	return cpus, undo, "", nil
}

// siblingsOff picks the last CPU of those that nosmt keeps offline.
func siblingsOff(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	if s.opts.CPUs != "" {
		return nil, nil, fmt.Sprintf("SMT control brings CPUs online beside those to be used, %s", s.opts.CPUs), nil
	}
	present, err := s.cpus.Present()
	if err != nil {
		return nil, nil, "", err
	}
	online, err := s.cpus.Online()
	if err != nil {
		return nil, nil, "", err
	}
	last, ok := present.Difference(online).Difference(s.fresh).Last()
	if !ok {
		return nil, nil, "no CPU that is present is offline", nil
	}
	return []int{last}, func() error { return s.cpus.SetSMT("off") }, "", nil
}

func setSMT(control string) func(*Cycle) error {
	return func(c *Cycle) error { return c.suite.cpus.SetSMT(control) }
}

// smtThen prepares a cycle by SMT control. "on" brings all CPUs online.
func smtThen(control string) func(*Suite, int) error {
	return func(s *Suite, cpu int) error {
		if err := s.cpus.SetSMT(control); err != nil || control == "off" {
			return err
		}
		return s.put(cpu, Online)
	}
}

// offlineThenSMTOff takes the CPU offline by itself before SMT control would.
func offlineThenSMTOff(s *Suite, cpu int) error {
	if err := s.cpus.SetSMT("on"); err != nil {
		return err
	}
	return errors.Join(s.put(cpu, Online), s.put(cpu, Offline), s.cpus.SetSMT("off"))
}
