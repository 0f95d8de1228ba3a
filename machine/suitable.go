package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// capabilities are those that tests need, by their number in the kernel's
// include/uapi/linux/capability.h, and for what.
var capabilities = []struct {
	name   string
	number int
	why    string
}{
	{"CAP_SYS_ADMIN", 21, "not root, or in a container"},
	{"CAP_SYS_NICE", 23, "threads of others could not be given back the CPUs that they were pinned to"},
}

// firstPIDNamespace is the one that the kernel boots with: PROC_PID_INIT_INO of
// its include/linux/proc_ns.h.
const firstPIDNamespace = "pid:[4026531836]"

// Unsuitable says why tests must not change the machine whose file system is at
// root, "/" but for tests, or "" if they may:
//
//   - sysfs is mounted read-only
//   - the process has no CAP_SYS_ADMIN, or no CAP_SYS_NICE
//   - this is a container: the CPUs are those of the host, and of everything
//     else on it, also where the container is privileged. Known by /.dockerenv,
//     /run/.containerenv, /run/systemd/container, container= in the environment
//     of process 1, or a PID namespace that is not the first
//   - a BPF scheduler runs: the kernel ends one that is not made for CPUs which
//     come and go, and nobody starts it again. Known by
//     /sys/kernel/sched_ext/state
//   - this is a guest of Hyper-V: a CPU that a VMBus channel is bound to is
//     refused with EBUSY, and any can be. Known by its name in DMI and by
//     devices on /sys/bus/vmbus
func Unsuitable(root string) string {
	at := func(path string) string { return filepath.Join(root, path) }
	mounts, _ := read(at("/proc/self/mountinfo"))
	readOnly := false
	for line := range strings.Lines(mounts) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS,
		// first of the mount and then of the file system; a later mount hides
		// one before.
		mount, super, _ := strings.Cut(line, " - ")
		if f := strings.Fields(mount); len(f) > 5 && f[4] == "/sys" {
			options := f[5]
			if of := strings.Fields(super); len(of) > 0 {
				options += "," + of[len(of)-1]
			}
			readOnly = slices.Contains(strings.Split(options, ","), "ro")
		}
	}
	if readOnly {
		return "/sys is mounted read-only"
	}
	for _, path := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		if _, err := os.Stat(at(path)); err == nil {
			return fmt.Sprintf("this is a container (%s): its CPUs are the host's", path)
		}
	}
	environ, _ := read(at("/proc/1/environ"))
	for variable := range strings.SplitSeq(environ, "\x00") {
		if strings.HasPrefix(variable, "container=") {
			return fmt.Sprintf("this is a container (%s in the environment of process 1): its CPUs are the host's", variable)
		}
	}
	if namespace, err := os.Readlink(at("/proc/self/ns/pid")); err == nil && namespace != firstPIDNamespace {
		return fmt.Sprintf("this is a container (it has a PID namespace of its own, %s): its CPUs are the host's", namespace)
	}
	status, _ := read(at("/proc/self/status"))
	if caps, err := strconv.ParseUint(field(status, "CapEff"), 16, 64); err == nil {
		for _, c := range capabilities {
			if caps&(1<<c.number) == 0 {
				return fmt.Sprintf("this process has no %s: %s", c.name, c.why)
			}
		}
	}
	if state, _ := read(at("/sys/kernel/sched_ext/state")); strings.TrimSpace(state) == "enabled" {
		name, _ := read(at("/sys/kernel/sched_ext/root/ops"))
		return strings.Join(strings.Fields("the BPF scheduler "+name+" runs, and a CPU that goes offline may end it: stop it first"), " ")
	}
	vendor, _ := read(at("/sys/class/dmi/id/sys_vendor"))
	if channels, _ := os.ReadDir(at("/sys/bus/vmbus/devices")); len(channels) > 0 && strings.TrimSpace(vendor) == "Microsoft Corporation" {
		return "this is a guest of Hyper-V: a CPU with a VMBus channel cannot go offline (EBUSY)"
	}
	return ""
}

// OccupiedV1Cpusets returns the child cpusets of cgroup v1 that have tasks in
// them, parents first, of the machine whose file system is at root, "/" but for
// tests. They lose each CPU that goes offline, and their tasks, when it was the
// last one, their cpuset. A [Snapshot] gives both back, but not before the end.
// Cpusets that do not lose CPUs, by the mount option cpuset_v2_mode or since
// they are cgroup v2's, are not among them.
func OccupiedV1Cpusets(root string) []string {
	var occupied []string
	s := &Snapshot{Root: root}
	if _, losing, _ := s.mount(); losing {
		s.cpusets(func(dir string) {
			if tasks, _ := read(filepath.Join(s.path(dir), "tasks")); tasks != "" {
				occupied = append(occupied, dir)
			}
		})
	}
	return occupied
}

// Warnings says what is special about the machine whose file system is at root,
// "/" but for tests, for those who read the results:
//
//   - on cgroup v1, that a CPU which goes offline is lost to the cpusets; a
//     [Snapshot] has them and gives it back, but meanwhile what runs there has
//     fewer CPUs
//   - with kernel lockdown, that debugfs is closed, where errors of PM
//     notifiers are injected. What is injected through hotplug/fail works: that
//     is sysfs
func Warnings(root string) []string {
	var warnings []string
	s := &Snapshot{Root: root}
	if mount, losing, _ := s.mount(); losing {
		cpusets := 0
		s.cpusets(func(string) { cpusets++ })
		if cpusets > 0 {
			warnings = append(warnings, fmt.Sprintf("%s is cgroup v1, and has %d child cpusets that lose each CPU that goes offline, until the end of the run", mount, cpusets))
		}
	}
	lockdown, _ := read(s.path("/sys/kernel/security/lockdown"))
	if mode := chosen(lockdown); mode != "" && mode != "none" {
		warnings = append(warnings, fmt.Sprintf("kernel lockdown is %s: debugfs is closed, so PM notifier errors cannot be injected", mode))
	}
	return warnings
}
