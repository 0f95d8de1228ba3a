package cpuhp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// ThreadSiblings reads
// /sys/devices/system/cpu/cpuN/topology/thread_siblings_list: the online CPUs
// that are threads of the same core, this one included. The error wraps
// [fs.ErrNotExist] if the CPU is offline, or there is no such CPU.
func (f FS) ThreadSiblings(cpu int) (affinity.CPUSet, error) {
	return read(f.path(cpu, "topology/thread_siblings_list"), affinity.ParseList)
}

// Node returns the NUMA node of the CPU: the M of
// /sys/devices/system/cpu/cpuN/nodeM. The error wraps [fs.ErrNotExist] if the
// CPU has no node, as without CONFIG_NUMA, or there is no such CPU.
func (f FS) Node(cpu int) (int, error) {
	dir := f.path(cpu, "")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, syserr.In("cpuhp", err)
	}
	for _, entry := range entries {
		if number, ok := strings.CutPrefix(entry.Name(), "node"); ok {
			if node, err := strconv.ParseUint(number, 10, 31); err == nil {
				return int(node), nil
			}
		}
	}
	return 0, &Error{Package: "cpuhp", Op: "read", Path: dir, Err: fmt.Errorf("it has no node: %w", fs.ErrNotExist)}
}

// Isolated reads /sys/devices/system/cpu/isolated: the CPUs that are in no
// scheduler domain by isolcpus= on the kernel's command line, and since v7.0
// those that isolated cpuset partitions have now. Such a change of the file may
// be late. It is empty if the kernel has no such file.
func (f FS) Isolated() (affinity.CPUSet, error) { return f.optionalSet("isolated") }

// NohzFull reads /sys/devices/system/cpu/nohz_full: the CPUs that have no tick
// while they have one task, by nohz_full= on the kernel's command line. It is
// empty if the kernel has no such file, as without CONFIG_NO_HZ_FULL.
func (f FS) NohzFull() (affinity.CPUSet, error) { return f.optionalSet("nohz_full") }

func (f FS) optionalSet(name string) (affinity.CPUSet, error) {
	set, err := read(filepath.Join(f.cpus, name), func(text string) (affinity.CPUSet, error) {
		// What the kernel prints of a mask that it has not allocated.
		if text = strings.TrimSpace(text); text == "(null)" {
			return affinity.CPUSet{}, nil
		}
		return affinity.ParseList(text)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return affinity.CPUSet{}, nil
	}
	return set, err
}
