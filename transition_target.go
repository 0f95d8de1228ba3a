package hotplugtest

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// lastTarget picks the last CPU.
func lastTarget(m *Machine) (Prepared, error) {
	return Prepared{CPUs: m.Targets[len(m.Targets)-1:]}, nil
}

// lastWithTarget picks the last CPU that is at its hotplug target.
func lastWithTarget(m *Machine) (Prepared, error) {
	cpu, err := lastAtTarget(m)
	return Prepared{CPUs: []int{cpu}}, err
}

// lastAtTarget returns the last CPU that is at its hotplug target. One that was
// added has none. Before v6.2, that of the boot CPU is 0 until it first goes
// offline.
func lastAtTarget(m *Machine) (int, error) {
	for _, cpu := range slices.Backward(slices.Collect(m.Usable.Difference(m.Stateless).All())) {
		state, target, err := m.CPUs.State(cpu)
		if err != nil || state == target {
			return cpu, err
		}
	}
	return 0, suite.Unsupportedf("no CPU is at its own hotplug target, cpuN/hotplug/target")
}

// setNoValue writes to a CPU's online file what is neither yes nor no.
func setNoValue(o *Operation) error {
	return sysfs.WriteFile(filepath.Join(cpusDir, "cpu"+strconv.Itoa(o.CPU), "online"), "2")
}

// setSameTarget writes to a CPU's hotplug target the target that it has.
func setSameTarget(o *Operation) error {
	_, target, err := o.Machine.CPUs.State(o.CPU)
	if err != nil {
		return err
	}
	return sysfs.WriteFile(filepath.Join(cpusDir, "cpu"+strconv.Itoa(o.CPU), "hotplug/target"), strconv.Itoa(target))
}

// lastCore picks the second thread of the last core that can go offline whole.
func lastCore(m *Machine) (Prepared, error) {
	if runtime.GOARCH != "amd64" {
		return Prepared{}, suite.Unsupportedf("what becomes of a core that is offline is promised for x86")
	}
	prepared, err := needSMT(m)
	if err != nil {
		return prepared, err
	}
	second := prepared.CPUs[0]
	core, err := m.CPUs.ThreadSiblings(second)
	if err != nil {
		return prepared, err
	}
	if fixed := core.Difference(m.Usable); !fixed.Empty() {
		return prepared, suite.Unsupportedf("core %v cannot be taken offline, as CPU %v cannot", core, fixed)
	}
	undo := prepared.Undo
	prepared.Undo = func() error {
		err := m.CPUs.SetSMT("on")
		for cpu := range core.All() {
			err = errors.Join(err, m.Ensure(cpu, Online))
		}
		return errors.Join(err, undo())
	}
	return prepared, nil
}

// coreOfflineThenSMTOff takes the CPU's core offline whole before SMT is turned
// off.
func coreOfflineThenSMTOff(m *Machine, cpu int) error {
	if err := m.CPUs.SetSMT("on"); err != nil {
		return err
	}
	core, err := coreOf(m, cpu)
	if err != nil {
		return err
	}
	for other := range core.All() {
		err = errors.Join(err, m.Ensure(other, Offline))
	}
	return errors.Join(err, m.CPUs.SetSMT("off"))
}

// coreOf brings a core online whole, and returns its CPUs.
func coreOf(m *Machine, cpu int) (affinity.CPUSet, error) {
	// After the last cycle, the other threads may be offline still.
	for other := range m.Usable.All() {
		if err := m.Ensure(other, Online); err != nil {
			return affinity.CPUSet{}, err
		}
	}
	core, err := m.CPUs.ThreadSiblings(cpu)
	if err == nil && core.Count() < 2 {
		err = fmt.Errorf("cpu%d is the only thread of its core %v", cpu, core)
	}
	return core, err
}
