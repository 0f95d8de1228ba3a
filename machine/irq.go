package machine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An IRQ is an interrupt by what it is. Its number belongs to the kernel: a
// driver that frees its vectors for a suspend gets others when it resumes.
type IRQ struct {
	Number int

	// Device is the PCI address of the device that has it as an MSI vector, and
	// else the interrupt controller: /sys/kernel/irq/N/chip_name.
	Device string

	// MSI reports whether it is an MSI vector.
	MSI bool

	// Hwirq is the interrupt's number within the device or controller:
	// /sys/kernel/irq/N/hwirq.
	Hwirq string

	// Actions are the names of its handlers, separated by commas:
	// /sys/kernel/irq/N/actions.
	Actions string

	// CPUs is /proc/irq/N/smp_affinity_list.
	CPUs string
}

// irqMasks are the masks of the interrupts that can have one.
type irqMasks struct{}

func (irqMasks) take(s *Snapshot) error {
	msi := s.msiDevices()
	for _, number := range slices.Sorted(slices.Values(numbers(s.path("proc/irq")))) {
		cpus, err := read(s.path(maskFile(number)))
		if err != nil {
			continue // it has no mask, or is gone by now
		}
		irq := IRQ{Number: number, CPUs: strings.TrimSpace(cpus)}
		irq.Device, irq.MSI = msi[number]
		of := func(file string) string {
			text, _ := read(filepath.Join(s.path("sys/kernel/irq"), strconv.Itoa(number), file))
			return strings.TrimSpace(text)
		}
		irq.Actions, irq.Hwirq = of("actions"), of("hwirq")
		if !irq.MSI {
			irq.Device = of("chip_name")
		}
		// A kernel without CONFIG_SPARSE_IRQ gives the number alone, and it has
		// no numbers to give anew.
		if irq.Hwirq == "" {
			irq.Device, irq.Hwirq = "irq", strconv.Itoa(number)
		}
		s.IRQs = append(s.IRQs, irq)
	}
	return nil
}

// msiDevices returns the PCI address of the device that has an interrupt as its
// MSI vector, by the interrupt's number.
func (s *Snapshot) msiDevices() map[int]string {
	devices := make(map[int]string)
	// The error is one of the pattern.
	files, _ := filepath.Glob(s.path("sys/bus/pci/devices/*/msi_irqs/*"))
	for _, file := range files {
		if number, err := strconv.Atoi(filepath.Base(file)); err == nil {
			devices[number] = filepath.Base(filepath.Dir(filepath.Dir(file)))
		}
	}
	return devices
}

func maskFile(number int) string {
	return filepath.Join("/proc/irq", strconv.Itoa(number), "smp_affinity_list")
}

func (irqMasks) diff(was, now *Snapshot) []Difference {
	found, lost := matchIRQs(was.IRQs, now.IRQs)
	var diffs []Difference
	for _, before := range was.IRQs {
		if why, ok := lost[before]; ok {
			// One that nobody had restricted is missed by nobody.
			if online := cpuList(was.Online); !online.Difference(cpuList(before.CPUs)).Empty() {
				diffs = append(diffs, Difference{before.label(), before.CPUs, why, func() error { return nil }, true})
			}
			continue
		}
		after := found[before]
		// Somebody has taken its CPUs offline for good.
		if cpuList(before.CPUs).Intersect(cpuList(was.Online)).Empty() {
			continue
		}
		if after.CPUs == before.CPUs || was.fixedIRQs[before.whole()] {
			continue
		}
		diffs = append(diffs, Difference{after.label(), before.CPUs, after.CPUs, func() error {
			return was.moveIRQ(before, after.Number)
		}, false})
	}
	return diffs
}

// moveIRQ gives an interrupt, which has the given number now, the mask that it
// had. The kernel itself chooses the mask of an interrupt that nobody can move:
// its driver moves it away from a CPU that goes offline, and knows where it
// belongs then. So that is no difference.
func (s *Snapshot) moveIRQ(irq IRQ, number int) error {
	err := write(s.path(maskFile(number)), irq.CPUs)
	// EPERM since v6.11
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EPERM) {
		if s.fixedIRQs == nil {
			s.fixedIRQs = make(map[string]bool)
		}
		s.fixedIRQs[irq.whole()] = true
		return nil
	}
	return err
}

// label names an interrupt for people: its present number, and what it is.
func (i IRQ) label() string {
	switch {
	case i.Actions != "" && i.MSI:
		return fmt.Sprintf("%s (%s of %s)", maskFile(i.Number), i.Actions, i.Device)
	case i.Actions != "":
		return fmt.Sprintf("%s (%s)", maskFile(i.Number), i.Actions)
	case i.MSI:
		return fmt.Sprintf("%s (vector %s of %s)", maskFile(i.Number), i.Hwirq, i.Device)
	}
	return maskFile(i.Number)
}

// Why the interrupt of a snapshot is not to be found in a later one.
const (
	irqGone      = "gone"
	irqOther     = "one with other handlers"
	irqAmbiguous = "one of several that cannot be told apart"
)

// gone reports whether the difference is that of something which is not there any
// more. No write of a run does that: somebody has taken a device away, or has
// given it fewer queues. A driver that has lost its interrupt in a suspend does
// not look different.
func (d Difference) gone() bool { return d.lost && d.Is == irqGone }

// identities are what interrupts of two snapshots are compared by: first all
// that is known of them; then their handlers, as a driver may give a handler
// another vector; then the place alone. An empty one is none.
var identities = []func(IRQ) string{
	IRQ.whole,
	func(i IRQ) string {
		if i.Actions == "" {
			return ""
		}
		return i.Device + "\x00" + i.Actions
	},
	IRQ.place,
}

// whole is all that is known of an interrupt but its number and mask.
func (i IRQ) whole() string { return i.place() + "\x00" + i.Actions }

// place is where an interrupt comes from, whatever handles it.
func (i IRQ) place() string { return i.Device + "\x00" + i.Hwirq }

// matchIRQs finds the interrupts of an earlier snapshot in a later one. Those
// that are not found are in lost, with the reason.
func matchIRQs(was, now []IRQ) (found map[IRQ]IRQ, lost map[IRQ]string) {
	found, lost = make(map[IRQ]IRQ), make(map[IRQ]string)
	taken := make(map[IRQ]bool)
	for _, identity := range identities {
		theirs := irqsBy(identity, now, func(i IRQ) bool { return taken[i] })
		for id, ours := range irqsBy(identity, was, func(i IRQ) bool { _, ok := found[i]; return ok }) {
			for _, irq := range ours {
				switch n := len(theirs[id]); {
				case n > 0 && n+len(ours) > 2:
					lost[irq] = irqAmbiguous
				case lost[irq] == "":
					lost[irq] = irqGone
				}
			}
			for before, after := range pairs(ours, theirs[id]) {
				found[before], taken[after] = after, true
				delete(lost, before)
			}
		}
	}
	places := irqsBy(IRQ.place, now, func(i IRQ) bool { return taken[i] })
	for irq, why := range lost {
		if why == irqGone && len(places[irq.place()]) > 0 {
			lost[irq] = irqOther
		}
	}
	return found, lost
}

// irqsBy groups the interrupts that are not yet done by their identity.
func irqsBy(identity func(IRQ) string, irqs []IRQ, done func(IRQ) bool) map[string][]IRQ {
	groups := make(map[string][]IRQ)
	for _, irq := range irqs {
		if id := identity(irq); id != "" && !done(irq) {
			groups[id] = append(groups[id], irq)
		}
	}
	return groups
}

// pairs says which of the interrupts with the same identity is which later. If
// there is one of each, that is it, except for a vector that has other handlers
// now: another vector may be theirs. Of several, as of two controllers with the
// same name, those with the same number are the same if they are no MSI
// vectors, whose numbers move. If all had the same mask it does not matter.
func pairs(group, later []IRQ) map[IRQ]IRQ {
	which := make(map[IRQ]IRQ)
	alike := !slices.ContainsFunc(group, func(i IRQ) bool { return i.CPUs != group[0].CPUs })
	if alike && len(group) == len(later) {
		for i, before := range group {
			after := later[i]
			if !before.MSI || before.Actions == after.Actions || before.Actions == "" || after.Actions == "" {
				which[before] = after
			}
		}
		return which
	}
	byNumber := make(map[int]IRQ, len(later))
	for _, after := range later {
		byNumber[after.Number] = after
	}
	for _, before := range group {
		if after, ok := byNumber[before.Number]; ok && !before.MSI {
			which[before] = after
		}
	}
	return which
}
