package found_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// In these tests the machine has four CPUs: cpu1 is somebody's who has taken it
// offline, cpu3 that of a partition on cgroup v2, and cpu2 is what the suite
// takes offline.
const (
	offline   = 1
	victim    = 2
	exclusive = 3
)

// These are transitions that other people's state can suffer from: one CPU
// goes, or all go but one; and all in a suspend.
const (
	hotplugs = "TestSuite/^(Online|Offline)$/at-return/^(affinity|effective|running-task|sleeping-task)$|TestSuite/Refused"
	suspends = "TestSuite/Suspend/^mem-(freezer|core)$"
)

// A fact is something of other people's that is to be as it was: the path of a
// file, and which line of it.
type fact struct{ path, line string }

func (f fact) read() string {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, f.line) {
			return strings.TrimSpace(line)
		}
	}
	return "no " + f.line
}

// A tenant is somebody whose state is in the machine. What they return is what
// they look at when the suite has run.
type tenant struct {
	name   string
	moveIn func(t *testing.T, h *cpuset.Hierarchy) []fact
}

var tenants = []tenant{
	{"offline CPU", func(t *testing.T, _ *cpuset.Hierarchy) []fact {
		setAll(t, affinity.Of(offline), false)
		t.Cleanup(func() { setAll(t, affinity.Of(offline), true) })
		return []fact{{path: "/sys/devices/system/cpu/online"}}
	}},
	{"sleeping process pinned to the CPU", pinned("sleeps", victim)},
	{"running process pinned to the CPU", pinned("runs", victim)},
	{"sleeping process on the CPU and one that is offline", pinned("sleeps", victim, offline)},
	{"running process on the CPU and another", pinned("runs", victim, 0)},
	{"IRQ on the CPU", func(t *testing.T, _ *cpuset.Hierarchy) []fact {
		irqs, err := filepath.Glob("/proc/irq/[0-9]*/smp_affinity_list")
		require.NoError(t, err)
		for _, irq := range slices.Backward(irqs) {
			// The timer's and some others cannot be moved.
			if os.WriteFile(irq, []byte(strconv.Itoa(victim)), 0) == nil {
				return []fact{{path: irq}}
			}
		}
		t.Fatal("no IRQ can be moved")
		return nil
	}},
	{"settings", func(t *testing.T, _ *cpuset.Hierarchy) []fact {
		var facts []fact
		for _, s := range []struct{ path, value, before string }{
			{"/sys/module/suspend/parameters/pm_test_delay", "2", "5"},
			{"/sys/class/rtc/rtc0/wakealarm", "+3600", "0"},
			{"/proc/sys/kernel/watchdog_thresh", "20", "10"},
			{"/proc/sys/kernel/sched_rr_timeslice_ms", "50", "100"},
			{"/proc/irq/default_smp_affinity", "d", "f"},
			{"/sys/class/leds/input0::numlock/trigger", "cpu0", "kbd-numlock"},
		} {
			require.NoError(t, os.WriteFile(s.path, []byte(s.value), 0))
			t.Cleanup(func() { assert.NoError(t, os.WriteFile(s.path, []byte(s.before), 0)) })
			facts = append(facts, fact{path: s.path})
		}
		return facts
	}},
	{"cpuset", func(t *testing.T, h *cpuset.Hierarchy) []fact {
		set := create(t, h, "tenant", victim)
		pid := process(t, "sleeps", affinity.Of(victim))
		require.NoError(t, set.AttachProcess(pid))
		t.Cleanup(func() { assert.NoError(t, h.Root().AttachProcess(pid)) })
		facts := []fact{{path: filepath.Join(set.Path(), "cpuset.cpus")}, {path: fmt.Sprintf("/proc/%d/cgroup", pid)}, allowed(pid)}
		if h.Version() == 1 {
			below, err := set.Create("below")
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, below.Remove()) })
			facts = append(facts, fact{path: filepath.Join(below.Path(), "cpuset.cpus")})
		}
		return facts
	}},
	{"partition", func(t *testing.T, h *cpuset.Hierarchy) []fact {
		if h.Version() == 1 {
			return nil
		}
		set := create(t, h, "partition", exclusive)
		file := filepath.Join(set.Path(), "cpuset.cpus.partition")
		require.NoError(t, os.WriteFile(file, []byte("root"), 0))
		t.Cleanup(func() { assert.NoError(t, os.WriteFile(file, []byte("member"), 0)) })
		pid := process(t, "sleeps", affinity.CPUSet{})
		require.NoError(t, set.AttachProcess(pid))
		t.Cleanup(func() { assert.NoError(t, h.Root().AttachProcess(pid)) })
		return []fact{
			{path: file}, {path: filepath.Join(set.Path(), "cpuset.cpus")}, {path: filepath.Join(set.Path(), "cpuset.cpus.effective")},
			{path: filepath.Join(h.Mount(), "cgroup.subtree_control")}, {path: fmt.Sprintf("/proc/%d/cgroup", pid)}, allowed(pid),
		}
	}},
}

// The suite runs beside all of them, on cgroup v2, and on v1 where the kernel
// has that.
func TestTenants(t *testing.T) {
	needVM(t)
	if n, err := affinity.Get(0); err != nil || n.Count() < 4 {
		t.Skip("fewer than four CPUs")
	}
	t.Run("v2", func(t *testing.T) {
		h, err := cpuset.New("/")
		require.NoError(t, err)
		restore, err := h.EnableController()
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, restore()) })
		runBeside(t, h)
	})
	t.Run("v1", func(t *testing.T) { runBeside(t, mountV1(t)) })
}

// mountV1 gives the machine cpusets of cgroup v1.
func mountV1(t *testing.T) *cpuset.Hierarchy {
	t.Helper()
	dir := t.TempDir()
	// It is v2's until the kernel has done with the last cpuset there, a moment
	// after that was removed.
	soon := func(f func() error) (err error) {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if err = f(); err == nil || err == unix.EINVAL {
				break
			}
		}
		return err
	}
	err := soon(func() error { return unix.Mount("cgroup", dir, "cgroup", 0, "cpuset") })
	if err == unix.EINVAL {
		t.Skip("this kernel has no cpuset controller of cgroup v1 (CONFIG_CPUSETS_V1)")
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		// With another cpuset than the root, which is there until a moment
		// after its removal, the hierarchy would stay.
		alone := regexp.MustCompile(`(?m)^cpuset\t\d+\t1\t`)
		assert.NoError(t, soon(func() error {
			cgroups, err := os.ReadFile("/proc/cgroups")
			if err == nil && !alone.Match(cgroups) {
				err = fmt.Errorf("cpusets are left: %s", cgroups)
			}
			return err
		}))
		assert.NoError(t, unix.Unmount(dir, 0))
		assert.NoError(t, soon(func() error { _, err := cpuset.New("/"); return err }))
	})
	h, err := cpuset.New("/")
	require.NoError(t, err)
	require.Equal(t, 1, h.Version())
	return h
}

func runBeside(t *testing.T, h *cpuset.Hierarchy) {
	facts := make(map[string][]fact)
	for _, tenant := range tenants {
		facts[tenant.name] = tenant.moveIn(t, h)
	}
	look := func() map[string]string {
		seen := make(map[string]string)
		for name, list := range facts {
			for _, f := range list {
				seen[fmt.Sprintf("%s: %s %s", name, f.path, f.line)] = f.read()
			}
		}
		return seen
	}
	before := look()
	able, given := hotpluggable(t), ""
	if h.Version() == 1 {
		given = able.String() // there they have to be named
	}
	partition := h.Version() == 2
	ran := []string{"Online", "Offline"}
	if able.Has(0) && !partition {
		// it takes all CPUs, which those of a partition are left out of
		ran = append(ran, "Refused/last-cpu")
	}
	beside := func(pattern string, known func(said string) bool, ran ...string) {
		code, said := run(t, suite("-test.run="+pattern, "-cpus="+given))
		assert.Equal(t, before, look())
		assert.NotContains(t, said, "the machine is not as it was found")
		for _, name := range ran {
			assert.Regexp(t, `(?m)^ +--- (PASS|FAIL): TestSuite/`+name+` \(`, said)
		}
		if code != 0 && known(said) {
			t.Logf("the suite failed beside them, by what is known of this kernel: %s", pattern)
		} else if code != 0 {
			t.Errorf("the suite failed beside them, and not by what is known of this kernel")
		}
		if t.Failed() {
			t.Log(said)
		}
	}
	beside(hotplugs, func(said string) bool {
		// Before v6.0 a partition takes its CPUs from the kernel's own threads
		// that are bound to them, of which those warn.
		return partition && older(t, 6, 0) && strings.Contains(said, "process_one_work") && !strings.Contains(said, "promised:")
	}, ran...)
	beside("TestSuite/Scenario/^(irqs|mask.*|affinity-storm|online-masks|sysctls|hotplug-lock)$", func(string) bool { return false }, "Scenario/affinity-storm", "Scenario/online-masks", "Scenario/sysctls", "Scenario/hotplug-lock")
	beside(suspends, func(said string) bool {
		// Before v6.2 (8f9ea86fdf99) tasks in other cpusets lose what they were
		// pinned to, and nothing else breaks.
		lost := strings.Count(said, "which it was pinned to, is online")
		return partition && older(t, 6, 2) && lost > 0 && lost == strings.Count(said, "promised:")
	}, "Suspend/mem-freezer", "Suspend/mem-core")
}

// hotpluggable are the CPUs that are online and can go offline.
func hotpluggable(t *testing.T) affinity.CPUSet {
	t.Helper()
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	cpus, _, err := sys.Hotpluggable()
	require.NoError(t, err)
	return online.Intersect(cpus)
}

// older tells whether the kernel is older than a version.
func older(t *testing.T, major, minor int) bool {
	t.Helper()
	var uname unix.Utsname
	require.NoError(t, unix.Uname(&uname))
	var is [2]int
	_, err := fmt.Sscanf(unix.ByteSliceToString(uname.Release[:]), "%d.%d", &is[0], &is[1])
	require.NoError(t, err)
	return slices.Compare(is[:], []int{major, minor}) < 0
}

// pinned moves in as a process on CPUs.
func pinned(how string, cpus ...int) func(*testing.T, *cpuset.Hierarchy) []fact {
	return func(t *testing.T, _ *cpuset.Hierarchy) []fact {
		return []fact{allowed(process(t, how, affinity.Of(cpus...)))}
	}
}

func allowed(pid int) fact { return fact{fmt.Sprintf("/proc/%d/status", pid), "Cpus_allowed_list:"} }

// process starts a process that sleeps or runs until the test ends, on CPUs; on
// any if there is none.
func process(t *testing.T, how string, cpus affinity.CPUSet) (pid int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), tenantEnv+"="+how)
	require.NoError(t, affinity.Thread(func() error {
		if !cpus.Empty() {
			if err := affinity.Set(0, cpus); err != nil {
				return err
			}
		}
		return cmd.Start()
	}))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// create makes a cpuset on CPUs.
func create(t *testing.T, h *cpuset.Hierarchy, name string, cpus ...int) *cpuset.Group {
	t.Helper()
	set, err := h.Root().Create(name)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, set.Remove()) })
	require.NoError(t, set.SetCPUs(affinity.Of(cpus...)))
	return set
}
