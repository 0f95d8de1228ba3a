package suite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSoak(t *testing.T) {
	tables := rows(online, offline)
	tables.Workloads = []Workload{{Name: "idle"}, {Name: "busy", Actors: []Actor{
		{Name: "actor", Begin: func(*Act) (func() error, error) { return func() error { return nil }, nil }},
	}}}
	soak := func(script string, goOn bool) played {
		return playRows(t, script, tables, func(r *Runner) {
			r.machine.Options.Soak, r.machine.Options.SoakContinue = 300*time.Millisecond, goOn
		})
	}
	p := soak("cpus 0-3", false)
	assert.Equal(t, "pass", p.verdicts["Soak/idle"], p.text)
	assert.Regexp(t, `(?m)^soak: \d+s of 300ms, \d+ cycles, [0-9.]+ cycles/s, workload idle, 0 failures, worst window none$`, p.text)
	_, err := ParseSamples(p.attributes("Soak/idle")["time-to-return-ns"])
	assert.NoError(t, err)

	tables.Invariants[0] = brokenOnce(3)
	p = soak("cpus 0-3", false)
	assert.Equal(t, "fail", p.verdicts["Soak/idle"], p.text)
	assert.Contains(t, p.text, "promised: the mask has the CPU")
	assert.NotEmpty(t, p.attributes("Soak/idle")["window-ns"])
	tables.Invariants[0] = mask

	for rule, says := range map[string]string{
		"EIO":              "Offline of cpu3: the operation failed",
		"silent":           "no offline uevent was sent by the time the operation had returned",
		"log WARNING: bad": "during Offline of cpu3: the kernel's log has a complaint (warning)",
	} {
		p = soak("cpus 0-3\noffline cpu3: right\noffline cpu3: right\noffline cpu3: right\noffline cpu3: right\noffline cpu3: "+rule, true)
		assert.Contains(t, p.text, says)
		if rule == "silent" {
			assert.Regexp(t, `and \d+ failures more`, p.text)
		}
	}
	tables.Workloads = nil
	assert.Contains(t, soak("cpus 0-3", false).text, "the tables have no workload")
}
