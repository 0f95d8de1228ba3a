package suite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A test that a known defect alone makes fail is skipped, and is neither one
// that passes nor one that nobody ran.
func TestKnownDefects(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"known": [
		{"id": "empty-mask", "test": "TestKnownDefects/row", "kernels": [{"from": "2.6"}],
			"symptom": "^the mask is empty", "why": "it forgets masks", "review": "2999-01-01"},
		{"id": "mended", "test": "TestKnownDefects/passes", "kernels": [{"from": "2.6"}],
			"symptom": "^it hangs", "profiles": [], "why": "it hung", "review": "2999-01-01"},
		{"id": "old", "test": "TestKnownDefects/row", "kernels": [{"from": "2.6"}],
			"symptom": "^another reason", "why": "it was so", "review": "2020-01-01"}]}`), 0o644))
	k, err := loadKnown([]string{file})
	require.NoError(t, err)
	before := len(counted.since(0))
	assert.True(t, t.Run("row", func(t *testing.T) {
		counted.test(t)
		k.watch(t)
		k.skip(t)
		k.skip(t, "another reason")
		k.skip(t, "the mask is empty", "it is lost")
		var none *knownDefects
		none.watch(t)
		none.skip(t, "the mask is empty\n    promised: it is not\n    known: it forgets masks")
		k.skip(t, "the mask is empty\n    promised: it is not\n    known: it forgets masks", "the mask is empty on cpu3")
		t.Error("the test goes on")
	}))
	t.Run("passes", func(t *testing.T) { counted.test(t); k.watch(t) })
	got := counted.since(before)
	require.Len(t, got, 2)
	assert.Equal(t, ended{t.Name() + "/row", broken, "known: empty-mask"}, got[0])
	assert.Regexp(t, `^hotplugtest: Linux \S+: 1 passed, 0 skipped, 0 failed, 1 by known defects$`, got.summary(false))
	assert.Equal(t, []string{
		"note: " + file + ": old was to be reviewed by 2020-01-01: it is ignored",
		"note: no longer: mended",
	}, k.notes())

	_, err = loadKnown([]string{file, file + ".none"})
	assert.ErrorContains(t, err, "-known open "+file+".none: no such file")
	builtin, err := loadKnown([]string{"builtin"})
	require.NoError(t, err)
	assert.Empty(t, builtin.notes())
}

// The failure of an operation that was done for all promises, and a promise that
// a variant breaks, are known like those of one test.
func TestKnownTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"known": [
		{"id": "busy", "test": "TestOffline/at-uevent", "kernels": [{"from": "2.6"}],
			"symptom": "the operation failed: .*EIO", "why": "it is busy", "review": "2999-01-01"},
		{"id": "mask", "test": "TestRollback/one", "kernels": [{"from": "2.6"}],
			"symptom": "seen:     no CPU", "why": "it forgets", "review": "2999-01-01"}]}`), 0o644))
	tables := rows(with(offline, func(tr *Transition) { tr.Together = true }), Transition{
		Name: "Rollback", Source: "its document", Before: Online, After: Online, Err: unix.EAGAIN, RolledBack: true,
		Variants: func(*Machine) ([]string, error) { return []string{"one"}, nil },
		Op:       func(*Operation) error { return unix.EAGAIN },
	})
	tables.Invariants = append(tables.Invariants, Invariant{
		Name: "forgotten", Promise: "it is not", Source: "its document", Before: Online, After: Online,
		Arm: func(*Probe) (Check, error) { return func() error { return errors.New("no CPU") }, nil },
	})
	p := playRows(t, "cpus 0-3\noffline cpu3: EIO\noffline cpu3: right", tables, knows(t, file))
	assert.Equal(t, "known: busy", p.verdicts["Offline/at-uevent"], p.text)
	assert.Equal(t, "known: mask", p.verdicts["Rollback/one"], p.text)
}

// knows gives a runner a list of known defects.
func knows(t *testing.T, file string) func(*Runner) {
	known, err := loadKnown([]string{file})
	require.NoError(t, err)
	return func(r *Runner) { r.machine.known = known }
}

// What is broken is a reason to fail once for each kind.
func TestReasons(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	broken := func(cpu int, text string) Finding {
		return Finding{subject: subject{&mask, m.Root}, CPU: cpu, Outcome: &Outcome{Operation: Operation{m, &offline, cpu, ""}}, Err: errors.New(text)}
	}
	r := &result{broken: []Finding{broken(0, "cpu0 is late by 3 ms"), broken(3, "cpu3 is late by 12 ms")}}
	require.Len(t, r.reasons(m), 1)
	assert.Contains(t, r.reasons(m)[0], "cpu0 is late by 3 ms")
	r.broken = append(r.broken, broken(3, "cpu3 is lost"))
	assert.Len(t, r.reasons(m), 2)
}

// A complaint in the kernel's log is known if a known defect explains all that
// the test fails by. The test's verdict is known at its end only.
func TestKnownComplaint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"known": [
		{"id": "warns", "test": "Test(Offline/at-uevent/.*|Scenario/idle|Partition)", "kernels": [{"from": "2.6"}],
			"symptom": "WARNING: CPU: 1 PID: 7 at kernel/sched/none\\.c", "why": "it warns", "review": "2999-01-01"},
		{"id": "mask", "test": "TestOffline/at-(uevent|return)/mask", "kernels": [{"from": "2.6"}],
			"symptom": "seen:     the mask is 0-3", "why": "it forgets", "review": "2999-01-01"}]}`), 0o644))
	const warning = "log WARNING: CPU: 1 PID: 7 at kernel/sched/none.c"
	idle := Scenario{Name: "idle", Promise: "it goes on", Source: "a document", Cycle: (*Scene).OffAndOn}
	group := with(online, func(tr *Transition) {
		tr.Name = "Partition"
		tr.Setup = func(m *Machine) (Prepared, error) {
			return Prepared{Undo: func() error { return m.CPUs.SetOnline(3, true) }}, m.CPUs.SetOnline(3, false)
		}
	})
	const once = "\noffline cpu1: right"
	later := strings.Repeat("offline cpu1: right\n", 4)
	for _, tt := range []struct {
		name, script string
		want         map[string]string // of the tests that don't pass
	}{
		{"none", "", nil},
		{"a known one", "offline cpu1: " + warning + once, map[string]string{"Offline/at-uevent/mask": "known: warns"}},
		{"another one", "offline cpu1: log WARNING: CPU: 1 PID: 7 at kernel/rcu/none.c" + once, map[string]string{"Offline/at-uevent/mask": "fail"}},
		{"another one beside it", "offline cpu1: " + warning + "; log BUG: sleeping function" + once, map[string]string{"Offline/at-uevent/mask": "fail"}},
		{"a known broken promise beside it", "offline cpu1: nothing; " + warning + once, map[string]string{
			"Offline/at-uevent/mask": "fail", "Offline/at-return/mask": "known: mask",
		}},
		{"in another test", "offline cpu1: right\noffline cpu1: " + warning + once, map[string]string{"Offline/at-uevent/uevent": "known: warns"}},
		{"in a scenario", later + "offline cpu1: " + warning + once, map[string]string{"Scenario/idle": "known: warns"}},
		{"in the set-up of a group", strings.Repeat("offline cpu3: right\n", 2) + "offline cpu3: " + warning + "\noffline cpu3: right", map[string]string{"Partition": "known: warns"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tables := rows(offline, group)
			tables.Scenarios = []Scenario{idle}
			p := playRows(t, "cpus 0-3\n"+tt.script, tables, knows(t, file))
			for test, want := range tt.want {
				assert.Equal(t, want, p.verdicts[test], test)
				id, known := strings.CutPrefix(want, "known: ")
				if attrs := p.attributes(test); known {
					assert.Equal(t, id, attrs["known"])
					assert.Equal(t, "fail", attrs["original-result"])
				} else {
					assert.NotContains(t, attrs, "known", "it would hide the failure")
				}
			}
			for test, verdict := range p.verdicts {
				assert.True(t, verdict == "pass" || tt.want[test] != "", "%s: %s", test, verdict)
			}
			assert.Greater(t, len(p.verdicts), 8, "tests")
			if t.Failed() {
				t.Log(p.text)
			}
		})
	}
}
