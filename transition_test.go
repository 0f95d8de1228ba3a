//go:build !selftest

package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/scripted"
	"github.com/hotplugtest/hotplugtest/suite"
)

// scriptedMachine returns a machine whose kernel does what the script says, and
// all of whose CPUs may be used.
func scriptedMachine(t *testing.T, script string) (*Machine, *scripted.Kernel) {
	t.Helper()
	k := scripted.New(t, script)
	online, err := k.Online()
	require.NoError(t, err)
	last, _ := online.Last()
	return suite.NewMachine(suite.Facts{Online: online, Usable: online, Targets: []int{0, last}}, k, k, k.Log), k
}

func onlineOf(t *testing.T, k *scripted.Kernel) string {
	t.Helper()
	online, err := k.Online()
	require.NoError(t, err)
	return online.String()
}

// What goes offline must be given with -cpus, and be nobody's, also if the
// kernel takes others along.
func TestOffLimits(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/x86")), "where it fails, CPUs are taken offline there")
	sys, err := cpuhp.New(dir)
	require.NoError(t, err)
	nothing := func(*Machine) (Prepared, error) { return Prepared{}, nil }
	last := func(m *Machine) (Prepared, error) { return offlineAllBut(m, 3, affinity.Of(1, 2), "the last one") }
	for _, tt := range []struct {
		setup       Setup
		cpus        string
		partitioned affinity.CPUSet
		want        string
	}{
		{allButOne(nothing), "", affinity.Of(2), ""},
		{allButOne(nothing), "1-3", affinity.CPUSet{}, ""},
		{allButOne(nothing), "2-3", affinity.CPUSet{}, "a suspend takes all CPUs offline but cpu0: CPU 1 is not among those to be used, 2-3"},
		{butHousekeeping(nothing), "2-3", affinity.CPUSet{}, "a suspend takes all CPUs offline but cpu0: CPU 1 is not among those to be used, 2-3"},
		{last, "2-3", affinity.CPUSet{}, "cpu3 cannot be the last one: CPU 1 is not among those to be used, 2-3"},
		{last, "", affinity.Of(2), "cpu3 cannot be the last one: CPU 2 belongs to a cpuset partition"},
	} {
		usable, err := affinity.ParseList(tt.cpus)
		require.NoError(t, err)
		m := suite.NewMachine(suite.Facts{Options: Options{CPUs: tt.cpus}, Usable: usable, Partitioned: tt.partitioned}, sys, nil, nil)
		_, err = tt.setup(m)
		if tt.want == "" {
			assert.NoError(t, err)
			continue
		}
		assert.EqualError(t, err, tt.want)
		assert.True(t, suite.IsUnsupported(err))
	}
}

// powerpc has up to eight threads a core, and SMT control says how many of them
// are online if some are not.
func TestSomeThreads(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/powerpc")), "a fixture is written to")
	sys, err := cpuhp.New(dir)
	require.NoError(t, err)
	m := suite.NewMachine(suite.Facts{}, sys, nil, nil)
	prepared, err := needSMT(m)
	require.NoError(t, err)
	assert.Equal(t, []int{5}, prepared.CPUs)
	require.NoError(t, sys.SetSMT("1"))
	require.NoError(t, prepared.Undo())
	control, _, err := sys.SMT()
	require.NoError(t, err)
	assert.Equal(t, "2", control)

	require.NoError(t, sys.SetSMT("1"))
	_, err = needSMT(m)
	assert.EqualError(t, err, "no SMT to turn off: smt/control is 1, smt/active true")
}

// A server has more interrupts than one CPU has vectors: the kernel refuses,
// long before the last CPU, and nothing must be different then.
func TestNoRoomForInterrupts(t *testing.T) {
	const line = "CPU 1 has 183 vectors, 122 available. Cannot disable CPU"
	const skipped = "cpu3 cannot be the last one: the other CPUs have no room for the interrupts of cpu1 (ENOSPC): "
	for _, tt := range []struct {
		name, rule string
		skip       string   // the reason for which the row is skipped
		err        []string // or what is wrong
	}{
		{name: "refused", rule: "log " + line + "; ENOSPC", skip: skipped + line},
		{name: "refused without a word", rule: "ENOSPC", skip: skipped + "the kernel's log does not say how many"},
		{name: "half-way", rule: "half 87; ENOSPC", err: []string{
			`cpuhp: write "0" to /sys/devices/system/cpu/cpu1/online: ENOSPC (no space left on device), and then:`,
			"cpu1/hotplug/state is 87, and was 236", "cpu1/hotplug/target is 0, and was 236",
			"    promised: a refused operation changes nothing and sends no uevent",
			"    source:   Documentation/core-api/cpu_hotplug.rst: a failed operation is rolled back",
		}},
		{name: "with a uevent", rule: "uevent offline; ENOSPC", err: []string{
			`cpuhp: write "0" to /sys/devices/system/cpu/cpu1/online: ENOSPC (no space left on device), and then:`, "cpu1 sent offline (SEQNUM 2), want none",
		}},
		{name: "and offline", rule: "anyway; ENOSPC", err: []string{
			"the online mask is 2-3, and was 1-3", "the offline mask is 0-1, and was 0", "cpu1/online is false, and was true",
		}},
		{name: "with a complaint", rule: "log " + line + "; log WARNING: CPU: 1 PID: 7 at kernel/cpu.c; ENOSPC", err: []string{
			"the kernel's log has a complaint (warning)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, k := scriptedMachine(t, "cpus 0-3\noffline cpu1: "+tt.rule)
			prepared, err := offlineAllBut(m, 3, affinity.Of(0, 1, 2), "the last one")
			require.Error(t, err)
			assert.Equal(t, tt.skip != "", suite.IsUnsupported(err), "%v", err)
			if tt.skip != "" {
				assert.EqualError(t, err, tt.skip)
			}
			for _, text := range tt.err {
				assert.ErrorContains(t, err, text)
			}
			two, err := k.IsOnline(2)
			require.NoError(t, err)
			assert.True(t, two, "cpu2 was taken offline though cpu1 had been refused")
			assert.NoError(t, prepared.Undo())
			assert.Equal(t, "0-3", onlineOf(t, k))
		})
	}
}

func TestLastCPU(t *testing.T) {
	m, k := scriptedMachine(t, "cpus 0-3")
	prepared, err := makeLast(m)
	require.NoError(t, err)
	assert.Equal(t, []int{3}, prepared.CPUs)
	assert.Equal(t, "3", onlineOf(t, k))
	assert.ErrorIs(t, k.SetOnline(3, false), unix.EBUSY)
	assert.NoError(t, prepared.Undo())
	assert.Equal(t, "0-3", onlineOf(t, k))
	m.KeepOnline = affinity.Of(1)
	prepared, err = makeLast(m)
	require.NoError(t, err)
	assert.Equal(t, []int{1}, prepared.CPUs)

	for rule, says := range map[string]string{
		"log WARNING: no; EIO":    "the kernel's log has a complaint (warning):\n    [    1.000000] WARNING: no",
		"log CPU 0 is stuck; EIO": "the kernel's log of it:\n    [    1.000000] CPU 0 is stuck",
	} {
		m, k := scriptedMachine(t, "cpus 0-3\noffline cpu0: "+rule)
		prepared, err := makeLast(m)
		assert.ErrorIs(t, err, unix.EIO)
		assert.ErrorContains(t, err, says)
		assert.False(t, suite.IsUnsupported(err))
		assert.NoError(t, prepared.Undo())
		assert.Equal(t, "0-3", onlineOf(t, k))
	}
}

// A failure is injected at each hotplug state; one at which nothing is done
// says so.
func TestRollbackVariants(t *testing.T) {
	m, k := scriptedMachine(t, "cpus 0-3")
	prepared, err := disarm(m)
	require.NoError(t, err)
	assert.Equal(t, []int{3}, prepared.CPUs)
	all, err := failStates(m)
	require.NoError(t, err)
	assert.Equal(t, "0-3", onlineOf(t, k), "to know the states, nothing is done")
	_, err = canFail(Offline)(m, 3, all)
	require.NoError(t, err)
	assert.Equal(t, "0-2", onlineOf(t, k), "while it is online, the states before it is up are refused")
	names, err := canFail(Online)(m, 3, all)
	require.NoError(t, err)
	assert.Equal(t, "0-3", onlineOf(t, k))
	assert.Equal(t, []string{"87:idle-state", "143:sched:active"}, names)
	op := failing(setOffline)
	assert.ErrorIs(t, op(&Operation{Machine: m, CPU: 3, Variant: names[1]}), unix.EAGAIN)
	assert.Equal(t, "0-3", onlineOf(t, k))
	assert.ErrorIs(t, op(&Operation{Machine: m, CPU: 3, Variant: names[0]}), suite.ErrInapplicable)
	assert.Equal(t, "0-2", onlineOf(t, k))
	assert.NoError(t, errors.Join(prepared.Undo(), k.SetOnline(3, true)))
}

// The lists of siblings do not have a CPU that is offline: its second thread
// seems to be the first of its core, and SMT control takes it offline.
func TestSecondThreads(t *testing.T) {
	for _, tt := range []struct {
		name             string
		online           string
		siblings         map[int]string
		seconds, unclear string
	}{
		{"all online", "0-3", nil, "2-3", ""},
		{"a first thread is offline", "0,2-3", map[int]string{3: "3"}, "2", "3"},
		{"a second thread is offline", "0-2", map[int]string{1: "1"}, "2", ""},
		{"SMT is off", "0-1", map[int]string{0: "0", 1: "1"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/x86")))
			cpus := filepath.Join(dir, "sys/devices/system/cpu")
			online, err := affinity.ParseList(tt.online)
			require.NoError(t, err)
			offline := affinity.Of(0, 1, 2, 3).Difference(online)
			require.NoError(t, os.WriteFile(filepath.Join(cpus, "online"), []byte(tt.online+"\n"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(cpus, "offline"), []byte(offline.String()+"\n"), 0o644))
			for cpu, list := range tt.siblings {
				file := filepath.Join(cpus, fmt.Sprintf("cpu%d/topology/thread_siblings_list", cpu))
				require.NoError(t, os.WriteFile(file, []byte(list+"\n"), 0o644))
			}
			sys, err := cpuhp.New(dir)
			require.NoError(t, err)
			m := suite.NewMachine(suite.Facts{}, sys, nil, nil)

			seconds, unclear, err := secondThreads(m)
			require.NoError(t, err)
			assert.Equal(t, []string{tt.seconds, tt.unclear}, []string{seconds.String(), unclear.String()})
			touched, err := about(&Probe{View: View{Machine: m, CPU: 2}, Transition: &Transition{Name: "SMT/off"}})
			require.NoError(t, err)
			want := affinity.Of(2).Union(offline).Union(seconds).Union(unclear)
			assert.Equal(t, want.String(), touched.String())

			m.Partitioned = unclear
			if _, err := needSMT(m); !unclear.Empty() {
				assert.EqualError(t, err, "SMT control takes second threads offline: CPU 3 belongs to a cpuset partition, and may be one")
			}
		})
	}
}
