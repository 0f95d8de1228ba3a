package suite

import (
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// What cannot be done here is a skip, unless it is required.
func TestSkips(t *testing.T) {
	tables := rows(
		offline,
		with(online, func(tr *Transition) { tr.Since = Version{7, 0} }),
		with(online, func(tr *Transition) { tr.Name, tr.Until = "Until", Version{6, 12} }),
		with(online, func(tr *Transition) {
			tr.Name, tr.Except = "Except", []Span{{From: Version{6, 12}, Until: Version{6, 13}, Why: "it is broken there"}}
		}),
		with(online, func(tr *Transition) {
			tr.Name, tr.Setup = "Setup", func(*Machine) (Prepared, error) {
				return Prepared{}, fmt.Errorf("not here: %w", Unsupportedf("it has no such thing"))
			}
		}),
		with(online, func(tr *Transition) { tr.Name, tr.Partition = "Partition", &Partition{Kind: "root"} }),
		with(online, func(tr *Transition) { tr.Name, tr.Boot = "Booted", NUMA }),
		with(online, func(tr *Transition) { tr.Name, tr.Destructive = "Destructive", true }),
	)
	tables.Invariants[1].Needs = func(v View) error {
		if v.CPU == 1 {
			return nil
		}
		return Unsupportedf("cpu%d tells nothing", v.CPU)
	}
	tables.Scenarios = []Scenario{
		{Name: "later", Promise: "it holds", Source: "a document", Since: Version{6, 13}, Cycle: (*Scene).OffAndOn},
		{Name: "needy", Promise: "it holds", Source: "a document", Cycle: (*Scene).OffAndOn,
			Needs: func(*Machine) error { return Unsupportedf("there is no such thing") }},
		{Name: "unfit", Promise: "it holds", Source: "a document", Cycle: func(*Scene, int) error { return Unsupportedf("not this CPU") }},
	}
	p := playRows(t, "cpus 0-3", tables, nil)
	for test, why := range map[string]string{
		"Online":         "this is promised since v7.0, and the kernel is 6.12",
		"Until":          "this was promised until v6.12, and the kernel is 6.12",
		"Except":         "it is broken there",
		"Setup":          "not here: it has no such thing",
		"Partition":      "this machine has no cpusets",
		"Destructive":    "it may crash a broken kernel: it runs with -destructive",
		"Scenario/later": "this is promised since v6.13, and the kernel is 6.12",
		"Scenario/needy": "there is no such thing",
		"Scenario/unfit": "cycle 1: not this CPU",
	} {
		assert.Equal(t, "skip: "+why, p.verdicts[test], test)
	}
	assert.NotContains(t, p.verdicts, "Booted", "a row of another boot is not there")
	assert.Equal(t, "1", p.attributes("Offline/at-uevent/uevent")["cpus"], "it is looked at where it can be")

	tables.Invariants[1].Needs = func(View) error { return Unsupportedf("nothing is told") }
	p = playRows(t, "cpus 0-3", tables, func(r *Runner) { r.require = regexp.MustCompile("uevent$") })
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/uevent"])
	assert.Contains(t, p.text, "cannot run, but is required: nothing is told")

	tables.Invariants[1].Needs = func(View) error { return errors.Join(Unsupportedf("nothing is told"), unix.EIO) }
	p = playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/uevent"], "a skip hides no other error")
}

// What was set up is undone, and CPUs are as they were, whatever goes wrong.
func TestRestore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		setup   error
		undo    error
		verdict string
		says    string
	}{
		{name: "good", verdict: ""},
		{name: "unable", setup: Unsupportedf("not today"), verdict: "skip: not today"},
		{name: "broken", setup: unix.EIO, verdict: "fail", says: "setting up Online: input/output error"},
		{name: "not undone", undo: unix.EIO, verdict: "fail", says: "undoing the set-up of Online: input/output error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			undone := 0
			tables := rows(with(online, func(tr *Transition) {
				tr.Setup = func(m *Machine) (Prepared, error) {
					// It leaves this to the restoration.
					return Prepared{CPUs: []int{3}, Undo: func() error { undone++; return tt.undo }},
						errors.Join(tt.setup, m.SetAll(affinity.Of(0, 1), Offline))
				}
			}))
			p := playRows(t, "cpus 0-3", tables, nil)
			assert.Equal(t, 1, undone)
			assert.Equal(t, tt.verdict, p.verdicts["Online"], p.text)
			assert.Contains(t, p.text, tt.says)
			if tt.setup == nil {
				assert.Equal(t, "3", p.attributes("Online/at-uevent/mask")["cpus"])
			}
		})
	}

	// The CPU does not come back after the last test.
	p := playRows(t, "cpus 0-3\nonline cpu3: right\nonline cpu3: EIO\nonline cpu3: right", rows(offline), func(r *Runner) {
		r.tables.Invariants = r.tables.Invariants[:1]
		r.machine.Targets = []int{3}
		r.machine.Options.Cycles = 2
		t.Cleanup(func() { assert.NoError(t, r.machine.Ensure(3, Online)) })
		r.machine.Online = r.machine.Online.Without(3)
	})
	assert.Contains(t, p.text, `after Offline: cpuhp: write "1" to /sys/devices/system/cpu/cpu3/online: EIO (input/output error)`)
}
