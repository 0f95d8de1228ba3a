package system_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inTheMiddle starts a run, does something when it is in the middle, and
// returns what it said in the end. What is done must be over before the run is.
func inTheMiddle(t *testing.T, g *guest, run string, do func()) (out string, code int) {
	t.Helper()
	s := g.start(t, "root", run)
	s.await(t, middle)
	do()
	require.True(t, s.running(), "the run had ended before the change was made, so this was no test")
	return s.wait(t)
}

// firstUserOfCpusets is a system on which nobody uses cpusets, until somebody
// does in the middle of a run. The suite has switched the controller on, and
// must not switch it off then.
func firstUserOfCpusets(t *testing.T, g *guest) {
	g.must(t, "root", `
systemctl stop 'tenant-*' tenant.slice
cd /sys/fs/cgroup
for control in $(find . -mindepth 2 -name cgroup.subtree_control | sort -r) ./cgroup.subtree_control; do echo -cpuset >$control; done
! grep -w cpuset cgroup.subtree_control`)
	before := g.look(t)
	out, code := inTheMiddle(t, g, static(long), func() {
		g.must(t, "root", "systemctl set-property --runtime user.slice AllowedCPUs=0-1")
	})
	passes(t, out, code)
	after := g.look(t)
	assert.Equal(t, []string{"0-1"}, after["cgroup /user.slice/cpuset.cpus"])
	assert.Contains(t, strings.Fields(after.one(t, "cgroup /cgroup.subtree_control")), "cpuset")
	// With the controller, each cgroup has its files, and its effective CPUs.
	diffs := before.different(after, `/cpuset\.|^cgroup /cgroup.subtree_control$|^unit user.slice$`)
	assert.Empty(t, diffs)
}

// othersSettings are changes that are no business of the suite's.
func othersSettings(t *testing.T, g *guest) {
	const service = "cgroup /system.slice/tenant-allowed.service/cpuset.cpus"
	pinned := []string{"irq IO-APIC-8 rtc0", "irq 0000:00:02.0 enp0s2-rx-1"}
	atFirst := g.look(t)
	for _, irq := range pinned {
		g.must(t, "root", setMask(irq, "1"))
	}
	changes := []struct {
		fact   string // whose value is different then
		value  string
		script string // how it is changed
		undo   string
	}{
		{pinned[0], "0", setMask(pinned[0], "0"), setMask(pinned[0], atFirst.one(t, pinned[0]))},
		{pinned[1], "0", setMask(pinned[1], "0"), setMask(pinned[1], atFirst.one(t, pinned[1]))},
		{`thread /system.slice/tenant-taskset.service "sleep" "sleep infinity"`, "cpus 1-2, policy 0, nice 0",
			// Without CPU 0, which is never offline: with it, the kernel could
			// have made that mask of a task whose CPUs were offline.
			"taskset -pc 1-2 $(systemctl show -P MainPID tenant-taskset)", "taskset -pc 2 $(systemctl show -P MainPID tenant-taskset)"},
		{service, "0-1", "systemctl set-property --runtime tenant-allowed AllowedCPUs=0-1", "systemctl set-property --runtime tenant-allowed AllowedCPUs=2-3"},
		{"file /proc/irq/default_smp_affinity", "3", "echo 3 >/proc/irq/default_smp_affinity", "echo f >/proc/irq/default_smp_affinity"},
	}
	if *suite == "bookworm" {
		// Before v6.2, the kernel gives the tasks of a cpuset all of its CPUs at each
		// hotplug. Nobody can tell then what somebody made of an affinity.
		changes = slices.Delete(changes, 2, 3)
	}
	before := g.look(t)
	var do, undo []string
	want := make(state)
	for _, c := range changes {
		require.NotEqual(t, c.value, before.one(t, c.fact), "%s is that already", c.fact)
		want[c.fact] = []string{c.value}
		do, undo = append(do, c.script), append(undo, c.undo)
	}
	out, code := inTheMiddle(t, g, static(long), func() { g.must(t, "root", "set -e\n"+strings.Join(do, "\n")) })
	passes(t, out, code)
	after := g.look(t)
	for fact, value := range want {
		assert.Equal(t, value, after[fact], "%s is not what somebody has made it in the middle of the run", fact)
	}
	g.must(t, "root", strings.Join(undo, "\n"))
}

// setMask is a script that gives an interrupt a mask, by the action that its
// fact ends with.
func setMask(irq, mask string) string {
	action := irq[strings.LastIndexByte(irq, ' ')+1:]
	return fmt.Sprintf("echo %s >$(dirname /proc/irq/[0-9]*/%s)/smp_affinity_list", mask, action)
}

// othersOffline is a CPU that the suite does not use, and that an administrator
// takes offline meanwhile.
func othersOffline(t *testing.T, g *guest) {
	before := g.look(t)
	out, _ := inTheMiddle(t, g, static(long, "-cpus=2-3"), func() {
		g.must(t, "root", "echo 0 >/sys/devices/system/cpu/cpu1/online")
	})
	tallyOf(t, out) // a test of another's CPU may well fail
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the run said:\n%s", failures(out))
		}
	})
	after := g.look(t)
	assert.Equal(t, "0,2-3", after.one(t, "file /sys/devices/system/cpu/online"))
	for cpu, service := range map[string]string{"2": "tenant-taskset", "3": "tenant-affinity"} {
		fact := fmt.Sprintf(`thread /system.slice/%s.service "sleep" "sleep infinity"`, service)
		assert.Equal(t, before.one(t, fact), after.one(t, fact))
		// Before v6.2, the kernel gives the tasks of a cpuset all of its CPUs when it
		// gets or loses one.
		defer g.must(t, "root", fmt.Sprintf("taskset -pc %s $(systemctl show -P MainPID %s)", cpu, service))
	}
	g.must(t, "root", "echo 1 >/sys/devices/system/cpu/cpu1/online")
}
