package machine

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// The tests in this file need the machine for themselves: root, two CPUs or
// more of which the last can go offline, proc and sysfs.

// lastCPU returns the last CPU that is online, which can go offline.
func lastCPU(t *testing.T) (cpuhp.FS, int) {
	t.Helper()
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	hotpluggable, _, err := sys.Hotpluggable()
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	last, _ := hotpluggable.Intersect(online).Last()
	require.True(t, last > 0, "no CPU but the first can go offline")
	return sys, last
}

// sleeper starts a process that does nothing until the test ends.
func sleeper(t *testing.T) (pid int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LOCK_AND_HOLD="+filepath.Join(t.TempDir(), "lock"))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = io.ReadFull(out, make([]byte, len("locked\n")))
	require.NoError(t, err)
	return cmd.Process.Pid
}

// A change is one to the machine. It returns a part of how that is to be named;
// what a kernel does not have is "".
type change struct {
	name   string
	before func(t *testing.T) // what is to be there already
	change func(t *testing.T) (named string)
}

var changes = []change{
	{"offline CPU", nil, func(t *testing.T) string {
		sys, cpu := lastCPU(t)
		require.NoError(t, sys.SetOnline(cpu, false))
		return "cpu" + strconv.Itoa(cpu) + " is offline, was online"
	}},
	{"armed failure", nil, func(t *testing.T) string {
		sys, cpu := lastCPU(t)
		states, err := sys.States()
		require.NoError(t, err)
		path := "/sys/devices/system/cpu/cpu" + strconv.Itoa(cpu) + "/hotplug/fail"
		for _, state := range slices.Backward(states) {
			if write(path, strconv.Itoa(state.ID)) == nil {
				return path + " is " + strconv.Itoa(state.ID) + ", was -1"
			}
		}
		t.Fatal("no state that can fail")
		return ""
	}},
	{"SMT off", nil, func(t *testing.T) string {
		const path = "/sys/devices/system/cpu/smt/control"
		if control, _ := read(path); control != "on\n" {
			return ""
		}
		require.NoError(t, write(path, "off"))
		return path + " is off, was on"
	}},
	{"pm_test", nil, func(t *testing.T) string {
		const path = "/sys/power/pm_test"
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		require.NoError(t, write(path, "freezer"))
		return path + " is freezer, was "
	}},
	{"pm_test_delay", nil, func(t *testing.T) string {
		const path = "/sys/module/suspend/parameters/pm_test_delay"
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		require.NoError(t, write(path, "1"))
		return path + " is 1, was "
	}},
	{"RTC alarm", nil, func(t *testing.T) string {
		const path = "/sys/class/rtc/rtc0/wakealarm"
		if alarm, err := read(path); err != nil || alarm != "" {
			return "" // no clock, or an alarm that somebody has set
		}
		require.NoError(t, write(path, "+3600"))
		return path + " is "
	}},
	{"IRQ mask", nil, func(t *testing.T) string {
		// The clock's and some others cannot be moved.
		for _, irq := range numbers("/proc/irq") {
			path := filepath.Join("/proc/irq", strconv.Itoa(irq), "smp_affinity_list")
			if write(path, "1") == nil {
				return path
			}
		}
		return ""
	}},
	{"affinity that is lost with a CPU",
		func(t *testing.T) {
			_, cpu := lastCPU(t)
			require.NoError(t, affinity.Set(sleeper(t), affinity.Of(cpu)))
		},
		func(t *testing.T) string {
			// As a running thread loses its mask; a sleeping one keeps it.
			_, cpu := lastCPU(t)
			s, err := Take("/")
			require.NoError(t, err)
			for tid, thread := range s.Threads {
				if thread.CPUs == strconv.Itoa(cpu) && thread.Name != "" {
					if status, _ := read("/proc/" + strconv.Itoa(tid) + "/status"); field(status, "PPid") == strconv.Itoa(os.Getpid()) {
						require.NoError(t, affinity.Set(tid, affinity.Of(0, cpu)))
						return "thread " + strconv.Itoa(tid) + " (" + thread.Name + ") on CPUs is 0," + strconv.Itoa(cpu) + ", was " + strconv.Itoa(cpu)
					}
				}
			}
			t.Fatal("the pinned thread is not in the snapshot")
			return ""
		}},
	{"cgroup left over, with a process in it", nil, func(t *testing.T) string {
		h, err := cpuset.New("/")
		require.NoError(t, err)
		left, err := h.Root().Create(leftoverPrefix + "0")
		require.NoError(t, err)
		below, err := left.Create("below")
		require.NoError(t, err)
		require.NoError(t, below.AttachProcess(sleeper(t)))
		return left.Path() + " is left over, was absent"
	}},
	{"cpuset and its partition",
		func(t *testing.T) {
			h, err := cpuset.New("/")
			require.NoError(t, err)
			restore, err := h.EnableController()
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, restore()) })
			_, cpu := lastCPU(t)
			set, err := h.Root().Create("machinetest")
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, set.Remove()) })
			require.NoError(t, set.SetCPUs(affinity.Of(cpu)))
		},
		func(t *testing.T) string {
			h, err := cpuset.New("/")
			require.NoError(t, err)
			dir := filepath.Join(h.Mount(), "machinetest")
			require.NoError(t, write(filepath.Join(dir, "cpuset.cpus"), "1"))
			require.NoError(t, write(filepath.Join(dir, "cpuset.cpus.partition"), "root"))
			// It is not valid if somebody's cpuset has CPU 1.
			return dir + "/cpuset.cpus.partition is root"
		}},
	{"subtree_control", nil, func(t *testing.T) string {
		h, err := cpuset.New("/")
		require.NoError(t, err)
		path := filepath.Join(h.Mount(), "cgroup.subtree_control")
		control, err := read(path)
		if err != nil {
			return "" // cgroup v1
		}
		for _, controller := range enabledByTests {
			if !slices.Contains(strings.Fields(control), controller) {
				require.NoError(t, write(path, "+"+controller))
				return path + " is " + sorted(control+" "+controller) + ", was " + orNothing(sorted(control))
			}
		}
		return "" // somebody has enabled all of them
	}},
}

func TestKernelRestore(t *testing.T) {
	Claim(t)
	for _, tt := range changes {
		t.Run(tt.name, tt.test)
	}
}

func (c change) test(t *testing.T) {
	if c.before != nil {
		c.before(t)
	}
	s, err := Take("/")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Restore()) })
	named := c.change(t)
	if named == "" {
		t.Skip("this kernel or machine does not have it")
	}
	diffs, err := s.Compare()
	require.NoError(t, err)
	assert.Contains(t, sprint(diffs), named)
	t.Logf("%d differences:\n%s", len(diffs), sprint(diffs))
	require.NoError(t, s.Restore())
	diffs, err = s.Compare()
	require.NoError(t, err)
	assert.Empty(t, sprint(ours(diffs)))
}

// ours are the differences that can be the suite's. Where irqbalance runs, it
// moves interrupts whenever it likes.
func ours(diffs []Difference) []Difference {
	if !balanced() {
		return diffs
	}
	return slices.DeleteFunc(diffs, func(d Difference) bool { return strings.Contains(d.What, "/proc/irq/") })
}

// balanced reports whether irqbalance runs on this machine.
func balanced() bool {
	return slices.ContainsFunc(numbers("/proc"), func(pid int) bool {
		comm, _ := read("/proc/" + strconv.Itoa(pid) + "/comm")
		return comm == "irqbalance\n"
	})
}

func sprint(diffs []Difference) string {
	var lines []string
	for _, d := range diffs {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

// What an IRQ that nobody can move is on is not for anybody to restore.
func TestKernelRestoreIRQ(t *testing.T) {
	Claim(t)
	if balanced() {
		t.Skip("irqbalance runs, and may move the interrupts of this test")
	}
	s, err := Take("/")
	require.NoError(t, err)
	fixed, movable := -1, -1
	for i, irq := range s.IRQs {
		if write(maskFile(irq.Number), irq.CPUs) != nil {
			fixed = i
		} else {
			movable = i
		}
	}
	require.GreaterOrEqual(t, fixed, 0, "all IRQs can be moved")
	require.GreaterOrEqual(t, movable, 0, "no IRQ can be moved")
	path, at := maskFile(s.IRQs[movable].Number), s.IRQs[movable].CPUs
	s.IRQs[fixed].CPUs, s.IRQs[movable].CPUs = "1", "1"
	diffs, err := s.Compare()
	require.NoError(t, err)
	assert.Contains(t, sprint(diffs), maskFile(s.IRQs[fixed].Number))

	assert.NoError(t, s.Restore())
	diffs, err = s.Compare()
	assert.NoError(t, err)
	assert.Empty(t, sprint(diffs))
	now, err := read(path)
	assert.NoError(t, err)
	assert.Equal(t, "1", strings.TrimSpace(now))
	assert.NoError(t, write(path, at))
}

// A machine that nothing is done to does not differ from itself.
func TestKernelTake(t *testing.T) {
	Claim(t)
	before, err := Take("/")
	require.NoError(t, err)
	for kind, files := range before.Settings {
		t.Logf("%s: %d", kind, len(files))
	}
	t.Logf("%d threads, online %s", len(before.Threads), before.Online)
	diffs, err := before.Compare()
	require.NoError(t, err)
	assert.Empty(t, sprint(ours(diffs)))
}
