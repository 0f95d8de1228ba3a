package hotplugtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

const (
	docTopology = "Documentation/admin-guide/cputopology.rst"
	cpusDir     = "/sys/devices/system/cpu"
)

// topologyInvariants are what the machine's own description of its CPUs must
// say: its content, where the rows topology and cache look for its files.
var topologyInvariants = []Invariant{
	{
		Name: "siblings",
		Promise: "the lists in topology/ of all online CPUs name only online CPUs, and each CPU names those that name it; " +
			"package_cpus_list has all CPUs of the package, and /proc/cpuinfo counts them right",
		Source: docTopology + ": the list of CPUs within the same core, cluster, die, package; proc_cpuinfo(5): siblings, cpu cores",
		Arm:    armSiblings,
	},
	{
		Name:    "cache-sharers",
		Promise: "shared_cpu_list of all online CPUs' caches names only online CPUs, and each CPU names those that name it",
		Source:  docSysfs + `: shared_cpu_list; 198102c9103f ("cacheinfo: Fix shared_cpu_map to handle shared caches at different levels", v6.3)`,
		Suspect: `"cacheinfo: Fix shared_cpu_map changes in event of CPU hotplug" (v6.4)`,
		Known:   []Defect{cacheKeepsOffline},
		Needs:   needsCaches,
		Arm:     armSharers,
	},
	{
		Name:    "smt-active",
		Promise: "smt/active is 1 while a core has two threads online, and only then",
		Source:  docSysfs + `: smt/active; kernel/sched/core.c: sched_smt_present; e22f910a26cd ("sched/smt: Fix unbalance sched_smt_present dec/inc", v6.11)`,
		Boot:    SMT,
		Arm:     armSMTActive,
	},
	{
		Name:    "cooling-device",
		Promise: "a CPU that comes has a cooling device if the boot CPU has one: firmware_node/thermal_cooling",
		Source:  `drivers/acpi/processor_driver.c: acpi_soft_cpu_online(): what is missing is made when the CPU comes for the first time; Documentation/driver-api/thermal/sysfs-api.rst`,
		After:   Online,
		Needs:   needsCooling,
		Arm: func(p *Probe) (Check, error) {
			path := coolingFile(p.CPU)
			return func() error {
				_, err := os.Stat(path)
				if errors.Is(err, fs.ErrNotExist) {
					err = fmt.Errorf("cpu%d is online, and there is no %s, though there is a %s", p.CPU, path, coolingFile(0))
				}
				return err
			}, nil
		},
	},
}

// coolingFile is the link from the CPU's ACPI device to its cooling device.
func coolingFile(cpu int) string {
	return filepath.Join(cpusDir, fmt.Sprintf("cpu%d/firmware_node/thermal_cooling", cpu))
}

// needsCooling is for a CPU whose firmware describes it, as it does the boot
// CPU.
func needsCooling(v View) error {
	for _, path := range []string{coolingFile(0), filepath.Dir(coolingFile(v.CPU))} {
		if !exists(path) {
			return suite.Unsupportedf("there is no %s: the CPU has no ACPI processor, or the kernel no CONFIG_ACPI_THERMAL", path)
		}
	}
	return nil
}

// needsCaches is for a machine that tells of the CPU's caches.
func needsCaches(v View) error {
	if !v.Machine.Caches.Has(v.CPU) {
		return suite.Unsupportedf("this machine tells nothing of the CPU's caches")
	}
	return nil
}

// lists are the CPUs that each CPU names.
type lists map[int]affinity.CPUSet

// mutual checks what some lists of all online CPUs must have in common. name is
// what they are of.
func (l lists) mutual(name string, online affinity.CPUSet) error {
	for _, cpu := range slices.Sorted(maps.Keys(l)) {
		list := l[cpu]
		switch {
		case !list.Difference(online).Empty():
			return fmt.Errorf("%s of cpu%d is %v, and the online CPUs are %v", name, cpu, list, online)
		case !list.Has(cpu):
			return fmt.Errorf("%s of cpu%d is %v, without the CPU itself", name, cpu, list)
		}
		for other := range list.All() {
			if !l[other].Has(cpu) {
				return fmt.Errorf("%s of cpu%d is %v, and that of cpu%d is %v", name, cpu, list, other, l[other])
			}
		}
	}
	return nil
}

// readTopology reads the lists in topology/ of the CPUs, by the file's name.
func readTopology(cpus affinity.CPUSet) (map[string]lists, error) {
	all := make(map[string]lists)
	for cpu := range cpus.All() {
		files, err := filepath.Glob(filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu), "topology/*_list"))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("cpu%d is online, and %s/cpu%d/topology has no lists", cpu, cpusDir, cpu)
		}
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			list, err := sysfs.Read(file, affinity.ParseList)
			if err != nil {
				return nil, err
			}
			name := filepath.Base(file)
			if all[name] == nil {
				all[name] = make(lists)
			}
			all[name][cpu] = list
		}
	}
	return all, nil
}

// armSiblings checks the lists in topology/, and what /proc/cpuinfo makes of
// them.
func armSiblings(p *Probe) (Check, error) {
	return func() error {
		online, err := p.Machine.CPUs.Online()
		if err != nil {
			return err
		}
		all, err := readTopology(online)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := all[name].mutual("topology/"+name, online); err != nil {
				return err
			}
		}
		packages := all["package_cpus_list"]
		if packages == nil { // before v5.3
			packages = all["core_siblings_list"]
		}
		if err := samePackage(packages); err != nil {
			return err
		}
		return cpuinfoCounts(packages, all["thread_siblings_list"])
	}, nil
}

// samePackage checks that the list of a CPU's package has all online CPUs of
// the package and no others. Other architectures number packages in other ways.
func samePackage(packages lists) error {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return nil
	}
	members := make(map[string]affinity.CPUSet)
	ids := make(map[int]string)
	for cpu := range packages {
		id, err := sysfs.ReadFile(filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu), "topology/physical_package_id"))
		if err != nil {
			return err
		}
		ids[cpu], members[id] = id, members[id].With(cpu)
	}
	for _, cpu := range slices.Sorted(maps.Keys(packages)) {
		if want := members[ids[cpu]]; !packages[cpu].Equal(want) {
			return fmt.Errorf("topology/package_cpus_list of cpu%d is %v, and the online CPUs of its package %s are %v", cpu, packages[cpu], ids[cpu], want)
		}
	}
	return nil
}

// cpuinfoCounts checks "siblings" and "cpu cores" in /proc/cpuinfo, which x86
// has, against the lists in topology/.
func cpuinfoCounts(packages, threads lists) error {
	text, err := sysfs.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	counts, err := parseCounts(text)
	if err != nil {
		return err
	}
	for _, cpu := range slices.Sorted(maps.Keys(counts)) {
		cores := make(map[string]bool)
		for other := range packages[cpu].All() {
			cores[threads[other].String()] = true
		}
		if want := (packageCounts{packages[cpu].Count(), len(cores)}); counts[cpu] != want {
			return fmt.Errorf("/proc/cpuinfo has siblings %d and cpu cores %d for cpu%d, and by the lists in topology/ they are %d and %d",
				counts[cpu].siblings, counts[cpu].cores, cpu, want.siblings, want.cores)
		}
	}
	return nil
}

// packageCounts is what /proc/cpuinfo counts of a CPU's package: its online
// CPUs, and the cores that they are of.
type packageCounts struct{ siblings, cores int }

// parseCounts reads the counts of each CPU in a /proc/cpuinfo that has any. On
// s390 they are below no "processor", and its cores are counted in another way
// (show_cpu_topology()): they are left out.
func parseCounts(text string) (map[int]packageCounts, error) {
	counts := make(map[int]packageCounts)
	cpu := -1
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if name != "processor" && name != "siblings" && name != "cpu cores" {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("/proc/cpuinfo: line %q: %w", strings.TrimSpace(line), err)
		}
		c := counts[cpu]
		switch {
		case name == "processor":
			cpu = n
			continue
		case cpu < 0:
			continue
		case name == "siblings":
			c.siblings = n
		default:
			c.cores = n
		}
		counts[cpu] = c
	}
	return counts, nil
}

// caches are those of one level and type, of each CPU.
type caches struct {
	sharers lists
	ids     map[int]string
}

// readCaches reads the caches of the CPUs, by what they are.
func readCaches(cpus affinity.CPUSet) (map[string]caches, error) {
	all := make(map[string]caches)
	for cpu := range cpus.All() {
		dirs, err := filepath.Glob(filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu), "cache/index*"))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			list, err := sysfs.Read(filepath.Join(dir, "shared_cpu_list"), affinity.ParseList)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			level, levelErr := sysfs.ReadFile(filepath.Join(dir, "level"))
			kind, kindErr := sysfs.ReadFile(filepath.Join(dir, "type"))
			if err := errors.Join(err, levelErr, kindErr); err != nil {
				return nil, err
			}
			name := fmt.Sprintf("%s cache of level %s", kind, level)
			if all[name].sharers == nil {
				all[name] = caches{make(lists), make(map[int]string)}
			}
			all[name].sharers[cpu] = list
			// Not all have one.
			if id, err := sysfs.ReadFile(filepath.Join(dir, "id")); err == nil {
				all[name].ids[cpu] = id
			}
		}
	}
	return all, nil
}

// apart says which CPUs share a cache by its list, and do not by its id. "":
// none.
func (c caches) apart() string {
	for _, cpu := range slices.Sorted(maps.Keys(c.ids)) {
		for other := range c.sharers[cpu].All() {
			if id, ok := c.ids[other]; ok && id != c.ids[cpu] {
				return notShared(cpu, c.ids[cpu], other, id)
			}
		}
	}
	return ""
}

// notShared says that the id of a cache is not the same on two CPUs.
func notShared(cpu int, id string, other int, otherID string) string {
	return fmt.Sprintf(". By its id, which is %s and %s, cpu%d and cpu%d do not share it", id, otherID, cpu, other)
}

// armSharers checks who shares a cache.
func armSharers(p *Probe) (Check, error) {
	return func() error {
		online, err := p.Machine.CPUs.Online()
		if err != nil {
			return err
		}
		all, err := readCaches(online)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := all[name].sharers.mutual("shared_cpu_list of the "+name, online); err != nil {
				return fmt.Errorf("%w%s", err, all[name].apart())
			}
		}
		return nil
	}, nil
}

// armSMTActive checks what is said of SMT. The files of vulnerabilities/ are no
// part of it: what they say of SMT is either the same static key of the kernel,
// or by design something else.
func armSMTActive(p *Probe) (Check, error) {
	return func() error {
		_, active, err := p.Machine.CPUs.SMT()
		if err != nil {
			return err
		}
		online, err := p.Machine.CPUs.Online()
		if err != nil {
			return err
		}
		all, err := readTopology(online)
		if err != nil {
			return err
		}
		pairs := 0
		for _, threads := range all["thread_siblings_list"] {
			if threads.Intersect(online).Count() > 1 {
				pairs++
			}
		}
		if active != (pairs > 0) {
			return fmt.Errorf("smt/active is %t, and %d online CPUs share their core with another one", active, pairs)
		}
		return nil
	}, nil
}
