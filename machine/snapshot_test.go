package machine_test

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/machine"
)

const (
	cpu      = "sys/devices/system/cpu/"
	resctrl  = "sys/fs/resctrl/"
	notifier = "sys/kernel/debug/notifier-error-inject/pm/actions/PM_SUSPEND_PREPARE/error"
	mountV1  = "33 24 0:28 / /cg rw,nosuid - cgroup cgroup rw,cpuset\n"
	mountV2  = "33 24 0:28 / /cg rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
)

// On a tree of text files nothing follows from a write, so what Restore does
// are its writes.
var differences = []struct {
	name     string
	before   map[string]string
	after    map[string]string
	diff     []string
	restored map[string]string // files, and also what is not one: "affinity TID" and "module NAME"
}{
	{"cpus",
		map[string]string{cpu + "online": "0,2-3\n", cpu + "cpu0/online": "1\n", cpu + "cpu1/online": "0\n", cpu + "cpu2/online": "1\n"},
		map[string]string{cpu + "online": "1,3\n", cpu + "cpu0/online": "0\n", cpu + "cpu1/online": "1\n", cpu + "cpu2/online": "0\n"},
		[]string{"cpu0 is offline, was online", "cpu2 is offline, was online", "cpu1 is online, was offline"},
		map[string]string{cpu + "cpu0/online": "1", cpu + "cpu1/online": "0", cpu + "cpu2/online": "1"}},
	{"smt",
		map[string]string{cpu + "smt/control": "on\n"},
		map[string]string{cpu + "smt/control": "off\n"},
		[]string{"/sys/devices/system/cpu/smt/control is off, was on"},
		map[string]string{cpu + "smt/control": "on"}},
	{"armed failure",
		map[string]string{cpu + "cpu2/hotplug/fail": "-1\n"},
		map[string]string{cpu + "cpu2/hotplug/fail": "67\n"},
		[]string{"/sys/devices/system/cpu/cpu2/hotplug/fail is 67, was -1"},
		map[string]string{cpu + "cpu2/hotplug/fail": "-1"}},
	{"pm_test",
		map[string]string{"sys/power/pm_test": "[none] core processors\n", "sys/module/suspend/parameters/pm_test_delay": "5\n"},
		map[string]string{"sys/power/pm_test": "none core [processors]\n", "sys/module/suspend/parameters/pm_test_delay": "1\n"},
		[]string{"/sys/power/pm_test is processors, was none", "/sys/module/suspend/parameters/pm_test_delay is 1, was 5"},
		map[string]string{"sys/power/pm_test": "none", "sys/module/suspend/parameters/pm_test_delay": "5"}},
	{"PM notifier's error",
		map[string]string{notifier: "0\n"},
		map[string]string{notifier: "-12\n"},
		[]string{"/" + notifier + " is -12, was 0"},
		map[string]string{notifier: "0"}},
	{"mem_sleep",
		map[string]string{"sys/power/mem_sleep": "[s2idle] deep\n"},
		map[string]string{"sys/power/mem_sleep": "s2idle [deep]\n"},
		[]string{"/sys/power/mem_sleep is deep, was s2idle"},
		map[string]string{"sys/power/mem_sleep": "s2idle"}},
	{"irq of a kernel that gives no more than its number",
		map[string]string{"proc/irq/24/smp_affinity_list": "3\n", "proc/irq/25/smp_affinity_list": "1\n", "proc/irq/27/smp_affinity_list": "0-3\n"},
		map[string]string{"proc/irq/24/smp_affinity_list": "0-3\n", "proc/irq/25": "-", "proc/irq/27": "-", "proc/irq/26/smp_affinity_list": "2\n"},
		[]string{"/proc/irq/24/smp_affinity_list is 0-3, was 3", "/proc/irq/25/smp_affinity_list is gone, was 1"},
		map[string]string{"proc/irq/24/smp_affinity_list": "3"}},
	{"governor",
		map[string]string{cpu + "cpufreq/policy0/scaling_governor": "schedutil\n"},
		map[string]string{cpu + "cpufreq/policy0/scaling_governor": "performance\n"},
		[]string{"/sys/devices/system/cpu/cpufreq/policy0/scaling_governor is performance, was schedutil"},
		map[string]string{cpu + "cpufreq/policy0/scaling_governor": "schedutil"}},
	{"sysctls, but those whose reading changes a kernel",
		map[string]string{"proc/sys/kernel/watchdog_thresh": "10\n", "proc/sys/kernel/sched_schedstats": "0\n", "proc/sys/kernel/pid_max": "32768\n", "proc/sys/kernel/sched_rt_runtime_us": "950000\n"},
		map[string]string{"proc/sys/kernel/watchdog_thresh": "11\n", "proc/sys/kernel/sched_schedstats": "1\n", "proc/sys/kernel/pid_max": "4194304\n", "proc/sys/kernel/sched_rt_runtime_us": "900000\n"},
		[]string{"/proc/sys/kernel/sched_schedstats is 1, was 0", "/proc/sys/kernel/watchdog_thresh is 11, was 10"},
		map[string]string{"proc/sys/kernel/watchdog_thresh": "10", "proc/sys/kernel/sched_schedstats": "0"}},
	{"alarm that was set",
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "\n", "sys/class/rtc/rtc0/since_epoch": "100\n"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "150\n", "sys/class/rtc/rtc0/since_epoch": "120\n"},
		[]string{"/sys/class/rtc/rtc0/wakealarm is 150, was empty"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "0"}},
	{"alarm that was cancelled",
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "150\n", "sys/class/rtc/rtc0/since_epoch": "100\n"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "\n", "sys/class/rtc/rtc0/since_epoch": "149\n"},
		[]string{"/sys/class/rtc/rtc0/wakealarm is empty, was 150"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "150"}},
	{"alarm that has gone off, and something else",
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "150\n", "sys/class/rtc/rtc0/since_epoch": "100\n", cpu + "smt/control": "on\n"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "\n", "sys/class/rtc/rtc0/since_epoch": "150\n", cpu + "smt/control": "off\n"},
		[]string{"/sys/devices/system/cpu/smt/control is off, was on"},
		map[string]string{"sys/class/rtc/rtc0/wakealarm": "", cpu + "smt/control": "on"}},
	{"wakeup",
		map[string]string{"sys/bus/pnp/devices/00:04/power/wakeup": "disabled\n", "sys/class/tty/ttyS0/power/wakeup": "enabled\n"},
		map[string]string{"sys/bus/pnp/devices/00:04/power/wakeup": "enabled\n", "sys/class/tty/ttyS0/power/wakeup": "disabled\n"},
		[]string{"/sys/bus/pnp/devices/00:04/power/wakeup is enabled, was disabled", "/sys/class/tty/ttyS0/power/wakeup is disabled, was enabled"},
		map[string]string{"sys/bus/pnp/devices/00:04/power/wakeup": "disabled", "sys/class/tty/ttyS0/power/wakeup": "enabled"}},
	{"masks of interrupts, work and packets",
		map[string]string{"proc/irq/default_smp_affinity": "f\n", "sys/devices/virtual/workqueue/cpumask": "f\n", "sys/class/net/lo/queues/rx-0/rps_cpus": "0\n"},
		map[string]string{"proc/irq/default_smp_affinity": "9\n", "sys/devices/virtual/workqueue/cpumask": "8\n", "sys/class/net/lo/queues/rx-0/rps_cpus": "9\n"},
		[]string{"/proc/irq/default_smp_affinity is 9, was f", "/sys/devices/virtual/workqueue/cpumask is 8, was f", "/sys/class/net/lo/queues/rx-0/rps_cpus is 9, was 0"},
		map[string]string{"proc/irq/default_smp_affinity": "f", "sys/devices/virtual/workqueue/cpumask": "f", "sys/class/net/lo/queues/rx-0/rps_cpus": "0"}},
	{"trigger of a LED",
		map[string]string{"sys/class/leds/input0::capslock/trigger": "none [kbd-capslock] cpu cpu0 cpu1\n"},
		map[string]string{"sys/class/leds/input0::capslock/trigger": "none kbd-capslock cpu cpu0 [cpu1]\n"},
		[]string{"/sys/class/leds/input0::capslock/trigger is cpu1, was kbd-capslock"},
		map[string]string{"sys/class/leds/input0::capslock/trigger": "kbd-capslock"}},
	{"v1 cpusets, and the tasks of one that was emptied",
		map[string]string{"proc/self/mountinfo": mountV1, "cg/a/cpuset.cpus": "0-3\n", "cg/a/b/cpuset.cpus": "3\n", "cg/a/tasks": "", "cg/a/b/tasks": "20\n",
			"proc/20/task/20/stat": stat(20, "x", 0, 100), "proc/20/task/20/status": status("3")},
		map[string]string{"cg/a/cpuset.cpus": "0-2\n", "cg/a/b/cpuset.cpus": "\n", "cg/a/tasks": "20\n", "cg/a/b/tasks": "",
			"proc/20/task/20/status": status("0-2")},
		[]string{"/cg/a/b/cpuset.cpus is empty, was 3", "/cg/a/cpuset.cpus is 0-2, was 0-3",
			"thread 20 (x) in cpusets is /cg/a, was /cg/a/b", "thread 20 (x) on CPUs is 0-2, was 3"},
		map[string]string{"cg/a/cpuset.cpus": "0-3", "cg/a/b/cpuset.cpus": "3", "cg/a/b/tasks": "20", "affinity 20": "3"}},
	{"v1 cpusets without a prefix",
		map[string]string{"proc/self/mountinfo": strings.Replace(mountV1, "rw,cpuset\n", "rw,cpuset,noprefix\n", 1), "cg/a/cpus": "0-3\n"},
		map[string]string{"cg/a/cpus": "0-2\n"},
		[]string{"/cg/a/cpus is 0-2, was 0-3"},
		map[string]string{"cg/a/cpus": "0-3"}},
	{"resctrl groups",
		map[string]string{resctrl + "cpus_list": "0-1\n", resctrl + "rt/cpus_list": "2-3\n", resctrl + "rt/mon_groups/m/cpus_list": "3\n", resctrl + "mon_groups/n/cpus_list": "1\n"},
		map[string]string{resctrl + "cpus_list": "0-1,3\n", resctrl + "rt/cpus_list": "2\n", resctrl + "rt/mon_groups/m/cpus_list": "\n", resctrl + "mon_groups/n/cpus_list": "\n"},
		[]string{"/sys/fs/resctrl/rt/cpus_list is 2, was 2-3", "/sys/fs/resctrl/mon_groups/n/cpus_list is empty, was 1", "/sys/fs/resctrl/rt/mon_groups/m/cpus_list is empty, was 3"},
		map[string]string{resctrl + "cpus_list": "0-1,3", resctrl + "rt/cpus_list": "2-3", resctrl + "rt/mon_groups/m/cpus_list": "3", resctrl + "mon_groups/n/cpus_list": "1"}},
	{"v2 cpusets and partitions",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset cpu\n", "cg/cgroup.subtree_control": "memory\n",
			"cg/a/cpuset.cpus": "3\n", "cg/a/cpuset.cpus.partition": "isolated\n"},
		map[string]string{"cg/cgroup.subtree_control": "cpuset cpu memory\n",
			"cg/a/cpuset.cpus": "2\n", "cg/a/cpuset.cpus.partition": "isolated invalid (Parent is not a partition root)\n"},
		[]string{"/cg/cgroup.subtree_control is cpu cpuset memory, was memory", "/cg/a/cpuset.cpus.partition is isolated invalid, was isolated"},
		map[string]string{"cg/cgroup.subtree_control": "-cpu", "cg/a/cpuset.cpus": "2", "cg/a/cpuset.cpus.partition": "isolated"}},
	{"a controller that another program has come to use",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset cpu\n", "cg/cgroup.subtree_control": "memory\n",
			"cg/system.slice/cgroup.subtree_control": "memory\n", "cg/hotplugtest-1/cgroup.subtree_control": "cpu\n"},
		map[string]string{"cg/cgroup.subtree_control": "cpuset memory\n", "cg/system.slice/cgroup.subtree_control": "cpuset memory\n"},
		nil,
		map[string]string{"cg/cgroup.subtree_control": "cpuset memory"}},
	{"controllers that the settings of another program's cgroups need",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset cpu io\n", "cg/cgroup.subtree_control": "memory\n",
			"cg/user.slice/cgroup.subtree_control": "memory\n"},
		map[string]string{"cg/cgroup.subtree_control": "cpuset cpu io\n", "cg/user.slice/cpuset.cpus": "0-1\n", "cg/user.slice/cpuset.cpus.partition": "member\n",
			"cg/b/cpu.max": "max 100000\n", "cg/b/cpu.weight": "200\n"},
		nil,
		map[string]string{"cg/cgroup.subtree_control": "cpuset cpu io"}},
	{"controllers that nobody has come to use, and one that tests do not enable",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset cpu io memory\n", "cg/cgroup.subtree_control": "pids\n"},
		map[string]string{"cg/cgroup.subtree_control": "cpuset cpu io memory\n", "cg/b/memory.max": "max\n",
			"cg/b/cpuset.cpus": "\n", "cg/b/cpuset.cpus.partition": "member\n", "cg/b/cpu.max": "max 100000\n", "cg/b/cpu.weight": "100\n"},
		[]string{"/cg/cgroup.subtree_control is cpu cpuset io memory, was pids"},
		map[string]string{"cg/cgroup.subtree_control": "-cpu -cpuset -memory"}},
	{"memory that another program's cgroup limits",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset memory\n", "cg/cgroup.subtree_control": "\n"},
		map[string]string{"cg/cgroup.subtree_control": "memory\n", "cg/b/memory.max": "1048576\n"},
		nil,
		map[string]string{"cg/cgroup.subtree_control": "memory"}},
	{"a controller that only a leftover uses",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset cpu\n", "cg/cgroup.subtree_control": "memory\n",
			"cg/hotplugtest-1/cgroup.subtree_control": "cpuset\n"},
		map[string]string{"cg/cgroup.subtree_control": "cpuset memory\n"},
		[]string{"/cg/cgroup.subtree_control is cpuset memory, was memory"},
		map[string]string{"cg/cgroup.subtree_control": "-cpuset"}},
	{"cgroups left over, and one that was there before",
		map[string]string{"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset\n", "cg/hotplugtest-1/0/": "", "cg/other/": ""},
		map[string]string{"cg/hotplugtest-2/0/": "", "cg/hotplugtest-2/1/": "", "cg/another/": ""},
		[]string{"/cg/hotplugtest-2 is left over, was absent"},
		map[string]string{"cg/hotplugtest-2": "-"}},
	{"threads",
		map[string]string{
			"proc/20/task/20/stat": stat(20, "pinned", 0, 100), "proc/20/task/20/status": status("3"),
			"proc/20/task/21/stat": stat(21, "free", 0, 100), "proc/20/task/21/status": status("0-63"),
			"proc/30/task/30/stat": stat(30, "ended", 0, 100), "proc/30/task/30/status": status("3"),
			"proc/31/task/31/stat": stat(31, "id) S is (reused", 0, 100), "proc/31/task/31/status": status("3"),
			"proc/40/task/40/stat": stat(40, "kworker/3:0", 0x04200000, 1), "proc/40/task/40/status": status("3"),
			"proc/41/task/41/stat": stat(41, "irq/9-acpi", 0x00200000, 1), "proc/41/task/41/status": status("3"),
			"proc/42/task/42/stat": stat(42, "offline too", 0, 1), "proc/42/task/42/status": status("2,4"),
		},
		map[string]string{
			"proc/20/task/20/status": status("0-63"),
			"proc/20/task/21/status": status("1"),
			"proc/30":                "-",
			"proc/31/task/31/stat":   stat(31, "x", 0, 101), "proc/31/task/31/status": status("2"),
			"proc/40/task/40/status": status("0-2"),
			"proc/41/task/41/status": status("0-2"),
			"proc/42/task/42/status": status("2"),
			"proc/50/task/50/stat":   stat(50, "new", 0, 200), "proc/50/task/50/status": status("1"),
		},
		[]string{"thread 20 (pinned) on CPUs is 0-63, was 3"},
		map[string]string{"affinity 20": "3"}},
	{"threads whose CPUs somebody has changed, or those of their cpuset",
		map[string]string{
			cpu + "present": "0-3\n", cpu + "cpu1/online": "1\n", cpu + "cpu2/online": "1\n", cpu + "cpu3/online": "1\n",
			"proc/self/mountinfo": mountV2, "cg/cgroup.controllers": "cpuset\n", "cg/a/cpuset.cpus.effective": "0-3\n",
			"proc/20/task/20/stat": stat(20, "moved", 0, 100), "proc/20/task/20/status": status("3"),
			"proc/21/task/21/stat": stat(21, "lost", 0, 100), "proc/21/task/21/status": status("3"),
			"proc/22/task/22/stat": stat(22, "narrowed", 0, 100), "proc/22/task/22/status": status("2-3"),
			"proc/23/task/23/stat": stat(23, "confined", 0, 100), "proc/23/task/23/status": status("3"), "proc/23/cgroup": "0::/a/no-cpuset\n",
		},
		map[string]string{
			// without CPU 0, which is never offline
			"proc/20/task/20/status": status("1"),
			"proc/21/task/21/status": status("0,2"),
			"proc/22/task/22/status": status("2"),
			"proc/23/task/23/status": status("0-1"), "cg/a/cpuset.cpus.effective": "0-1\n",
		},
		[]string{"thread 21 (lost) on CPUs is 0,2, was 3", "thread 22 (narrowed) on CPUs is 2, was 2-3"},
		map[string]string{"affinity 21": "3", "affinity 22": "2-3"}},
	{"modules",
		nil,
		map[string]string{"sys/module/notifier_error_inject/initstate": "live\n", "sys/module/pm_notifier_error_inject/initstate": "live\n"},
		[]string{"module pm_notifier_error_inject is loaded, was absent", "module notifier_error_inject is loaded, was absent"},
		map[string]string{"module": "pm_notifier_error_inject notifier_error_inject"}},
	{"features that are gone, such as those of an offline CPU",
		map[string]string{cpu + "cpufreq/policy3/scaling_governor": "schedutil\n", cpu + "smt/control": "on\n"},
		map[string]string{cpu + "cpufreq": "-", cpu + "smt": "-"},
		nil, nil},
}

func TestDiffAndRestore(t *testing.T) {
	for _, tt := range differences {
		t.Run(tt.name, func(t *testing.T) {
			did := make(map[string]string)
			machine.FakeThreads(t,
				func(tid int, set affinity.CPUSet) error { did[fmt.Sprint("affinity ", tid)] = set.String(); return nil },
				func(name string) error { did["module"] = strings.TrimSpace(did["module"] + " " + name); return nil })
			root := tree(t, tt.before)
			s, err := machine.Take(root)
			require.NoError(t, err)
			diffs, err := s.Compare()
			require.NoError(t, err)
			assert.Empty(t, diffs, "nothing was changed yet")

			change(t, root, tt.after)
			diffs, err = s.Compare()
			require.NoError(t, err)
			var text []string
			for _, d := range diffs {
				text = append(text, d.String())
			}
			assert.Equal(t, tt.diff, text)

			require.NoError(t, s.Restore())
			for name, want := range tt.restored {
				if got, ok := did[name]; ok {
					assert.Equal(t, want, got, name)
					continue
				}
				got, err := os.ReadFile(filepath.Join(root, name))
				if want == "-" {
					assert.ErrorIs(t, err, fs.ErrNotExist, name)
					continue
				}
				if assert.NoError(t, err) {
					assert.Equal(t, want, strings.TrimSpace(string(got)), name)
				}
			}
			for name := range did {
				assert.Contains(t, tt.restored, name, "restored, though it was not changed")
			}
		})
	}
}

// What was on a CPU that somebody takes offline for good cannot be given back
// to it.
func TestOfflineForGood(t *testing.T) {
	machine.FakeThreads(t, func(tid int, set affinity.CPUSet) error {
		t.Errorf("thread %d is given CPUs %v", tid, set)
		return nil
	}, nil)
	root := tree(t, map[string]string{
		cpu + "cpu3/online": "1\n", resctrl + "rt/cpus_list": "2-3\n",
		"proc/irq/24/smp_affinity_list": "3\n", "proc/20/task/20/stat": stat(20, "pinned", 0, 100), "proc/20/task/20/status": status("3"),
		"proc/self/mountinfo": mountV1, "cg/a/cpuset.cpus": "2-3\n", "cg/a/tasks": "",
	})
	s, err := machine.Take(root)
	require.NoError(t, err)
	change(t, root, map[string]string{
		cpu + "online": "0-2\n", cpu + "cpu3/online": "0\n", resctrl + "rt/cpus_list": "2\n",
		"proc/irq/24/smp_affinity_list": "0-3\n", "proc/20/task/20/status": status("0-2"), "cg/a/cpuset.cpus": "2\n",
	})
	diffs, err := s.Compare()
	require.NoError(t, err)
	assert.Len(t, diffs, 5, "the CPU and what was there: %v", diffs)

	s.Online = "0-2" // as a supervisor learns that it was somebody else
	diffs, err = s.Compare()
	require.NoError(t, err)
	assert.Empty(t, diffs)
	change(t, root, map[string]string{"cg/a/cpuset.cpus": "\n"})
	require.NoError(t, s.Restore())
	got, err := os.ReadFile(filepath.Join(root, "cg/a/cpuset.cpus"))
	require.NoError(t, err)
	assert.Equal(t, "2\n", string(got))
}

// What a supervisor gets is the same snapshot.
func TestSnapshotAsGob(t *testing.T) {
	for _, tt := range differences {
		t.Run(tt.name, func(t *testing.T) {
			s, err := machine.Take(tree(t, tt.before))
			require.NoError(t, err)
			// As text, in which no map and an empty one are the same.
			assert.Equal(t, fmt.Sprint(*s), fmt.Sprint(*sent(t, s)))
		})
	}
}

// sent returns a snapshot as a supervisor gets it.
func sent(t *testing.T, s *machine.Snapshot) (got *machine.Snapshot) {
	t.Helper()
	var pipe bytes.Buffer
	require.NoError(t, gob.NewEncoder(&pipe).Encode(s))
	require.NoError(t, gob.NewDecoder(&pipe).Decode(&got))
	return got
}

func TestTakeOfNoMachine(t *testing.T) {
	_, err := machine.Take(t.TempDir())
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "/sys/devices/system/cpu")
}

// Whatever cannot be mended does not keep the rest from it, and is named.
func TestRestoreGoesOn(t *testing.T) {
	root := tree(t, map[string]string{cpu + "smt/control": "on\n", "sys/power/pm_test": "[none] core\n",
		"proc/20/task/20/stat": stat(20, "pinned", 0, 100), "proc/20/task/20/status": status("3"),
		"proc/21/task/21/stat": stat(21, "ending", 0, 100), "proc/21/task/21/status": status("3")})
	machine.FakeThreads(t, func(tid int, _ affinity.CPUSet) error {
		return map[int]error{20: unix.EINVAL, 21: unix.ESRCH}[tid]
	}, nil)
	s, err := machine.Take(root)
	require.NoError(t, err)
	change(t, root, map[string]string{cpu + "online": "0-2\n", "sys/power/pm_test": "none [core]\n",
		"proc/20/task/20/status": status("0"), "proc/21/task/21/status": status("0")})
	err = s.Restore()
	require.Error(t, err)
	assert.ErrorContains(t, err, "cpu3 is offline, was online: ")
	assert.ErrorIs(t, err, unix.ENOENT, "there is no cpu3/online on this tree")
	assert.ErrorContains(t, err, "thread 20 (pinned) on CPUs is 0, was 3: ")
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.NotContains(t, err.Error(), "thread 21")
	text, err := os.ReadFile(filepath.Join(root, "sys/power/pm_test"))
	require.NoError(t, err)
	assert.Equal(t, "none\n", string(text))
}

// It is taken at the start of each run, and read again at its end. Each thread
// has two files, and each of those is read up to its end: four calls of
// read(2). How long they take says more of the machine than of the snapshot.
func TestTakeIsCheap(t *testing.T) {
	// No process has these ids: a snapshot leaves out the one that takes it.
	const first, threads = 5_000_000, 1000
	files := make(map[string]string)
	for tid := first; tid < first+threads; tid++ {
		dir := fmt.Sprintf("proc/%d/task/%d/", tid, tid)
		files[dir+"stat"], files[dir+"status"] = stat(tid, "x", 0, tid), status("0-3")
	}
	root := tree(t, files)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadReads(t)
	s, err := machine.Take(root)
	require.NoError(t, err)
	require.Len(t, s.Threads, threads)
	reads := threadReads(t) - before
	assert.GreaterOrEqual(t, reads, 2*threads, "they are not all of this thread")
	assert.LessOrEqual(t, reads, 4*threads+100)
}

// threadReads returns how often the calling thread has called read(2).
func threadReads(t *testing.T) int {
	t.Helper()
	const path = "/proc/thread-self/io"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("this kernel does not count system calls (CONFIG_TASK_IO_ACCOUNTING): %v", err)
	}
	_, after, _ := strings.Cut(string(text), "syscr: ")
	line, _, _ := strings.Cut(after, "\n")
	count, err := strconv.Atoi(line)
	require.NoError(t, err, "%s has no syscr: %q", path, text)
	return count
}
