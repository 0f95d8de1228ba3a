package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// hotAddScenarios are about CPUs that come and go for good.
var hotAddScenarios = []Scenario{
	{
		Name: "hot-add",
		Promise: "a CPU that is removed sends offline and remove and is nowhere any more; one that is added sends add, is present and offline, " +
			"and when it is online everything says the same of it as before",
		Source: docHotplug + ": cpu_present_mask; Documentation/ABI/testing/sysfs-bus-acpi: eject; Documentation/admin-guide/cputopology.rst: present, possible",
		Needs:  needsAdded,
		Cycle:  removeAndAddWatched,
		// the CPU that is added is one
		Together: true,
	},
}

func needsAdded(m *Machine) error {
	if !m.Booted(HotAdd) {
		return suite.Unsupportedf("no CPU can be added: -hot-add says by which command")
	}
	return addedByHand(m)
}

// addedByHand is for rows in which a CPU that is added stays offline until the
// row brings it online.
func addedByHand(m *Machine) error {
	if m.AddedGoesOnline {
		return suite.Unsupportedf("somebody else, such as a udev rule, brings a CPU online that is added")
	}
	return m.NotGiven(m.Added)
}

// addSame adds the CPU that was removed, if it was.
func addSame(m *Machine, cpu int) error {
	if present, err := m.CPUs.Present(); err != nil || present.Has(cpu) {
		return err
	}
	added, err := m.AddCPU()
	if err == nil && added != cpu {
		err = fmt.Errorf("cpu%d was removed, and cpu%d was added", cpu, added)
	}
	return err
}

// removeAndAddWatched looks at the machine with the CPU, without it, and with it
// again.
func removeAndAddWatched(x *Scene, _ int) error {
	m := x.Machine
	cpu, _ := m.Added.First()
	online, err := m.CPUs.Online()
	if err != nil {
		return err
	}
	before, err := describe(online)
	if err != nil {
		return err
	}
	if err := m.Events.Forget(); err != nil {
		return err
	}
	going, coming := []string{"offline", "unbind", "remove"}, []string{"add", "bind", "online"}
	if _, err := os.Lstat(filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu), "driver")); err != nil {
		without := func(action string) bool { return strings.HasSuffix(action, "bind") }
		going, coming = slices.DeleteFunc(going, without), slices.DeleteFunc(coming, without)
	}
	err = errors.Join(m.RemoveCPU(cpu), m.Events.CheckAll(cpu, going...))
	if err == nil {
		err = checkGone(m, cpu, before, online.Without(cpu))
	}
	// Whatever was wrong, others need the CPU.
	if err := errors.Join(err, m.Events.Forget(), addSame(m, cpu)); err != nil {
		return err
	}
	if err := checkAdded(m, cpu); err != nil {
		return err
	}
	if err := errors.Join(x.Set(cpu, Online), m.Events.CheckAll(cpu, coming...)); err != nil {
		return err
	}
	after, err := describe(online)
	if err != nil {
		return err
	}
	return differences(before, after, fmt.Sprintf("when cpu%d was removed, added and brought online", cpu))
}

// checkGone checks that a CPU is nowhere any more, and the others are as before.
func checkGone(m *Machine, cpu int, before map[string]string, others affinity.CPUSet) error {
	var errs []error
	for _, pattern := range []string{cpusDir + "/cpu%d", "/sys/devices/system/node/node*/cpu%d", "/sys/bus/cpu/devices/cpu%d"} {
		left, err := filepath.Glob(fmt.Sprintf(pattern, cpu))
		errs = append(errs, err)
		for _, file := range left {
			errs = append(errs, fmt.Errorf("cpu%d was removed, and there is still %s", cpu, file))
		}
	}
	online, err := m.CPUs.Online()
	if errs = append(errs, err); !online.Equal(others) {
		errs = append(errs, fmt.Errorf("cpu%d was removed, and CPUs %v are online: want %v", cpu, online, others))
	}
	without, err := describe(others)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if file := cpusDir + "/possible"; without[file] != before[file] {
		errs = append(errs, fmt.Errorf("cpu%d was removed, and %s is %q, and was %q", cpu, file, without[file], before[file]))
	}
	return errors.Join(append(errs, lacking(before, without, cpu))...)
}

// checkAdded checks a CPU that was added and that nobody has brought online.
func checkAdded(m *Machine, cpu int) error {
	present, err := m.CPUs.Present()
	if err != nil {
		return err
	}
	var errs []error
	if !present.Has(cpu) {
		errs = append(errs, fmt.Errorf("cpu%d has sent its uevent \"add\", and CPUs %v are present", cpu, present))
	}
	is, err := m.CPUs.IsOnline(cpu)
	if errs = append(errs, err); is {
		errs = append(errs, fmt.Errorf("cpu%d was added, nobody has brought it online, and its own file says that it is", cpu))
	}
	online, err := m.CPUs.Online()
	if errs = append(errs, err); online.Has(cpu) {
		errs = append(errs, fmt.Errorf("cpu%d was added, nobody has brought it online, and it is in the online mask %v", cpu, online))
	}
	link := filepath.Join("/sys/bus/cpu/devices", "cpu"+strconv.Itoa(cpu))
	if _, err := os.Stat(filepath.Join(link, "online")); err != nil {
		errs = append(errs, fmt.Errorf("cpu%d has sent its uevent \"add\": %w", cpu, err))
	}
	return errors.Join(errs...)
}
