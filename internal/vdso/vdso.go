// Package vdso asks the kernel's shared object in each process, the vDSO, on
// which CPU a thread runs. It does not enter the kernel: it reads what the CPU
// itself was told when it came online.
package vdso

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// ErrUnsupported says that the architecture or the kernel has no getcpu in the
// vDSO.
var ErrUnsupported = errors.New("vdso: there is no __vdso_getcpu")

// GetCPU returns the CPU and the NUMA node that the calling thread runs on, by
// __vdso_getcpu. The error is [ErrUnsupported], or says why the vDSO cannot be
// read.
func GetCPU() (cpu, node int, err error) {
	entry, err := getcpuEntry()
	if err != nil {
		return 0, 0, err
	}
	var c, n uint32
	getcpu(entry, &c, &n)
	return int(c), int(n), nil
}

// getcpuEntry returns the address of __vdso_getcpu.
var getcpuEntry = sync.OnceValues(func() (uintptr, error) {
	if !supported {
		return 0, ErrUnsupported
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	start, end, ok := find(maps)
	if !ok {
		return 0, ErrUnsupported
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	image := make([]byte, end-start)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		return 0, err
	}
	offset, err := symbol(image, "__vdso_getcpu")
	return uintptr(start + offset), err
})

// find returns where the vDSO is, by a /proc/self/maps: "7ffd8-7ffda r-xp
// 00000000 00:00 0 [vdso]".
func find(maps []byte) (start, end uint64, ok bool) {
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		if !strings.HasSuffix(lines.Text(), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &start, &end); err == nil && start < end {
			return start, end, true
		}
	}
	return 0, 0, false
}

// symbol returns where a function begins in an ELF image.
func symbol(image []byte, name string) (uint64, error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("vdso: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("vdso: %w", err)
	}
	for _, s := range symbols {
		if s.Name == name && s.Value < uint64(len(image)) {
			return s.Value, nil
		}
	}
	return 0, ErrUnsupported
}
