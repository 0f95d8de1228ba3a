package explore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// The other road to a state makes its settings in order.
func TestRoad(t *testing.T) {
	base := snapshot(t)
	s := snapshot(t, []string{
		"$B/x/cpuset.cpus: 3", "$B/x/cpuset.cpus.effective: 3", "$B/x/cpuset.cpus.exclusive: 3", "/sys/devices/system/cpu/online: 0-1,3",
	})
	assert.Equal(t, []string{
		"mkdir $A", "mkdir $B", "echo +cpuset > $B/cgroup.subtree_control", "mkdir $B/x",
		"echo 1-2 > $A/cpuset.cpus", "echo 3 > $B/cpuset.cpus", "echo 3 > $B/x/cpuset.cpus", "echo 3 > $B/x/cpuset.cpus.exclusive",
		"echo isolated > $B/cpuset.cpus.partition", "echo $T1 > $A/cgroup.procs", "echo 0 > /sys/devices/system/cpu/cpu2/online",
	}, texts(road(base, s)))

	assert.Nil(t, road(base, snapshot(t, []string{"$A/cpuset.cpus.partition: root invalid (why)"})))
	assert.Nil(t, road(base, snapshot(t, []string{"$B/cpuset.cpus.partition: member"})), "there is no partition")
	assert.True(t, roadAllowed(lines(t, "mkdir $A", "echo 1 > $A/cpuset.cpus")))
	assert.False(t, roadAllowed(lines(t, "mkdir $A", "echo threaded > $A/cgroup.type")))
}

// The same settings must have the same effect. A road that leads to an invalid
// partition is another one.
func TestCheckRoad(t *testing.T) {
	c := &Case{After: snapshot(t), Road: snapshot(t)}
	assert.Empty(t, checkRoad(c))
	c.After = snapshot(t, []string{"$R/cpuset.cpus.effective: 0-1"})
	broken := checkRoad(c)
	require.Len(t, broken, 1)
	assert.Equal(t, "cpuset.cpus.effective", broken[0].Touches)
	assert.Equal(t, []Fact{{"$R/cpuset.cpus.effective", "0-1"}}, broken[0].Facts)
	c.Road = snapshot(t, []string{"$B/cpuset.cpus.partition: isolated invalid (why)"})
	assert.Empty(t, checkRoad(c))
}

// At the end of a sequence the settings are made again, and the machine is
// taken back.
func TestByOtherRoad(t *testing.T) {
	e, _ := explorerOf(t, "none")
	e.Runner.Laws = []Law{roadLaw}
	e.Runner.Facts.Version = Version{6, 1}
	base, err := e.Runner.Observer.Look()
	require.NoError(t, err)
	s := snapshot(t, []string{"/sys/devices/system/cpu/online: 0-1", "$R/cpuset.cpus.isolated: 3"})
	w := &walk{runner: e.Runner, base: base, outcome: &Outcome{Steps: lines(t, "mkdir $A", "mkdir $B"), Results: make([]Result, 2)}}
	// No file of the tree's cpusets can be written to: the road is closed.
	require.NoError(t, w.byOtherRoad(s, 1))
	assert.Nil(t, w.outcome.Broken)
	assert.Empty(t, e.Runner.Target.Groups())

	// What was done there has a part in what is logged then.
	e.Runner.Laws = append(e.Runner.Laws, logLaw)
	w.log = []kmsg.Record{{Text: "WARNING: CPU: 1 PID: 9 at kernel/f.c:12 f+0x1/0x2"}}
	require.NoError(t, w.late())
	require.Len(t, w.outcome.Broken, 1)
	assert.Equal(t, []string{"mkdir $A", "mkdir $B", "mkdir $A", "mkdir $B"}, texts(w.outcome.Steps)[:4])
	assert.Len(t, w.outcome.Results, len(w.outcome.Steps))
	w.outcome = &Outcome{Steps: lines(t, "mkdir $A", "mkdir $B"), Results: make([]Result, 2)}

	s.Groups, s.Tasks = nil, nil
	require.NoError(t, w.byOtherRoad(s, 1))
	require.Len(t, w.outcome.Broken, 1)
	assert.Equal(t, roadLaw.Name, w.outcome.Broken[0].Law)
	assert.Len(t, w.outcome.Steps, 1)
}
