package suite

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/scripted"
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

func TestKeepOnline(t *testing.T) {
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
		assert.Equal(t, tt.want.String(), keepOnline(all, tt.hotpluggable, tt.isolated, tt.nohzFull).String(), tt.name)
	}
}

func TestDiffering(t *testing.T) {
	for _, tt := range []struct {
		machine string
		usable  affinity.CPUSet
		want    []int
	}{
		{"x86", affinity.Of(1, 2, 3), []int{1, 3}},
		{"no-such-topology", affinity.Of(1, 2, 3), []int{1, 3}},
		{"x86", affinity.Of(2), []int{2}},
	} {
		dir := filepath.Join("../cpuhp", "testdata", tt.machine)
		if tt.machine == "no-such-topology" {
			dir = t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "sys/devices/system/cpu"), 0o755))
		}
		fs, err := cpuhp.New(dir)
		require.NoError(t, err)
		assert.Equal(t, tt.want, differing(fs, tt.usable), tt.machine)
	}
}

// fakeRoot is a machine's /proc, and a cgroup v2 whose root has these CPUs, or
// no cgroup if effective is "".
func fakeRoot(t *testing.T, cmdline, effective string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	write("proc/cmdline", cmdline+"\n")
	mounts := ""
	if effective != "" {
		mounts = "31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu\n")
		write("sys/fs/cgroup/cpuset.cpus.effective", effective+"\n")
	}
	write("proc/self/mountinfo", mounts)
	for _, cpu := range []string{"0", "1", "2"} {
		write("proc/1"+cpu+"/comm", "cpuhp/"+cpu+"\n")
	}
	return root
}

func TestLearn(t *testing.T) {
	for _, tt := range []struct {
		name, script, cmdline, effective string
		options                          Options
		usable                           string
		targets                          []int
		smt                              string // smt/control; "": there is none
		boots                            []Boot
		away                             string
		err                              string // or why it cannot run
	}{
		{name: "ordinary", script: "cpus 0-2\nfixed 0", effective: "0-2", usable: "1-2", targets: []int{1, 2}},
		{name: "no cgroups", script: "cpus 0-2", usable: "0-2", targets: []int{0, 2}},
		{name: "all CPUs", script: "cpus 0-2", options: Options{AllCPUs: true}, usable: "0-2", targets: []int{0, 1, 2}},
		{name: "given", script: "cpus 0-2", options: Options{CPUs: "1"}, usable: "1", targets: []int{1}},
		{name: "isolated", script: "cpus 0-2\nisolated 0-1", cmdline: "isolcpus=0-1", usable: "0-1", targets: []int{0, 1},
			boots: []Boot{Isolcpus, IsolcpusFirst}},
		{name: "no tick", script: "cpus 0-2\nnohz_full 1-2", usable: "1-2", targets: []int{1, 2}, boots: []Boot{NohzFull}},
		{name: "never online", script: "cpus 0-3\nonline 0-2", usable: "0-2", targets: []int{0, 2}, boots: []Boot{MaxCPUs}},
		{name: "present and of no use", script: "cpus 0-3\nonline 0-2\nfixed 3", usable: "0-2", targets: []int{0, 2}},
		{name: "one is offline", script: "cpus 0-2\nonline 0-1", usable: "0-1", targets: []int{0, 1}, away: "2"},
		{name: "SMT is off, and so is a CPU", script: "cpus 0-2\nonline 0-1", smt: "off", usable: "0-1", targets: []int{0, 1}, boots: []Boot{SMT, NoSMT}},
		{name: "SMT is off", script: "cpus 0-2", smt: "off", usable: "0-2", targets: []int{0, 2}, boots: []Boot{SMT, NoSMT}},
		{name: "two threads of eight", script: "cpus 0-2", smt: "2", usable: "0-2", targets: []int{0, 2}, boots: []Boot{SMT}},
		{name: "a partition", script: "cpus 0-2", effective: "0-1", usable: "0-1", targets: []int{0, 1}},

		{name: "one CPU", script: "cpus 0", err: "only CPU 0 is online: there is none that could be taken offline"},
		{name: "all fixed", script: "cpus 0-1\nfixed 0-1",
			err: "of the online CPUs 0-1 none can be taken offline; cpu1: it is fixed"},
		{name: "one CPU is no partition's", script: "cpus 0-1", effective: "0",
			err: "of the online CPUs 0-1 only 0 is in no cpuset partition: without it those lose theirs"},
		{name: "all are needed", script: "cpus 0-1\nfixed 1\nnohz_full 1",
			err: "of the online CPUs 0-1 none can be taken offline but 0, which the others need"},
		{name: "given, but offline", script: "cpus 0-2\nonline 0-1", options: Options{CPUs: "1-2"},
			err: "-cpus 1-2: cpu2 cannot be used: it is not online"},
		{name: "given, but fixed", script: "cpus 0-2\nfixed 0", options: Options{CPUs: "0"}, err: "-cpus 0: cpu0 cannot be used: it is fixed"},
		{name: "given, but needed", script: "cpus 0-2\nnohz_full 1-2", options: Options{CPUs: "0"},
			err: "-cpus 0: cpu0 cannot be used: the others need it, which are isolated by isolcpus= or have no tick by nohz_full="},
		{name: "given, but somebody's", script: "cpus 0-2", effective: "0-1", options: Options{CPUs: "2"},
			err: "-cpus 2: cpu2 cannot be used: it belongs to a cpuset partition (it is not effective in "},
		{name: "given wrongly", script: "cpus 0-2", options: Options{CPUs: "x"}, err: "-cpus: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := scripted.New(t, tt.script)
			require.NoError(t, k.SetSMT(cmp.Or(tt.smt, "notsupported")))
			f := Facts{Options: tt.options}
			err := f.learn(k, fakeRoot(t, tt.cmdline, tt.effective))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				assert.Equal(t, tt.options.CPUs == "", IsUnsupported(err), "what was asked for wrongly is no skip")
				assert.Equal(t, tt.options.CPUs != "", errors.As(err, new(*wrongOption)))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.usable, f.Usable.String())
			assert.Equal(t, tt.targets, f.Targets)
			assert.Equal(t, tt.boots, f.Boots)
			assert.Equal(t, tt.away, f.Away.String())
			for _, b := range tt.boots {
				assert.True(t, f.Booted(b))
			}
			assert.True(t, f.Booted(""))
			assert.False(t, f.Booted(NUMA))
		})
	}
}
