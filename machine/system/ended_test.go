package system_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// changed is a script that waits until the suite has a CPU offline.
const changed = `
while read online </sys/devices/system/cpu/online && [ "$online" = 0-3 ]; do
	pgrep -x hotplugtest.tes >/dev/null || { echo 'the run has ended'; exit 1; }
done`

// connectionCut is a client that dies, with a terminal and without.
func connectionCut(t *testing.T, g *guest) {
	before := g.look(t)
	for _, args := range [][]string{{"-T"}, {"-tt"}} {
		s := g.startApart(t, "qa", "sudo "+static(long), args...)
		s.await(t, middle)
		g.must(t, "root", changed)
		require.NoError(t, s.cmd.Process.Signal(unix.SIGKILL))
		<-s.done
		g.same(t, before, "")
	}
}

// testKilled is the end of the test process alone. Its supervisor restores the
// machine, and says so.
func testKilled(t *testing.T, g *guest) {
	s := g.start(t, "root", static(long))
	s.await(t, middle)
	g.must(t, "root", changed+"\npkill -KILL -x hotplugtest.tes")
	out, _ := s.wait(t)
	assert.Contains(t, out, "left the machine changed")
	assert.Contains(t, out, "hotplugtest: the machine is as it was")
}

// killBoth ends a run and its supervisor as people do, when a CPU is offline.
func killBoth(t *testing.T, g *guest) {
	t.Helper()
	before := g.look(t)
	s := g.start(t, "root", static(long))
	s.await(t, middle)
	// The brackets keep it from the shell that it is in.
	g.must(t, "root", changed+"\npkill -KILL -f '[h]otplugtest'")
	s.wait(t)
	require.NotEmpty(t, before.different(g.look(t), ""), "the machine is as it was, so this was no test")
}

// restored is what the one says that restores a machine after that.
const restored = `killed together with its supervisor, and left the machine changed`

func bothKilledThenRestore(t *testing.T, g *guest) {
	killBoth(t, g)
	out, code := g.run(t, "root", "./hotplugtest.test -restore")
	assert.Zero(t, code, out)
	assert.Contains(t, out, restored)
}

// bothKilledThenNextRun is for who does not know of -restore.
func bothKilledThenNextRun(t *testing.T, g *guest) {
	before := g.look(t)
	killBoth(t, g)
	out, code := g.run(t, "root", static(brief))
	passes(t, out, code)
	assert.Contains(t, out, restored)
	g.same(t, before, "")
	out, code = g.run(t, "root", "./hotplugtest.test -restore")
	assert.Zero(t, code, out)
	assert.NotContains(t, out, restored, "there is nothing left to restore")
}

// bothKilledThenReboot leaves what was known of a machine that is not that one
// any more: after a reboot somebody pins interrupts to other CPUs, and takes a
// CPU offline.
func bothKilledThenReboot(t *testing.T, g *guest) {
	killBoth(t, g)
	g.reboot(t)
	g.must(t, "root", `
systemctl stop irqbalance
for mask in /proc/irq/[0-9]*/smp_affinity_list; do echo 3 2>/dev/null >$mask; done
echo 0 >/sys/devices/system/cpu/cpu1/online`)
	before := g.look(t)
	out, code := g.run(t, "root", static(brief))
	passes(t, out, code)
	assert.NotContains(t, out, restored)
	// The snapshot is of another boot and goes. kcompactd_cpu_online() gives the
	// thread the CPUs of its node that are online, each time that one comes.
	g.same(t, before, `^left /var/lib/|^thread / "kcompactd`)
}
