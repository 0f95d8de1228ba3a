package system_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lookEnv in the environment makes this binary print the state of the machine
// that it is on, and end.
const lookEnv = "SYSTEM_LOOK"

// look writes the state of the machine whose file system is at root, one fact a
// line: what it is of, a tab, the value. Everything is named by what it is, and
// never by a number that a suspend, a hotplug operation or a reboot may
// reassign. It shares no code with the package machine, which it is there to
// check.
//
// A name may be on several lines: two threads of the same program, two vectors
// that their driver gave the same name.
func look(root string, w io.Writer) error {
	out := bufio.NewWriter(w)
	l := &looker{root: root, out: out}
	l.files()
	l.irqs()
	l.cgroups()
	l.threads()
	l.mounts()
	l.modules()
	return out.Flush()
}

type looker struct {
	root string
	out  io.Writer
}

func (l *looker) fact(kind, name, value string) {
	fmt.Fprintf(l.out, "%s %s\t%s\n", kind, name, strings.ReplaceAll(strings.TrimSpace(value), "\n", " | "))
}

func (l *looker) path(path string) string { return filepath.Join(l.root, path) }

// read returns what is in a file, without white space around it, or "" if it
// cannot be read.
func (l *looker) read(path string) string {
	text, _ := os.ReadFile(l.path(path))
	return strings.TrimSpace(string(text))
}

// glob returns the paths that match, in the machine.
func (l *looker) glob(pattern string) []string {
	found, _ := filepath.Glob(l.path(pattern))
	for i, path := range found {
		found[i] = filepath.Join("/", strings.TrimPrefix(path, filepath.Clean(l.root)))
	}
	return found
}

// single are files that are facts by themselves.
var single = []string{
	"/sys/devices/system/cpu/online",
	"/sys/devices/system/cpu/smt/control",
	"/sys/devices/system/cpu/cpu*/hotplug/fail",
	"/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
	"/sys/power/pm_test",
	"/sys/power/mem_sleep",
	"/sys/power/pm_async",
	"/sys/module/suspend/parameters/pm_test_delay",
	"/sys/class/rtc/rtc*/wakealarm",
	"/proc/irq/default_smp_affinity",
	"/proc/sys/kernel/tainted",
	"/proc/sys/kernel/sched_rt_runtime_us",
	"/sys/devices/virtual/workqueue/cpumask",
}

func (l *looker) files() {
	for _, pattern := range single {
		for _, path := range l.glob(pattern) {
			l.fact("file", path, l.read(path))
		}
	}
	// A file of the suite's that is left, but for its lock.
	for _, pattern := range []string{"/run/hotplugtest*", "/tmp/hotplugtest*", "/var/lib/hotplugtest*"} {
		for _, path := range l.glob(pattern) {
			if path != "/run/hotplugtest.lock" {
				l.fact("left", path, "")
			}
		}
	}
}

// irqs are those that somebody has requested. An interrupt is its device and
// the actions' names: the directories below /proc/irq/N. If there is no device,
// it is the chip and the number of its line, which are wires.
func (l *looker) irqs() {
	devices := make(map[string]string)
	for _, path := range l.glob("/sys/bus/pci/devices/*/msi_irqs/*") {
		devices[filepath.Base(path)] = filepath.Base(filepath.Dir(filepath.Dir(path)))
	}
	for _, dir := range l.glob("/proc/irq/[0-9]*") {
		entries, _ := os.ReadDir(l.path(dir))
		var actions []string
		for _, e := range entries {
			if e.IsDir() {
				actions = append(actions, e.Name())
			}
		}
		if len(actions) == 0 {
			continue
		}
		irq := filepath.Base(dir)
		device, ok := devices[irq]
		if !ok {
			about := "/sys/kernel/irq/" + irq
			device = l.read(about+"/chip_name") + "-" + l.read(about+"/hwirq")
		}
		l.fact("irq", device+" "+strings.Join(actions, ","), l.read(dir+"/smp_affinity_list"))
	}
}

// Sessions, and what systemd makes for a login, come and go with it.
var transient = regexp.MustCompile(`/(session-[^/]*\.scope|user@\d+\.service|user-runtime-dir@\d+\.service|run-[^/]*)(/|$)`)

// cgroupFiles are read in each cgroup, of the versions 1 and 2.
var cgroupFiles = []string{
	"cgroup.type", "cgroup.subtree_control", "cpuset.cpus", "cpuset.cpus.effective", "cpuset.cpus.exclusive", "cpuset.cpus.partition",
	"cpuset.mems", "cpuset.mems.effective", "cpuset.effective_cpus", "cpuset.cpu_exclusive", "cpuset.sched_load_balance",
	"cpu.max", "cpu.weight", "memory.max", "pids.max",
}

func (l *looker) cgroups() {
	top := l.path("/sys/fs/cgroup")
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, top)
		switch {
		case err != nil:
			return nil // it is being removed
		case !d.IsDir():
			return nil
		case transient.MatchString(name):
			return fs.SkipDir
		}
		l.fact("cgroup", "/"+strings.TrimPrefix(name, "/"), "")
		if strings.HasPrefix(d.Name(), "hotplugtest-") {
			return fs.SkipDir // it must not be there, whatever is in it
		}
		for _, file := range cgroupFiles {
			if text, err := os.ReadFile(filepath.Join(path, file)); err == nil {
				l.fact("cgroup", name+"/"+file, sortWords(string(text)))
			}
		}
		return nil
	})
}

// sortWords is for lists in no order.
func sortWords(text string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(text))), " ")
}

// kernelOwn matches the names of kernel threads that say nothing: workers come
// and go, and the thread of an interrupt follows it when there is one.
var kernelOwn = regexp.MustCompile(`^(kworker/|irq/)`)

// isRescuer reports whether a /proc/PID/stat is that of a workqueue's rescuer,
// which on 6.1 keeps the CPUs of the workers that it has helped. It is a thread
// of the kernel's that nobody can bind (PF_KTHREAD, PF_NO_SETAFFINITY), with the
// nice value of no other such thread.
func isRescuer(stat string) bool {
	const unbindable = 0x04200000
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const flags, nice = 9 - 3, 19 - 3
	if len(fields) <= nice {
		return false
	}
	set, err := strconv.ParseUint(fields[flags], 10, 64)
	return err == nil && set&unbindable == unbindable && fields[nice] == "-20"
}

// threads are those of the kernel, of the tenants and of the services, but not
// those of logins. A thread is its cgroup, its name and its command line.
func (l *looker) threads() {
	self := strconv.Itoa(os.Getpid())
	for _, dir := range l.glob("/proc/[0-9]*") {
		cmdline := strings.TrimSpace(strings.ReplaceAll(l.read(dir+"/cmdline"), "\x00", " "))
		cgroup := ""
		for line := range strings.Lines(l.read(dir + "/cgroup")) {
			if rest, ok := strings.CutPrefix(line, "0::"); ok {
				cgroup = strings.TrimSpace(rest)
			}
		}
		if filepath.Base(dir) == self || transient.MatchString(cgroup) {
			continue
		}
		for _, task := range l.glob(dir + "/task/[0-9]*") {
			comm := l.read(task + "/comm")
			if comm == "" || cmdline == "" && (kernelOwn.MatchString(comm) || isRescuer(l.read(task+"/stat"))) {
				continue
			}
			l.fact("thread", fmt.Sprintf("%s %q %q", cgroup, comm, cmdline), l.scheduling(task))
		}
	}
}

// scheduling returns the CPUs, the policy and the nice value of a thread.
func (l *looker) scheduling(task string) string {
	cpus := "?"
	for line := range strings.Lines(l.read(task + "/status")) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			cpus = strings.TrimSpace(list)
		}
	}
	// The name, in parentheses, may have blanks.
	stat := l.read(task + "/stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const nice, policy = 19 - 3, 41 - 3
	if len(fields) <= policy {
		return cpus
	}
	return fmt.Sprintf("cpus %s, policy %s, nice %s", cpus, fields[policy], fields[nice])
}

func (l *looker) mounts() {
	for line := range strings.Lines(l.read("/proc/self/mountinfo")) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE
		// SUPEROPTIONS
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f := strings.Fields(before)
		if len(f) > 5 {
			l.fact("mount", f[4], f[3]+" "+f[5]+" "+after)
		}
	}
}

func (l *looker) modules() {
	names := make(map[string]bool)
	for line := range strings.Lines(l.read("/proc/modules")) {
		name, _, _ := strings.Cut(line, " ")
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		l.fact("module", name, "loaded")
	}
}

// transientUnit matches units that come and go with logins.
var transientUnit = regexp.MustCompile(`^(session-|user@|user-runtime-dir@|run-|init\.scope)`)

// units writes the units of systemd and whether all is well with them.
func units(w io.Writer) error {
	out, err := exec.Command("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager").Output()
	if err != nil {
		return fmt.Errorf("systemctl: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		// UNIT LOAD ACTIVE SUB DESCRIPTION. Which inactive ones systemd knows
		// of is its own affair.
		if f := strings.Fields(line); len(f) > 3 && f[2] != "inactive" && !transientUnit.MatchString(f[0]) {
			fmt.Fprintf(w, "unit %s\t%s\n", f[0], strings.Join(f[1:4], " "))
		}
	}
	// Its status says the same.
	out, _ = exec.Command("systemctl", "is-system-running").Output()
	_, err = fmt.Fprintf(w, "system\t%s", out)
	return err
}

// lookMain prints the state and returns the exit status.
func lookMain() int {
	if err := errors.Join(look("/", os.Stdout), units(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
