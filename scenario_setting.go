package hotplugtest

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// settingScenarios are about what somebody has set, and finds again.
var settingScenarios = []Scenario{
	{
		Name: "masks-kept",
		Promise: "masks of CPUs that are written to default_smp_affinity, to the workqueues' cpumask and to rps_cpus read back as written, " +
			"at once, while a CPU of them is offline, and when it is back",
		Source: `Documentation/core-api/irq/irq-affinity.rst; Documentation/core-api/workqueue.rst: cpumask; Documentation/networking/scaling.rst: rps_cpus; ` +
			`91f098704c25 ("workqueue: Fix divide error in wq_update_node_max_active()", v6.10)`,
		Needs:    allOf(needsNoIsolation, needsStaying),
		Together: true,
		Cycle:    masksKept,
	},
	{
		Name:     "irq-masks",
		Promise:  "smp_affinity_list of an IRQ reads back what was written to it, also while a CPU of it is offline",
		Source:   `Documentation/core-api/irq/irq-affinity.rst; 9ea2b810d51a ("genirq/proc: Fix race in show_irq_affinity()", v7.0)`,
		Needs:    allOf(needsUnhintedIRQ, needsStaying, needsNoBalancer),
		Together: true,
		Cycle:    irqMasksKept,
	},
}

// needsNoIsolation is for masks from which the kernel takes isolated CPUs.
func needsNoIsolation(m *Machine) error {
	if !m.Isolated.Empty() || m.Booted(NohzFull) {
		return suite.Unsupportedf("the kernel takes isolated CPUs out of such masks")
	}
	return nil
}

// needsNoBalancer is for masks of IRQs that nobody else writes.
func needsNoBalancer(*Machine) error {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range files {
		if name, err := sysfs.ReadFile(file); err == nil && name == "irqbalance" {
			return suite.Unsupportedf("irqbalance is running, process %s, and writes the masks of IRQs", filepath.Base(filepath.Dir(file)))
		}
	}
	return err
}

// A maskFile has a mask of CPUs that somebody sets.
type maskFile struct {
	path string
	// dropsOffline says that a CPU which is offline is taken out of what is
	// written.
	dropsOffline bool
	// alone says that the mask may have the CPU only.
	alone bool
}

var maskFiles = []maskFile{
	{path: "/proc/irq/default_smp_affinity"},
	{path: "/sys/devices/virtual/workqueue/cpumask", alone: true},
	{path: "/sys/class/net/lo/queues/rx-0/rps_cpus", dropsOffline: true},
}

// write writes a mask, and checks that it reads back.
func (f maskFile) write(cpus affinity.CPUSet) error {
	if err := sysfs.WriteFile(f.path, cpus.Mask()); err != nil {
		return err
	}
	return f.is(cpus, "")
}

// is checks what the mask is.
func (f maskFile) is(want affinity.CPUSet, when string) error {
	cpus, err := sysfs.Read(f.path, affinity.ParseMask)
	if err == nil && !cpus.Equal(want) {
		err = fmt.Errorf("%s%s is of CPUs %v, not of %v", when, f.path, cpus, want)
	}
	return err
}

// masksKept writes masks that have the CPU.
func masksKept(x *Scene, cpu int) error {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	// All are read before the first operation: a mask that it narrows is not
	// to be taken for what somebody has set.
	files, err := setMasks()
	if err != nil {
		return err
	}
	for _, f := range files {
		masks := []affinity.CPUSet{affinity.Of(stays, cpu)}
		if f.alone {
			masks = append(masks, affinity.Of(cpu))
		}
		if err := f.kept(x, cpu, masks); err != nil {
			return err
		}
	}
	return nil
}

// A setMask is a mask, as somebody has set it.
type setMask struct {
	maskFile
	before affinity.CPUSet
}

// setMasks reads the masks that may be written.
func setMasks() (list []setMask, err error) {
	for _, f := range maskFiles {
		if !exists(f.path) {
			continue
		}
		before, err := sysfs.Read(f.path, affinity.ParseMask)
		if err != nil {
			return nil, err
		}
		// What was requested of the workqueues is more than the mask while
		// somebody has an isolated partition, and would be lost.
		if requested, err := sysfs.Read(f.path+"_requested", affinity.ParseMask); err == nil && !requested.Equal(before) {
			continue
		}
		list = append(list, setMask{f, before})
	}
	return list, nil
}

// kept has the CPU go offline and come back with each of the masks.
func (f setMask) kept(x *Scene, cpu int, masks []affinity.CPUSet) (err error) {
	if err := f.is(f.before, fmt.Sprintf("since cpu%d has been offline, ", cpu)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sysfs.WriteFile(f.path, f.before.Mask())) }()
	for _, mask := range masks {
		if err := f.write(mask); err != nil {
			return err
		}
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
		err := f.is(mask, fmt.Sprintf("while cpu%d is offline, ", cpu))
		if !f.dropsOffline {
			err = errors.Join(err, f.write(mask))
		}
		err = errors.Join(err, x.Set(cpu, Online), f.is(mask, fmt.Sprintf("when cpu%d is back, ", cpu)))
		if err != nil {
			return err
		}
	}
	return nil
}

// irqRounds is how often masks are written, of all IRQs together.
const irqRounds = 200

// irqMasksKept writes masks of IRQs, again and again, and reads them back.
func irqMasksKept(x *Scene, cpu int) (err error) {
	list, err := movableIRQs(irq.hinted)
	if err != nil {
		return err
	}
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	undo, err := keepMasks(list)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	both := affinity.Of(stays, cpu)
	all := func(f func(i irq) error) error {
		for _, i := range list {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	for range max(1, irqRounds/max(1, len(list))) {
		if err := all(func(i irq) error { return errors.Join(i.set(affinity.Of(stays)), i.set(affinity.Of(cpu)), i.set(both)) }); err != nil {
			return err
		}
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = all(func(i irq) error {
		return errors.Join(i.is(both, fmt.Sprintf("while cpu%d is offline", cpu)), i.set(affinity.Of(stays)), i.set(both))
	})
	return errors.Join(err, x.Set(cpu, Online), all(func(i irq) error { return i.is(both, fmt.Sprintf("when cpu%d is back", cpu)) }))
}

// keepMasks returns what gives the IRQs the masks that they have now.
func keepMasks(list []irq) (undo func() error, err error) {
	masks := make([]affinity.CPUSet, len(list))
	for n, i := range list {
		if masks[n], err = i.mask(); err != nil {
			return nil, err
		}
	}
	return func() (err error) {
		for n, i := range list {
			err = errors.Join(err, i.move(masks[n]))
		}
		return err
	}, nil
}

// set moves an IRQ, and checks that its mask reads back.
func (i irq) set(cpus affinity.CPUSet) error {
	if err := i.move(cpus); err != nil {
		return err
	}
	return i.is(cpus, "at once")
}

// is checks the mask of an IRQ.
func (i irq) is(want affinity.CPUSet, when string) error {
	cpus, err := i.mask()
	if err == nil && !cpus.Equal(want) {
		err = fmt.Errorf("%s, %s is %v, and %v was written", when, i.file("smp_affinity_list"), cpus, want)
	}
	return err
}
