package suite

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSoak(t *testing.T) {
	tables := rows(online, offline)
	tables.Workloads = []Workload{{Name: "idle"}, {Name: "busy", Actors: []Actor{
		{Name: "actor", Begin: func(*Act) (func() error, error) { return func() error { return nil }, nil }},
	}}}
	soakFor := func(d time.Duration, script string, goOn bool) played {
		return playRows(t, script, tables, func(r *Runner) {
			r.machine.Options.Soak, r.machine.Options.SoakContinue = d, goOn
		})
	}
	soak := func(script string) played { return soakFor(300*time.Millisecond, script, false) }
	// A busy machine makes few cycles in that time.
	soakOn := func(script string, until string) (p played) {
		for d := 300 * time.Millisecond; d < time.Minute; d *= 2 {
			if p = soakFor(d, script, true); regexp.MustCompile(until).MatchString(p.text) {
				break
			}
		}
		return p
	}
	p := soak("cpus 0-3")
	assert.Equal(t, "pass", p.verdicts["Soak/idle"], p.text)
	assert.Regexp(t, `(?m)^soak: \d+s of 300ms, \d+ cycles, [0-9.]+ cycles/s, workload idle, 0 failures, worst window none$`, p.text)
	_, err := ParseSamples(p.attributes("Soak/idle")["time-to-return-ns"])
	assert.NoError(t, err)

	tables.Invariants[0] = brokenOnce(3)
	p = soak("cpus 0-3")
	assert.Equal(t, "fail", p.verdicts["Soak/idle"], p.text)
	assert.Contains(t, p.text, "promised: the mask has the CPU")
	assert.NotEmpty(t, p.attributes("Soak/idle")["window-ns"])
	tables.Invariants[0] = mask

	for rule, says := range map[string]string{
		"EIO":              "Offline of cpu3: the operation failed",
		"silent":           `no offline uevent was sent by the time the operation had returned(?s).*and \d+ failures more`,
		"log WARNING: bad": `during Offline of cpu3: the kernel's log has a complaint \(warning\)`,
	} {
		script := "cpus 0-3\n" + strings.Repeat("offline cpu3: right\n", 4) + "offline cpu3: " + rule
		assert.Regexp(t, says, soakOn(script, says).text)
	}
	tables.Workloads = nil
	assert.Contains(t, soak("cpus 0-3").text, "the tables have no workload")
}

// A known defect does not end a soak, and does not hide another one.
func TestSoakKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"known": [
		{"id": "one", "test": "TestSoak/idle", "most": 1, "kernels": [{"from": "2.6"}], "symptom": "WARNING: one", "why": "it warns", "review": "2999-01-01"},
		{"id": "two", "test": "TestSoak/idle", "kernels": [{"from": "2.6"}], "symptom": "WARNING: two", "why": "it warns", "review": "2999-01-01"}]}`), 0o644))
	tables := rows(online, offline)
	tables.Workloads = []Workload{{Name: "idle"}}
	const before = "cpus 0-3\noffline cpu3: right\noffline cpu3: right\noffline cpu3: right\noffline cpu3: right"
	const one, two, three = "\noffline cpu3: log WARNING: one", "\noffline cpu3: log WARNING: two", "\noffline cpu3: log WARNING: three"
	for _, tt := range []struct{ name, script, verdict, says string }{
		{"one", one + one, "known: one", "workload idle, 0 failures"},
		{"two", one + two, "known: two", "known: one: it warns"},
		{"two, of which one in two ways", one + one + " again" + two, "known: two", "WARNING: one again"},
		{"another", one + three, "fail", "WARNING: three"},
		{"another beside it", one + three, "fail", "known: one: it warns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := playRows(t, before+tt.script, tables, func(r *Runner) {
				knows(t, file)(r)
				r.machine.Options.Soak = time.Second
			})
			assert.Equal(t, tt.verdict, p.verdicts["Soak/idle"], p.text)
			assert.Contains(t, p.text, tt.says)
		})
	}
}
