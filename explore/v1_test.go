package explore

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// v1Tree is a machine with cpusets of cgroup v1.
func v1Tree(t *testing.T) string {
	root := machineTree(t)
	for path, text := range map[string]string{
		"proc/mounts": "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup " + root + "/sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n" +
			"cgroup " + root + "/sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n",
		cpuDir + "present": "0-3\n", string(onlineKey): "0-3\n",
		"sys/fs/cgroup/cpuset/cpuset.sched_load_balance": "1\n", "sys/fs/cgroup/cpuset/cpuset.effective_cpus": "0-3\n",
		"sys/fs/cgroup/cpuset/cpuset.cpus": "0-3\n",
	} {
		write(t, root, path, text)
	}
	return root
}

// The cpusets of cgroup v1 have files of other names, and all have them.
func TestLookV1(t *testing.T) {
	root := v1Tree(t)
	target := NewTarget(root, "/sys/fs/cgroup/cpuset", "")
	o, err := NewObserver(target, nil)
	require.NoError(t, err)
	defer o.Close()
	require.False(t, target.Do(lines(t, "mkdir $A")[0]).Failed())
	write(t, root, "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus", "1-2\n")
	write(t, root, "sys/fs/cgroup/cpuset/a/cgroup.clone_children", "1\n")
	s, err := o.Look()
	require.NoError(t, err)
	assert.Equal(t, 1, s.Cgroup())
	assert.Equal(t, "1-2", s.Group("$A").Effective().String())
	assert.Equal(t, "0-3", s.Group(rootGroup).Effective().String())
	assert.Equal(t, "cpuset", s.Group("$A").Kind())
	assert.True(t, s.Group("$A").flag("cgroup.clone_children"))
	require.Len(t, s.All(), 2)

	target.Vars["A"] = "/sys/fs/cgroup/cpuset/a"
	assert.Equal(t, "$A/x", o.group("12:pids:/b\n3:cpuset:/a/x\n1:name=systemd:/c\n0::/c\n"))
	assert.Equal(t, "$R", o.group("3:cpu,cpuset:/\n0::/a\n"))
	assert.Equal(t, "$A", o.group("1:name=systemd:/c\n0::/a (deleted)\n"))

	f, err := FindFacts(target, s.Online())
	require.NoError(t, err)
	assert.Equal(t, 1, f.Cgroup)
}

// What is drawn for a machine is about the cgroups that it has. A cpuset of v1
// is mostly made with CPUs and a memory node: without those it takes no task.
func TestActionsV1(t *testing.T) {
	for cgroup, others := range map[int][]string{
		1: {"cpuset.cpus.partition", "cpuset.cpus.exclusive", "subtree_control", "cgroup.threads", "cgroup.type", "cpu.max"},
		2: {"sched_load_balance", "cpuset.cpu_exclusive", "clone_children", "memory_migrate", "/tasks", "; echo 0 > $A/cpuset.mems"},
	} {
		f := someFacts()
		f.Cgroup = cgroup
		var all []string
		for n := range uint64(60) {
			drawn, err := Sequence(1, n, 40, f, Default().Actions)
			require.NoError(t, err)
			all = append(all, FormatSequences(drawn))
		}
		text := strings.Join(all, "\n")
		for _, other := range others {
			assert.NotContains(t, text, other, "cgroup v%d", cgroup)
		}
		assert.Equal(t, cgroup == 1, strings.Contains(text, "> $R/cpuset.sched_load_balance"))
		assert.Equal(t, cgroup == 1, strings.Contains(text, "mkdir $A/x; echo "))
	}
}

// The root's flag is put back when the cpusets are gone. Until then the state
// is no other than the sequence asked for.
func TestUndoV1(t *testing.T) {
	target := NewTarget(v1Tree(t), "/sys/fs/cgroup/cpuset", "")
	o, err := NewObserver(target, nil)
	require.NoError(t, err)
	defer o.Close()
	base, err := o.Look()
	require.NoError(t, err)
	for _, l := range lines(t, "mkdir $A", "echo 0 > $R/cpuset.sched_load_balance") {
		require.False(t, target.Do(l).Failed())
	}
	undo := target.Undo(base)
	assert.Equal(t, []string{"rmdir $A", "echo 1 > $R/cpuset.sched_load_balance"}, texts(undo))
	require.False(t, target.Do(undo[0]).Failed())
	now, err := o.Look()
	require.NoError(t, err)
	now.Readings["/proc/schedstat#cpu0"] = ""
	c := &Case{Base: base, Before: base, After: now}
	assert.Empty(t, checkUndone(c))
	now.Readings[balanceKey] = "1"
	assert.Len(t, checkUndone(c), 1)
}

// A script for cgroup v1 looks for where it is mounted, and cannot tell if it
// is not.
func TestScriptV1(t *testing.T) {
	f := someFinding()
	f.Violation.Law, f.Cgroup = "root-cpus", 1
	f.Steps = []string{"mkdir $A", "echo 1-2 > $A/cpuset.cpus", "echo 0 > $R/cpuset.sched_load_balance"}
	f.Violation.Facts = []Fact{{"$R/cpuset.effective_cpus", "0-3"}, {"$A/cpuset.cpus", "1-2"}}
	root := v1Tree(t)
	out, status := runScript(t, f, root)
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "cpuset/cpuset.effective_cpus is '0-3'")
	s, err := NewObserver(NewTarget(root, "/sys/fs/cgroup/cpuset", ""), nil)
	require.NoError(t, err)
	defer s.Close()
	now, err := s.Look()
	require.NoError(t, err)
	assert.Equal(t, "1", now.Readings[balanceKey])

	write(t, root, "proc/mounts", "cgroup "+root+"/sys/fs/cgroup/cpuset cgroup rw,cpuset,cpuset_v2_mode 0 0\n")
	out, status = runScript(t, f, root)
	assert.Equal(t, 125, status, out)
	assert.Contains(t, out, "cannot tell: there are no cpusets of cgroup v1")

	assert.Contains(t, Fact{"$T1#cgroup", "$A"}.shell(1), "cpuset")
	assert.NotContains(t, Fact{"$T1#cgroup", "$A"}.shell(2), "cpuset")
}

// The law that a task leaves a cpuset without CPUs may be late, and the state
// after that is what the next step is compared with.
func TestSettledIsBefore(t *testing.T) {
	e, told := explorerOf(t, isolatedKey, "echo 5 > "+string(isolatedKey), "taskset -p 1 $T1", "echo > "+string(isolatedKey))
	e.Runner.Laws = []Law{
		{Name: "late", Text: "nothing is 5", Source: "this test", Lags: true, Check: func(c *Case) []Violation {
			if c.After.Readings[isolatedKey] != "5" {
				return nil
			}
			require.NoError(t, e.Runner.Target.perform(lines(t, "echo 6 > "+string(isolatedKey))[0].Commands[0]))
			return []Violation{{Touches: "it", Seen: "it is 5", Facts: c.After.facts(isolatedKey)}}
		}},
		{Name: "stays", Text: "what is not written stays", Source: "this test", Check: func(c *Case) []Violation {
			if c.Step.Commands[0].Op != Taskset || c.Before.Readings[isolatedKey] == c.After.Readings[isolatedKey] {
				return nil
			}
			return []Violation{{Touches: "it", Seen: "it changed", Facts: c.After.facts(isolatedKey)}}
		}},
	}
	sequence, err := ReadSequences("echo 5 > " + string(isolatedKey) + "\ntaskset -p 1 $T1\necho > " + string(isolatedKey) + "\n")
	require.NoError(t, err)
	require.NoError(t, e.Replay(sequence, ""))
	last := (*told)[len(*told)-1]
	require.NotNil(t, last.Tried)
	assert.Empty(t, last.Tried.Broken)
}

// Of the laws that an operation breaks for a moment, that one is told whose
// facts a shell reads without a command.
func TestMoment(t *testing.T) {
	const online = Key(cpuDir + "cpu1/online")
	e, _ := explorerOf(t, isolatedKey)
	breaks := func(name string, facts ...Fact) Law {
		return Law{Name: name, Check: func(c *Case) []Violation {
			if _, ok := plugged(c.Step); !ok {
				return nil
			}
			return []Violation{{Touches: "it", Seen: name, Facts: facts}}
		}}
	}
	e.Runner.Laws = []Law{breaks("slow", Fact{"/proc/stat#cpus", "0"}), breaks("quick", Fact{online, "0"}), breaks("slower", Fact{"/proc/stat#cpus", "0"})}
	f := &Finding{Violation: Violation{Law: "slow", Touches: "it"}}
	steps := e.moment(t.Context(), lines(t, "mkdir $A", "echo 0 > "+string(online)), f)
	assert.Equal(t, []string{"echo 0 > " + string(online)}, texts(steps))
	assert.Equal(t, "quick: it", f.Violation.Key())
	assert.Equal(t, []string{"slow: it"}, f.Also)
	assert.Equal(t, healed, f.Violation.Lasted)
}
