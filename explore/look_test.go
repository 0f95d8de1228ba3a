package explore

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// write writes a file of a tree.
func write(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

const (
	stat      = "cpu  1 2\ncpu0 1 2\ncpu2 3 4\nintr 5\n"
	schedstat = "version 17\ncpu0 0 0\ndomain0 MC 05 0 0\ndomain1 PKG 0f 0 0\ncpu2 0 0\ncpu3 1\ndomain0 0000000f,00000001 5\n"
)

// What is read is what is there, also when a cgroup was removed and made again.
func TestLook(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"sys/devices/system/cpu/present": "0-2\n", "sys/devices/system/cpu/online": "0,2\n", "sys/devices/system/cpu/cpu1/online": "0\n",
		"proc/stat": stat, "proc/schedstat": schedstat, "cg/cpuset.cpus.effective": "0,2\n",
		"proc/interrupts":                     "            CPU0       CPU2       \n  0:         43          0    IO-APIC   2-edge      timer\n",
		string(describedKey(2, siblingsFile)): "2\n", "sys/devices/system/node/node0/cpulist": "0,2\n", "proc/irq/4/smp_affinity": "f\n",
	} {
		write(t, root, path, text)
	}
	target := NewTarget(root, "/cg", "")
	o, err := NewObserver(target, nil)
	require.NoError(t, err)
	defer o.Close()
	require.False(t, target.Do(Line{Commands: []Command{{Op: Mkdir, Path: "$A"}}}).Failed())
	write(t, root, "cg/a/cpuset.cpus.effective", "2\n")
	s, err := o.Look()
	require.NoError(t, err)
	assert.Equal(t, map[Key]string{
		presentKey: "0-2", "/proc/interrupts#cpus": "0 2", describedKey(2, siblingsFile): "2", "/sys/devices/system/node/node0/cpulist": "0,2",
		onlineKey: "0,2", cpuDir + "cpu1/online": "0", "$R/cpuset.cpus.effective": "0,2", "$A/cpuset.cpus.effective": "2",
		"/proc/stat#cpus": "0 2", "/proc/schedstat#cpu0": "05 0f", "/proc/schedstat#cpu2": "", "/proc/schedstat#cpu3": "0000000f,00000001",
	}, s.Readings)
	assert.Equal(t, []string{"$A"}, s.Groups)
	assert.Equal(t, "$A", s.All()[1].Name)

	write(t, root, "cg/a/cpuset.cpus.effective", "0\n")
	s, err = o.LookAfter(lines(t, "echo 5 > /proc/irq/4/smp_affinity")[0])
	require.NoError(t, err)
	assert.Equal(t, "f", s.Readings["/proc/irq/4/smp_affinity"])
	s, err = o.Look()
	require.NoError(t, err)
	assert.Equal(t, "0", s.Readings["$A/cpuset.cpus.effective"])
	require.NoError(t, os.Remove(filepath.Join(root, "proc/stat")))
	o.Close()
	_, err = o.Look()
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// After a line that cannot change CPUs their files are not read, but now and
// then, and if the list of online CPUs has changed all the same.
func TestLookAfter(t *testing.T) {
	root := t.TempDir()
	online := cpuDir + "cpu1/online"
	for path, text := range map[string]string{
		cpuDir + "present": "0-1\n", string(onlineKey): "0-1\n", online: "1\n", "proc/stat": "cpu 1\ncpu0 1\ncpu1 1\n",
	} {
		write(t, root, path, text)
	}
	o, err := NewObserver(NewTarget(root, "/cg", ""), nil)
	require.NoError(t, err)
	defer o.Close()
	look := func(line string) *Snapshot {
		s, err := o.LookAfter(lines(t, line)[0])
		require.NoError(t, err)
		return s
	}
	first, err := o.Look()
	require.NoError(t, err)
	assert.Equal(t, first.state, look("taskset -p 1 $T1").state)

	write(t, root, online, "0\n")
	assert.Equal(t, "1", look("echo 0 > $A/cpuset.cpus").Readings[Key(online)])
	assert.Equal(t, "0", look("echo 0 > " + online).Readings[Key(online)])
	assert.Equal(t, "1", first.Readings[Key(online)], "a snapshot does not change")

	write(t, root, string(onlineKey), "0\n")
	write(t, root, "proc/stat", "cpu 1\ncpu0 1\n")
	s := look("echo 0 > $A/cpuset.cpus")
	assert.Equal(t, "0", s.Readings["/proc/stat#cpus"])
	assert.NotEqual(t, first.state, s.state)

	write(t, root, online, "1\n")
	for range maxPartial + 1 {
		s = look("rmdir $A")
	}
	assert.Equal(t, "1", s.Readings[Key(online)])
}

// A kernel that warns until its log is overrun is not one that says nothing.
func TestEnough(t *testing.T) {
	warning := []kmsg.Record{{Text: "WARNING: kernel/f.c:12 at f+0x1/0x2, CPU#1: sh/99"}}
	assert.True(t, enough(nil, nil))
	assert.True(t, enough(warning, &kmsg.Overrun{Lost: 9}))
	assert.False(t, enough([]kmsg.Record{{Text: "smpboot: CPU 3 is now offline"}}, &kmsg.Overrun{Lost: 9}))
	assert.False(t, enough(warning, os.ErrClosed))
}

// What a line may change is read after it.
func TestTouches(t *testing.T) {
	for text, want := range map[string][3]bool{
		"taskset -p 1 $T1":                                                       {},
		"echo $T1 > $A/cgroup.procs":                                             {},
		"echo 0 > $A/cpuset.mems":                                                {},
		"echo f > /proc/irq/4/smp_affinity":                                      {},
		"echo 1 > $A/cpuset.cpus":                                                {false, true, false},
		"echo root > $A/cpuset.cpus.partition":                                   {false, true, false},
		"rmdir $A":                                                               {false, true, true},
		"echo 0 > $R/cpuset.sched_load_balance":                                  {false, true, false},
		"echo +cpuset > $A/cgroup.subtree_control":                               {false, true, true},
		"echo off > /sys/devices/system/cpu/smt/control":                         {true, true, false},
		"echo core > /sys/power/pm_test; echo mem > /sys/power/state":            {true, true, false},
		"echo 0 > /sys/devices/system/cpu/cpu1/online & taskset -p 1 $T1 & wait": {true, true, false},
	} {
		cpus, domains, groups := touches(lines(t, text)[0])
		assert.Equal(t, want, [3]bool{cpus, domains, groups}, text)
	}
}

// The facts are those of the machine below the root.
func TestFindFacts(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"present": "0-3\n", "online": "0-3\n", "cpu1/online": "1\n", "cpu2/online": "1\n", "hotplug/states": "  0: offline\n236: online\n",
	} {
		write(t, root, cpuDir+path, text)
	}
	write(t, root, "/sys/power/pm_test", "[none] core processors platform devices freezer\n")
	f, err := FindFacts(NewTarget(root, "/cg", ""), affinity.Of(0, 1))
	require.NoError(t, err)
	assert.Equal(t, "0-1", f.CPUs.String())
	assert.Equal(t, "1", f.Pluggable.String())
	assert.Equal(t, []int{0, 236}, f.FailStates)
	assert.Len(t, f.Levels, 5)
	assert.True(t, f.Exists("/sys/power/pm_test"))
	assert.False(t, f.Exists("/sys/power/state"))
	_, err = FindFacts(NewTarget(t.TempDir(), "/cg", ""), affinity.CPUSet{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// The mask of an interrupt is written only for actions that may change it.
func TestFindIRQs(t *testing.T) {
	root := t.TempDir()
	write(t, root, cpuDir+"present", "0-1\n")
	write(t, root, cpuDir+"online", "0-1\n")
	write(t, root, "/proc/irq/4/smp_affinity", "3") // a write adds the newline
	target := NewTarget(root, "/cg", "")
	f, err := FindFacts(target, affinity.CPUSet{})
	require.NoError(t, err)
	f.findIRQs(target, []Action{{Name: "offline"}})
	text, err := os.ReadFile(target.Path("/proc/irq/4/smp_affinity"))
	require.NoError(t, err)
	assert.Equal(t, "3", string(text))
	assert.Empty(t, f.IRQs)
	f.findIRQs(target, []Action{{Name: "offline"}, {Name: "irq", Alone: true}})
	assert.Equal(t, []int{4}, f.IRQs)
}

// A task that wakes up often is stuck if it has not run for a while.
func TestStuck(t *testing.T) {
	assert.Equal(t, uint64(7), switches([]byte("Name:\tsh\nvoluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t3\n")))
	long, now := time.Now().Add(-2*stuckTime), time.Now()
	o := &Observer{tasks: map[string]*taskFiles{"$T1": {}, "$T2": {}}}
	o.tasks["$T1"].ran(7, long)
	o.tasks["$T2"].ran(7, long)
	assert.Equal(t, []string{"$T2"}, o.stuck(), "the first sleeps for ever")
	o.tasks["$T2"].ran(7, now)
	assert.Equal(t, []string{"$T2"}, o.stuck())
	o.tasks["$T2"].ran(8, now)
	assert.Empty(t, o.stuck())
}
