//go:build !selftest

package hotplugtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

func TestHasParameter(t *testing.T) {
	for cmdline, want := range map[string]bool{
		"":                                  false,
		"quiet isolcpus=0-2 panic=-1\n":     true,
		"isolcpus=managed_irq,domain,1":     true,
		"root=isolcpus=1":                   false,
		"isolcpusx=1":                       false,
		"nohz_full=1-3 rcu_nocbs=1-3 quiet": false,
	} {
		assert.Equal(t, want, hasParameter(cmdline, "isolcpus"), cmdline)
	}
}

func TestNeverOnline(t *testing.T) {
	proc := t.TempDir()
	for name, comm := range map[string]string{
		"1": "init\n", "14": "cpuhp/0\n", "19": "cpuhp/1\n", "24": "cpuhp/x\n", "30": "ksoftirqd/3\n", "sys": "cpuhp/2\n",
	} {
		require.NoError(t, os.Mkdir(filepath.Join(proc, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(proc, name, "comm"), []byte(comm), 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(proc, "31"), 0o755), "one that has ended")
	assert.Equal(t, "2-3", neverOnline(proc, affinity.Of(1, 2, 3)).String())
	assert.Equal(t, "", neverOnline(proc, affinity.Of(1)).String())
	assert.Equal(t, "", neverOnline("no such directory", affinity.CPUSet{}).String())
}

func TestStaying(t *testing.T) {
	all := affinity.Of(0, 1, 2, 3)
	none := affinity.CPUSet{}
	for _, tt := range []struct {
		name                             string
		hotpluggable, isolated, nohzFull affinity.CPUSet
		want                             affinity.CPUSet
	}{
		{"nothing special", all, none, none, none},
		{"one that is not isolated", all, affinity.Of(0, 1, 2), none, affinity.Of(3)},
		{"two that are not isolated", all, affinity.Of(0, 1), none, affinity.Of(2)},
		{"the one that is not isolated cannot go anyway", all.Without(0), affinity.Of(1, 2, 3), none, none},
		{"one of two cannot go anyway", all.Without(0), affinity.Of(1, 2), none, none},
		{"all are isolated", all, all, none, none},
		{"the timekeeper", all, none, affinity.Of(1, 2, 3), affinity.Of(0)},
		{"the first of two that could be it", all, none, affinity.Of(0, 3), affinity.Of(1)},
		{"the timekeeper is not isolated", all, affinity.Of(2, 3), affinity.Of(2, 3), affinity.Of(0)},
		{"the timekeeper is isolated", all, affinity.Of(0, 1, 2), affinity.Of(1, 2, 3), affinity.Of(0, 3)},
		{"all without a tick", all, none, all, none},
	} {
		assert.Equal(t, tt.want.String(), staying(all, tt.hotpluggable, tt.isolated, tt.nohzFull).String(), tt.name)
	}
}

// What goes offline has to be given with -cpus, and nobody's, also where the kernel takes others along.
func TestOffLimits(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("cpuhp/testdata/x86")), "where it fails, CPUs are taken offline there")
	sys, err := cpuhp.New(dir)
	require.NoError(t, err)
	nothing := func(*Suite) (cpus []int, undo func() error, missing string, err error) { return nil, nil, "", nil }
	last := func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		return s.only(3, affinity.Of(1, 2), "the last one")
	}
	for _, tt := range []struct {
		setup func(*Suite) (cpus []int, undo func() error, missing string, err error)
		cpus  string
		owned affinity.CPUSet
		want  string
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
		_, _, missing, err := tt.setup(&Suite{cpus: sys, opts: Options{CPUs: tt.cpus}, usable: usable, owned: tt.owned})
		assert.NoError(t, err)
		assert.Equal(t, tt.want, missing)
	}
}

// To a cpuset of cgroup v1 a CPU that has been offline is gone.
func TestView(t *testing.T) {
	prepared := func(*Suite, int) error { return nil }
	for _, tt := range []struct {
		tr            Transition
		before, after State // from a cpuset that loses CPUs; 0: it is not looked at from there
	}{
		{Transition{Before: Offline, After: Online}, Offline, Offline},
		{Transition{Before: Online, After: Offline}, Online, Offline},
		{Transition{Before: Offline, After: Offline}, Offline, Offline},
		{Transition{Before: Online, After: Online}, Online, Online},
		{Transition{Before: Online, After: Online, RolledBack: true}, 0, 0},
		{Transition{Before: Offline, After: Online, Prepare: prepared}, 0, 0},
		{Transition{Before: Offline, After: Online, Once: true}, 0, 0},
	} {
		before, after, ok := (&placement{losing: true}).view(&tt.tr)
		assert.Equal(t, tt.before, before)
		assert.Equal(t, tt.after, after)
		assert.Equal(t, tt.before != 0, ok)

		before, after, ok = (&placement{}).view(&tt.tr)
		assert.Equal(t, tt.tr.Before, before)
		assert.Equal(t, tt.tr.After, after)
		assert.True(t, ok)
	}
}

// Rows are counted where the machine is booted for them, and looked at from where they can be.
func TestSlots(t *testing.T) {
	online := &Transition{Name: "Online", Before: Offline, After: Online}
	root, losing := &placement{name: "root"}, &placement{name: "losing", losing: true}
	names := func(s *Suite) []string {
		var list []string
		for _, at := range s.slots(online) {
			list = append(list, at.inv.Name+"/"+at.place.name)
		}
		return list
	}
	v2 := names(&Suite{places: []*placement{root}})
	assert.Contains(t, v2, "runs/root")
	assert.NotContains(t, v2, "configured/root")
	v1 := names(&Suite{places: []*placement{root, losing}, boots: []Boot{CgroupV1}})
	assert.Contains(t, v1, "configured/root")
	assert.Contains(t, v1, "affinity/losing")
	assert.NotContains(t, v1, "runs/losing", "nothing runs on a CPU that is gone")
	assert.NotContains(t, v1, "cpu-online/losing", "that is the same from everywhere")
	assert.NotContains(t, v1, "emptied/root", "that is about a CPU that goes offline")
}
