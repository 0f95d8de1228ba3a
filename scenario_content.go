package hotplugtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// contentScenarios are about what the machine says of itself: it must say the
// same again, and its counters must go on.
var contentScenarios = []Scenario{
	{
		Name: "description",
		Promise: "what sysfs and /proc/cpuinfo say of the CPUs, their caches, machine checks, nodes and vulnerabilities is the same when the CPU is back; " +
			"while it is offline the lists of the others lack that CPU alone",
		Source: docTopology + "; " + docSysfs + `; "cacheinfo: Fix shared_cpu_map changes in event of CPU hotplug" (v6.4)`,
		Known:  []Defect{cacheKeepsOffline},
		Cycle:  sameDescription,
	},
	{
		Name: "counters",
		Promise: "counters in /proc/stat, /proc/vmstat, /proc/softirqs, /proc/interrupts and /proc/timer_list go on from where they were when the CPU is back, " +
			"and sums do not lose its share while it is offline",
		Source: `proc_stat(5), proc_vmstat(5), proc_softirqs(5), proc_interrupts(5); 9a574ea9069b ("tick-sched: Preserve number of idle sleeps across CPU hotplug events", v6.8)`,
		Needs:  needsTicks,
		Cycle:  countersGoOn,
	},
}

// describing are the files that describe CPU %d, as in filepath.Match.
var describing = []string{
	"cpu%d/topology/*", "cpu%d/cache/index*/*", "cpu%d/cpu_capacity", "cpu%d/microcode/version", "cpu%d/regs/identification/*",
	"../machinecheck/machinecheck%d/check_interval",
}

// describingEach are those of these files that each CPU has, or none.
var describingEach = []string{"cpu%d/topology/core_id", "cpu%d/cpu_capacity", "../machinecheck/machinecheck%d/check_interval"}

// deprived looks for a file that the other CPUs have, and a CPU has not: an
// operation before this one may have taken it.
func deprived(texts map[string]string, cpu int, cpus affinity.CPUSet) error {
	for _, pattern := range describingEach {
		file := func(cpu int) string { return filepath.Join(cpusDir, fmt.Sprintf(pattern, cpu)) }
		if _, has := texts[file(cpu)]; has {
			continue
		}
		for other := range cpus.All() {
			if _, has := texts[file(other)]; has {
				return fmt.Errorf("there is no %s, though cpu%d is online, and there is %s", file(cpu), cpu, file(other))
			}
		}
	}
	return nil
}

// describingAll describe all of them.
var describingAll = []string{
	"/sys/devices/system/node/node*/cpulist", cpusDir + "/vulnerabilities/*", cpusDir + "/smt/*", cpusDir + "/modalias",
	cpusDir + "/possible", cpusDir + "/present", cpusDir + "/kernel_max",
}

// describe reads what the machine says of the CPUs, by the file's path.
func describe(cpus affinity.CPUSet) (map[string]string, error) {
	patterns := slices.Clone(describingAll)
	for cpu := range cpus.All() {
		for _, pattern := range describing {
			patterns = append(patterns, filepath.Join(cpusDir, fmt.Sprintf(pattern, cpu)))
		}
	}
	texts := make(map[string]string)
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Mode()&0o444 == 0 {
				continue // such as uevent, which can be written alone
			}
			text, err := sysfs.ReadFile(file)
			if err != nil {
				return nil, err
			}
			texts[file] = text
		}
	}
	info, err := sysfs.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	maps.Copy(texts, cpuinfoFields(info))
	return texts, nil
}

// cpuinfoFields returns the fields of a /proc/cpuinfo, without those that are
// measured, such as powerpc's clock, and without flags: what the kernel has
// learnt since the boot, a CPU gets when it comes online again.
func cpuinfoFields(text string) map[string]string {
	fields := make(map[string]string)
	cpu := ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch lower := strings.ToLower(name); {
		case !ok, strings.Contains(lower, "mhz"), lower == "clock", strings.Contains(lower, "bogomips"), strings.HasSuffix(lower, "flags"), lower == "bugs":
			continue
		case name == "processor":
			cpu = value
		}
		fields[fmt.Sprintf("/proc/cpuinfo of cpu%s: %s", cpu, name)] = value
	}
	return fields
}

// sameDescription compares what is said before, while the CPU is offline, and
// after.
func sameDescription(x *Scene, cpu int) error {
	online, err := x.Machine.CPUs.Online()
	if err != nil {
		return err
	}
	before, err := describe(online)
	if err == nil {
		err = deprived(before, cpu, online)
	}
	if err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	without, err := describe(online.Without(cpu))
	if err == nil {
		err = lacking(before, without, cpu)
	}
	if err := errors.Join(err, x.Set(cpu, Online)); err != nil {
		return err
	}
	after, err := describe(online)
	if err != nil {
		return err
	}
	return differences(before, after, fmt.Sprintf("when cpu%d is back", cpu))
}

// differences says how two descriptions differ.
func differences(before, after map[string]string, when string) error {
	var errs []error
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, what := range slices.Sorted(maps.Keys(all)) {
		was, had := before[what]
		is, has := after[what]
		switch {
		case was == is && had == has:
		case !has:
			errs = append(errs, fmt.Errorf("%s, there is no %s, which was %q", when, what, was))
		case !had:
			errs = append(errs, fmt.Errorf("%s, there is %s, which is %q and was not there", when, what, is))
		default:
			errs = append(errs, fmt.Errorf("%s, %s is %q, and was %q", when, what, is, was))
		}
	}
	return errors.Join(errs...)
}

// lacking checks the lists of CPUs in a description from which a CPU has gone:
// they are those of before, without the CPU.
func lacking(before, without map[string]string, cpu int) error {
	var errs []error
	own := filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu)) + "/"
	for _, file := range slices.Sorted(maps.Keys(before)) {
		if !strings.HasSuffix(file, "list") || strings.HasPrefix(file, own) {
			continue
		}
		was, err := affinity.ParseList(before[file])
		is, isErr := affinity.ParseList(without[file])
		if err := errors.Join(err, isErr); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if want := was.Without(cpu); !is.Equal(want) {
			errs = append(errs, fmt.Errorf("while cpu%d is offline, %s is %q, and was %q: want %q%s", cpu, file, is, was, want, apartFrom(before, file, cpu)))
		}
	}
	return errors.Join(errs...)
}

// apartFrom says that the cache which a file of a description is of is not shared
// with a CPU by its id. "": it is, or has none, or the file is of something else.
func apartFrom(texts map[string]string, file string, cpu int) string {
	dir, index := filepath.Split(filepath.Dir(file))
	var other int
	if _, err := fmt.Sscanf(dir, cpusDir+"/cpu%d/cache/", &other); err != nil {
		return ""
	}
	theirs, have := texts[filepath.Join(dir, index, "id")]
	own, has := texts[filepath.Join(cpusDir, "cpu"+strconv.Itoa(cpu), "cache", index, "id")]
	if !have || !has || theirs == own {
		return ""
	}
	return notShared(other, theirs, cpu, own)
}

// needsTicks is for promises about times that the tick counts.
func needsTicks(m *Machine) error {
	if m.Booted(NohzFull) {
		return suite.Unsupportedf("times of CPUs without a tick are guessed when they are read, by nohz_full=")
	}
	return nil
}

// makeCounts has the CPU compute for some ticks, at any frequency of the tick,
// and take more page faults than others do in an operation.
func makeCounts() error {
	spin(50 * time.Millisecond)
	for range 256 {
		memory, err := unix.Mmap(-1, 0, 16*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err == nil {
			err = unix.Munmap(memory)
		}
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
	}
	return nil
}

// countersGoOn compares counters before the CPU goes offline, while it is, and
// when it is back.
func countersGoOn(x *Scene, cpu int) error {
	idle := x.Machine.Kernel.Since(Version{6, 8})
	last := make(map[string]uint64)
	look := func(when string) error {
		now, err := readCounters(idle)
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(now)) {
			// Those of interrupts have 32 bits, and begin anew when they are full.
			if now[name] < last[name] && last[name]-now[name] < 1<<31 {
				errs = append(errs, fmt.Errorf("%s, %s is %d, and was %d", when, name, now[name], last[name]))
			}
			last[name] = now[name]
		}
		return errors.Join(errs...)
	}
	// What is zero could not be lost.
	if err := affinity.Run(affinity.Of(cpu), makeCounts); err != nil {
		return err
	}
	if err := look("at first"); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err := look(fmt.Sprintf("while cpu%d is offline", cpu))
	return errors.Join(err, x.Set(cpu, Online), look(fmt.Sprintf("when cpu%d is back", cpu)))
}

// readCounters reads the counters that only grow, by name. Idle times are the
// subject of idle-counters, and are left out of older kernels' for the same
// reason; idleSleeps says whether the number of times that a CPU went to sleep
// is one.
func readCounters(idleSleeps bool) (map[string]uint64, error) {
	counters := make(map[string]uint64)
	for path, read := range map[string]func(text string, counters map[string]uint64) error{
		"/proc/stat": statCounters, "/proc/vmstat": eventCounters, "/proc/softirqs": columnCounters("softirq"), "/proc/interrupts": columnCounters("interrupt"),
	} {
		text, err := sysfs.ReadFile(path)
		if err == nil {
			err = read(text, counters)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if text, err := sysfs.ReadFile("/proc/timer_list"); err == nil && idleSleeps {
		sleepCounters(text, counters)
	}
	return counters, nil
}

// statCounters reads a /proc/stat, without idle times. The sums over all CPUs
// are in lines without a number: "cpu ", "intr", "softirq", "ctxt".
func statCounters(text string, counters map[string]uint64) error {
	// Steal is what the host says.
	names := []string{"user", "nice", "system", "", "", "irq", "softirq", "", "guest", "guest_nice"}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		name := fields[0]
		switch {
		case strings.HasPrefix(name, "cpu"):
			for i, field := range fields[1:min(len(fields), len(names)+1)] {
				if names[i] == "" {
					continue
				}
				n, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return err
				}
				counters["/proc/stat: "+name+" "+names[i]] = n
			}
		case slices.Contains([]string{"intr", "ctxt", "processes", "softirq"}, name):
			n, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return err
			}
			counters["/proc/stat: "+name] = n
		}
	}
	return nil
}

// eventCounters reads those events of a /proc/vmstat that each use of memory
// makes. Other lines are of what there is, which shrinks, too.
func eventCounters(text string, counters map[string]uint64) error {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "pgfault" && name != "pgfree" && !strings.HasPrefix(name, "pgalloc_") {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return err
		}
		counters["/proc/vmstat: "+name] = n
	}
	return nil
}

// columnCounters reads a table that has a column for each CPU and a name before
// each line: /proc/interrupts, /proc/softirqs.
func columnCounters(kind string) func(text string, counters map[string]uint64) error {
	return func(text string, counters map[string]uint64) error {
		head, rows, _ := strings.Cut(text, "\n")
		cpus := strings.Fields(head)
		for line := range strings.Lines(rows) {
			name, rest, _ := strings.Cut(line, ":")
			fields := strings.Fields(rest)
			if len(fields) < len(cpus) {
				continue // "ERR: 0", which is of no CPU
			}
			for i, cpu := range cpus {
				n, err := strconv.ParseUint(fields[i], 10, 64)
				if err != nil {
					break // a line of another form
				}
				counters[fmt.Sprintf("%s %s of %s", kind, strings.TrimSpace(name), cpu)] = n
			}
		}
		return nil
	}
}

// sleepCounters reads how often each CPU went to sleep: "cpu: 0" and below it
// "  .idle_sleeps    : 17" in /proc/timer_list.
func sleepCounters(text string, counters map[string]uint64) {
	cpu := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if number, ok := strings.CutPrefix(line, "cpu: "); ok {
			cpu = number
		}
		name, value, _ := strings.Cut(line, ":")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil && strings.TrimSpace(name) == ".idle_sleeps" {
			counters["/proc/timer_list: idle_sleeps of cpu"+cpu] = n
		}
	}
}
