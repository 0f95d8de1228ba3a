package suite

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// To bring a CPU online it is taken offline before. That is an operation of the
// other test, with all that this looks at, and what goes wrong with it is that
// test's.
func TestWayThere(t *testing.T) {
	ops := 0
	taken := with(offline, func(tr *Transition) {
		tr.Op = func(o *Operation) error { ops++; return setOffline(o) }
	})
	later := mask
	later.Name, later.Before = "later", Online
	tables := rows(online, taken)
	tables.Invariants = append(tables.Invariants, later)
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, 6, ops, "two CPUs, three promises of which one is about going offline alone")
	for _, name := range []string{"mask", "uevent", "later"} {
		for _, moment := range []string{"at-uevent", "at-return"} {
			test := "Offline/" + moment + "/" + name
			assert.Equal(t, "pass", p.verdicts[test], p.text)
			assert.Equal(t, "1,3", p.attributes(test)["cpus"])
			assert.Equal(t, "2", p.attributes(test)["probes"])
		}
	}
	// The other test may be left out: an operation that fails is for both.
	for _, tt := range []struct{ rule, online, says string }{
		{"EIO", "fail", "Offline of cpu1: the operation failed: cpuhp: write \"0\" to /sys/devices/system/cpu/cpu1/online: EIO (input/output error)"},
		{"silent", "pass", "Offline of cpu1: no offline uevent was sent by the time the operation had returned"},
	} {
		p := playRows(t, "cpus 0-3\noffline cpu1: "+tt.rule+"\noffline cpu1: right", tables, nil)
		assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], "%s: %s", tt.rule, p.text)
		assert.Equal(t, "pass", p.verdicts["Offline/at-uevent/uevent"], "%s: %s", tt.rule, p.text)
		assert.Equal(t, tt.online, p.verdicts["Online/at-uevent/mask"], "%s: %s", tt.rule, p.text)
		assert.Contains(t, p.text, tt.says)
	}

	// A complaint is for the one that runs.
	p = playRows(t, "cpus 0-3\noffline cpu1: log WARNING: CPU: 1 PID: 7\noffline cpu1: right", tables, nil)
	assert.Equal(t, "fail", p.verdicts["Online/at-uevent/mask"], p.text)
	assert.Equal(t, "pass", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Contains(t, p.text, "the kernel's log has a complaint (warning):\n[    1.000000] WARNING: CPU: 1 PID: 7")

	p = playRows(t, "cpus 0-3\noffline cpu1: hang", tables, func(r *Runner) { r.machine.limits.whole = 4 * time.Second })
	assert.Contains(t, p.text, "Online: cpu1: Offline of cpu1 has not finished within 4s\ncpu0 hotplug state 236, target 236\n")
	assert.Contains(t, p.text, "cannot run: Offline of cpu1 has not finished, and may hold the kernel's locks")

	// A check of it that cannot be armed is that test's affair, too, even if it
	// could be at the next try.
	failed := false
	tables.Invariants[0].Arm = func(p *Probe) (Check, error) {
		if p.Transition.Name == "Offline" && !failed {
			failed = true
			return nil, errors.New("it cannot be armed")
		}
		return mask.Arm(p)
	}
	p = playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, "pass", p.verdicts["Online/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Contains(t, p.text, "Offline: cpu1: it cannot be armed")
}
