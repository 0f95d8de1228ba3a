package hotplugtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// mtrrScenarios are about how each CPU caches the machine's memory.
var mtrrScenarios = []Scenario{
	{
		Name:    "memory-types",
		Promise: "when a CPU is back, its memory type range registers and its page attribute table are those of the other CPUs",
		Source:  "Documentation/arch/x86/mtrr.rst; arch/x86/kernel/cpu/cacheinfo.c: cache_ap_online(); Intel SDM volume 3, MTRR considerations in MP systems: all processors have the same",
		Needs:   needsMTRR,
		Cycle:   memoryTypesKept,
	},
}

// Registers of an x86 CPU, as in <asm/msr-index.h>.
const (
	mtrrCap   = 0xfe  // its first byte is the number of variable ranges
	mtrrFirst = 0x200 // of two for each variable range: base and mask
)

var memoryTypeRegisters = []int64{
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, // fixed ranges
	0x277, // page attribute table
	0x2ff, // the default, and whether there are any
}

func msrFile(cpu int) string { return fmt.Sprintf("/dev/cpu/%d/msr", cpu) }

// memoryTypes reads the registers of a CPU. It leaves out those that it does
// not have.
func memoryTypes(cpu int) (map[int64]uint64, error) {
	f, err := os.Open(msrFile(cpu))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	types := make(map[int64]uint64)
	read := func(registers ...int64) error {
		for _, register := range registers {
			var value [8]byte
			switch _, err := f.ReadAt(value[:], register); {
			case errors.Is(err, unix.EIO): // a general protection fault
			case err != nil:
				return err
			default:
				types[register] = binary.LittleEndian.Uint64(value[:])
			}
		}
		return nil
	}
	if err := read(append([]int64{mtrrCap}, memoryTypeRegisters...)...); err != nil {
		return nil, err
	}
	for n := range int64(types[mtrrCap] & 0xff) {
		if err := read(mtrrFirst+2*n, mtrrFirst+2*n+1); err != nil {
			return nil, err
		}
	}
	return types, nil
}

// needsMTRR is for a kernel that sets the registers, and lets them be read.
func needsMTRR(m *Machine) error {
	const used = "/proc/mtrr"
	if !exists(used) {
		return suite.Unsupportedf("there is no %s: this kernel leaves memory types alone", used)
	}
	if _, err := memoryTypes(m.Targets[0]); err != nil {
		return suite.Unsupportedf("%v: it takes the module msr (modprobe msr), and a kernel without lockdown", err)
	}
	return nil
}

// memoryTypesKept compares the registers of a CPU that is back with those of a CPU
// that stayed: an operation before this one may have lost the CPU's own. If no CPU
// stays, the registers must be as before.
func memoryTypesKept(x *Scene, cpu int) error {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	if stays < 0 {
		stays = cpu
	}
	want, err := memoryTypes(stays)
	if err != nil {
		return err
	}
	if len(want) == 0 {
		return suite.Unsupportedf("none of the registers of cpu%d can be read, as in some virtual machines", stays)
	}
	if err := x.OffAndOn(cpu); err != nil {
		return err
	}
	types, err := memoryTypes(cpu)
	if err != nil {
		return err
	}
	return otherTypes(types, want, fmt.Sprintf("when cpu%d is back, its register", cpu), fmt.Sprintf("that of cpu%d was", stays))
}

// otherTypes says which registers do not have the value that is wanted.
func otherTypes(types, want map[int64]uint64, of, wanted string) error {
	var errs []error
	for _, register := range slices.Sorted(maps.Keys(want)) {
		is, ok := types[register]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s %#x cannot be read, and %s %#x", of, register, wanted, want[register]))
		case is != want[register]:
			errs = append(errs, fmt.Errorf("%s %#x is %#x, and %s %#x", of, register, is, wanted, want[register]))
		}
	}
	return errors.Join(errs...)
}
