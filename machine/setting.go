package machine

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// A setting is a part that consists of files which hold one value each.
type setting struct {
	name string

	// pattern is that of the files' paths, as in filepath.Match. If it is "",
	// paths returns them.
	pattern string
	paths   func(s *Snapshot) []string

	// value returns what of a file's text is the value. nil: all of it.
	value func(text string) string
	// same reports whether a file's value is as it was. nil: if it is equal.
	same func(was, now *Snapshot, path string) bool
	// mend gives a file the value that it had. nil: it is written.
	mend func(s *Snapshot, path, was, is string) error

	// group says that the file's directory is a group that its owner can
	// remove, and make anew.
	group bool
	// fixed says that nothing is ever written to the files.
	fixed bool
}

var (
	// failures are armed by a state's number, and are gone by -1.
	failures = setting{name: "hotplug/fail", pattern: "/sys/devices/system/cpu/cpu[0-9]*/hotplug/fail", mend: disarm}

	pmTest      = setting{name: "pm_test", pattern: "/sys/power/pm_test", value: chosen}
	pmTestDelay = setting{name: "pm_test_delay", pattern: "/sys/module/suspend/parameters/pm_test_delay"}
	pmNotifier  = setting{name: "notifier-error-inject", pattern: "/sys/kernel/debug/notifier-error-inject/pm/actions/*/error"}
	memSleep    = setting{name: "mem_sleep", pattern: "/sys/power/mem_sleep", value: chosen}
	smtControl  = setting{name: "smt/control", pattern: "/sys/devices/system/cpu/smt/control"}
	// The kernel takes a CPU that goes offline out of its resctrl groups, and
	// puts one that comes into the default group. A monitor group can have but
	// CPUs of its control group, so those come first.
	resctrlControl = setting{name: "resctrl control", pattern: "/sys/fs/resctrl/*/cpus_list", group: true, same: sameOnline("resctrl control"), mend: giveOnline}
	resctrlMonitor = setting{name: "resctrl monitor", paths: monitorGroups, group: true, same: sameOnline("resctrl monitor"), mend: giveOnline}

	// Masks that a kernel checks against the CPUs that are online.
	defaultIRQMask = setting{name: "default_smp_affinity", pattern: "/proc/irq/default_smp_affinity"}
	workqueueMask  = setting{name: "workqueue cpumask", pattern: "/sys/devices/virtual/workqueue/cpumask"}
	loopbackMasks  = setting{name: "rps_cpus", pattern: "/sys/class/net/lo/queues/rx-*/rps_cpus"}

	// A LED has no brightness of its own to lose while it is the keyboard's, or
	// off without a trigger: tests take no other.
	ledTriggers = setting{name: "led trigger", pattern: "/sys/class/leds/*/trigger", value: chosen}

	governors = setting{name: "cpufreq", pattern: "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"}

	// subtreeControl takes what is to change, not what it is to become.
	subtreeControl = setting{name: "cgroup.subtree_control", paths: subtreeControlFile, value: sorted, same: sameControllers, mend: takeControllers}

	cpusetCPUs = setting{name: "cpuset.cpus", paths: v1CPUsFiles, group: true, same: sameOnline("cpuset.cpus"), mend: giveOnline}
	// A partition without CPUs is "root invalid (REASON)", and gets well by
	// itself when they are back.
	cpusetPartition = setting{name: "cpuset.cpus.partition", paths: partitionFiles, value: withoutReason, group: true,
		mend: func(s *Snapshot, path, was, _ string) error {
			kind, _, _ := strings.Cut(was, " ")
			return write(s.path(path), kind)
		}}

	// rtcTime is there to tell an alarm that has gone off since from one that
	// was cancelled.
	rtcTime = setting{name: "since_epoch", pattern: "/sys/class/rtc/rtc*/since_epoch", fixed: true,
		same: func(_, _ *Snapshot, _ string) bool { return true }}
	wakeAlarm = setting{name: "wakealarm", pattern: "/sys/class/rtc/rtc*/wakealarm", same: sameAlarm, mend: setAlarm}
	wakeup    = setting{name: "wakeup", paths: wakeupFiles}
)

func (f setting) take(s *Snapshot) error {
	var paths []string
	if f.paths != nil {
		paths = f.paths(s)
	} else {
		// The error is one of the pattern.
		found, _ := filepath.Glob(s.path(f.pattern))
		for _, path := range found {
			paths = append(paths, s.name(path))
		}
	}
	for _, path := range paths {
		if value, ok := f.read(s, path); ok {
			f.set(s, path, value)
		}
	}
	return nil
}

// read returns the value that a file has now, if there is one.
func (f setting) read(s *Snapshot, path string) (value string, ok bool) {
	text, err := read(s.path(path))
	if err != nil {
		return "", false
	}
	value = strings.TrimSpace(text)
	if f.value != nil {
		value = f.value(value)
	}
	return value, true
}

// set puts a file's value into the snapshot.
func (f setting) set(s *Snapshot, path, value string) {
	if s.Settings[f.name] == nil {
		s.Settings[f.name] = make(map[string]string)
	}
	s.Settings[f.name][path] = value
	if f.group {
		s.addGroup(filepath.Dir(path))
	}
}

func (f setting) diff(was, now *Snapshot) []Difference {
	var diffs []Difference
	// Sorted, so a cgroup comes before those below it.
	for _, path := range slices.Sorted(maps.Keys(was.Settings[f.name])) {
		before := was.Settings[f.name][path]
		after, ok := now.Settings[f.name][path]
		if !ok || after == before || f.same != nil && f.same(was, now, path) {
			continue
		}
		if f.group && !sameGroup(was, now, filepath.Dir(path)) {
			continue
		}
		diffs = append(diffs, Difference{path, before, after, func() error {
			if f.mend != nil {
				return f.mend(was, path, before, after)
			}
			return write(was.path(path), before)
		}, false})
	}
	return diffs
}

// name returns the path that a file has on the machine, for where it is found.
func (s *Snapshot) name(path string) string {
	below, err := filepath.Rel(s.Root, path)
	if err != nil {
		return path
	}
	return filepath.Join("/", below)
}

// chosen returns the word in brackets: "none [core] processors".
func chosen(text string) string {
	_, rest, _ := strings.Cut(text, "[")
	word, _, _ := strings.Cut(rest, "]")
	return word
}

func sorted(text string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(text))), " ")
}

func withoutReason(text string) string {
	kind, _, _ := strings.Cut(text, " (")
	return kind
}

// sameOnline reports whether a group has the CPUs that it had, of those that
// were online. It cannot be given others.
func sameOnline(setting string) func(was, now *Snapshot, path string) bool {
	return func(was, now *Snapshot, path string) bool {
		online := cpuList(was.Online)
		before, after := cpuList(was.Settings[setting][path]), cpuList(now.Settings[setting][path])
		return before.Intersect(online).Equal(after.Intersect(online))
	}
}

// giveOnline gives a group the CPUs that it had, of those that were online.
func giveOnline(s *Snapshot, path, was, _ string) error {
	return write(s.path(path), cpuList(was).Intersect(cpuList(s.Online)).String())
}

// disarm makes hotplug/fail what it was. Kernels before v5.13 (3ae70c251f34) do
// not take -1: there the failure has to happen, which it does on the CPU's next
// way down and up.
func disarm(s *Snapshot, path, was, _ string) error {
	err := write(s.path(path), was)
	if !errors.Is(err, unix.EINVAL) || was != "-1" {
		return err
	}
	cpu, convErr := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(path))), "cpu"))
	sys, newErr := cpuhp.New(s.Root)
	if convErr != nil || newErr != nil {
		return err
	}
	for _, online := range []bool{false, true, true} {
		if err = sys.SetOnline(cpu, online); err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return err
}

// sameAlarm says whether an alarm is as it was, or has gone off.
func sameAlarm(was, now *Snapshot, path string) bool {
	if now.Settings["wakealarm"][path] != "" {
		return false
	}
	at, err := strconv.ParseInt(was.Settings["wakealarm"][path], 10, 64)
	if err != nil {
		return false
	}
	clock := filepath.Join(filepath.Dir(path), "since_epoch")
	time, err := strconv.ParseInt(now.Settings["since_epoch"][clock], 10, 64)
	return err == nil && at <= time
}

// setAlarm sets an alarm, which the kernel refuses where there is one already.
func setAlarm(s *Snapshot, path, was, is string) error {
	if is != "" {
		if err := write(s.path(path), "0"); err != nil {
			return err
		}
	}
	if was == "" {
		return nil
	}
	return write(s.path(path), was)
}

// monitorGroups returns the CPUs of resctrl's monitor groups, those of the
// default control group and those of the others.
func monitorGroups(s *Snapshot) []string {
	var files []string
	for _, group := range []string{"", "*"} {
		found, _ := filepath.Glob(s.path(filepath.Join("/sys/fs/resctrl", group, "mon_groups/*/cpus_list")))
		for _, file := range found {
			files = append(files, s.name(file))
		}
	}
	return files
}

// wakeupFiles returns power/wakeup of all devices that have one, by where the
// device is. Its name on a bus or in a class may be another device's when both
// have come back from a suspend.
func wakeupFiles(s *Snapshot) []string {
	var files []string
	for _, pattern := range []string{"/sys/bus/*/devices", "/sys/class/*"} {
		dirs, _ := filepath.Glob(s.path(pattern))
		for _, dir := range dirs {
			devices, _ := os.ReadDir(dir)
			for _, device := range devices {
				path := filepath.Join(dir, device.Name())
				if unix.Access(filepath.Join(path, "power/wakeup"), unix.F_OK) != nil {
					continue
				}
				if place, err := filepath.EvalSymlinks(path); err == nil {
					files = append(files, s.name(filepath.Join(place, "power/wakeup")))
				}
			}
		}
	}
	return files
}
