package suite

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// played is what a test said, and what became of it and its subtests.
type played struct {
	text     string            // as go test -v shows it, without indentation
	verdicts map[string]string // of its subtests: "pass", "fail", or "skip: REASON"
}

var attribute = regexp.MustCompile(`(?m)^=== ATTR +(\S+) (\S+) (.*)$`)

// attributes returns those of a subtest.
func (p played) attributes(test string) map[string]string {
	attrs := make(map[string]string)
	for _, m := range attribute.FindAllStringSubmatch(p.text, -1) {
		if m[1] == "T/"+test {
			attrs[m[2]] = m[3]
		}
	}
	return attrs
}

// play runs f as a test T that may fail without failing t.
func play(t *testing.T, f func(t *testing.T)) played {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdout")
	out, err := os.Create(path)
	require.NoError(t, err)
	defer out.Close()
	verbose := flag.Lookup("test.v").Value
	was, stdout, before := verbose.String(), os.Stdout, len(counted.since(0))
	if was != "true" {
		require.NoError(t, verbose.Set("true"))
		defer func() { require.NoError(t, verbose.Set(was)) }()
	}
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	skip := flag.Lookup("test.skip").Value.String()
	testing.RunTests(func(pattern, _ string) (bool, error) { return pattern != skip, nil }, []testing.InternalTest{{Name: "T", F: f}})
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	p := played{regexp.MustCompile(`(?m)^ +`).ReplaceAllString(string(text), ""), make(map[string]string)}
	for _, e := range counted.since(before) {
		verdict := map[verdict]string{passed: "pass", failed: "fail", skipped: "skip: " + e.reason}[e.verdict]
		p.verdicts[strings.TrimPrefix(e.test, "T/")] = verdict
	}
	return p
}

func setOnline(o *Operation) error  { return o.Machine.CPUs.SetOnline(o.CPU, true) }
func setOffline(o *Operation) error { return o.Machine.CPUs.SetOnline(o.CPU, false) }

// mask is a promise that a scripted kernel can break.
var mask = Invariant{
	Name: "mask", Promise: "the mask has the CPU", Source: "a document", Soak: true,
	Arm: func(p *Probe) (Check, error) {
		return func() error {
			cpus, err := p.Machine.CPUs.Online()
			if err != nil {
				return err
			}
			return p.Listed(cpus.Has(p.CPU), "the mask is %v", cpus)
		}, nil
	},
}

// events is the promise that the right uevents come.
var uevents = Invariant{
	Name: "uevent", Promise: "one uevent comes", Source: "a document",
	Arm: func(p *Probe) (Check, error) {
		return func() error { return p.Machine.Events.Check(p.CPU, p.Transition.Uevent) }, nil
	},
}

var (
	online  = Transition{Name: "Online", Source: "its document", Before: Offline, After: Online, Uevent: "online", Op: setOnline, Soak: true}
	offline = Transition{Name: "Offline", Source: "its document", Before: Online, After: Offline, Uevent: "offline", Op: setOffline, Soak: true}
)

// rows are tables of these rows.
func rows(tr ...Transition) Tables {
	return Tables{Transitions: tr, Invariants: []Invariant{mask, uevents}}
}

func with(tr Transition, change func(tr *Transition)) Transition {
	change(&tr)
	return tr
}

// playRows plays all of the tables on a scripted machine, and checks that its
// CPUs are online after that.
func playRows(t *testing.T, script string, tables Tables, change func(r *Runner)) played {
	t.Helper()
	r, k := scriptedRunner(t, script, tables)
	if change != nil {
		change(r)
	}
	p := play(t, r.all)
	if !r.machine.hang.any() {
		cpus, err := k.Online()
		require.NoError(t, err)
		assert.Equal(t, r.machine.Online.String(), cpus.String(), "the CPUs are not as they were")
	}
	return p
}

// Each transition, moment and invariant is a test, and has its measurements.
func TestAllIsRight(t *testing.T) {
	p := playRows(t, "cpus 0-3", rows(online, offline), func(r *Runner) {
		r.machine.attributes = [][2]string{{"kernel", "scripted"}}
		r.machine.Options.Cycles = 2
	})
	want := make(map[string]string)
	for _, tr := range []string{"Online", "Offline"} {
		for _, moment := range []Moment{AtUevent, AtReturn} {
			for _, inv := range []string{"mask", "uevent"} {
				want[fmt.Sprintf("%s/%s/%s", tr, moment, inv)] = "pass"
			}
		}
	}
	assert.Equal(t, want, p.verdicts, p.text)
	for test, names := range map[string]string{
		"Online/at-uevent/mask": "kernel cpus probes broken time-to-uevent time-to-uevent-ns time-to-return time-to-return-ns",
		"Online/at-return/mask": "kernel cpus probes broken time-to-return time-to-return-ns",
	} {
		attrs := p.attributes(test)
		assert.Len(t, attrs, len(strings.Fields(names)), "%s: %v", test, attrs)
		for _, name := range strings.Fields(names) {
			assert.Contains(t, attrs, name, test)
		}
		assert.Equal(t, "1,3", attrs["cpus"])
		assert.Equal(t, "4", attrs["probes"])
		samples, err := ParseSamples(attrs["time-to-return-ns"])
		assert.NoError(t, err)
		assert.Len(t, samples, 4)
	}
}

// What a kernel developer sees of a promise that is broken for a while.
func TestWindow(t *testing.T) {
	p := playRows(t, "cpus 0-3\nonline cpu3: late 20ms; returns 5ms\nonline cpu3: right", rows(online, offline), nil)
	assert.Equal(t, "fail", p.verdicts["Online/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Online/at-return/mask"], "the same operation has returned before it was kept")
	assert.Equal(t, "pass", p.verdicts["Online/at-uevent/uevent"])
	for moment, words := range map[Moment]string{AtUevent: "at the uevent", AtReturn: "at the return of the write"} {
		test := "Online/" + string(moment) + "/mask"
		assert.Regexp(t, "cpu3, "+words+` of Online: mask
promised: the mask has the CPU
seen:     the mask is 0-2, but cpu3 is online
lasted:   [0-9.]+ ms \(kept at try \d+\)
source:   a document\n`, p.text)
		attrs := p.attributes(test)
		assert.Equal(t, "1", attrs["broken"])
		samples, err := ParseSamples(attrs["window-ns"])
		require.NoError(t, err)
		assert.Len(t, samples, 1)
		assert.Less(t, samples[0].Value, PollTimeout)
		if moment == AtUevent {
			assert.GreaterOrEqual(t, samples[0].Value, 15*time.Millisecond)
		}
	}
	assert.Contains(t, p.text, "broken in 1 of 2 probes; until it was kept: ")
	assert.Contains(t, p.text, "the machine after that:\nonline                           0-3\ncpu3 hotplug state, target       236, 236")
}

// A promise may be late by design.
func TestLag(t *testing.T) {
	lagging := mask
	lagging.Lag = PollTimeout
	tables := rows(online)
	tables.Invariants[0] = lagging
	p := playRows(t, "cpus 0-3\nonline cpu3: late 20ms\nonline cpu3: right", tables, nil)
	assert.Equal(t, "pass", p.verdicts["Online/at-uevent/mask"], p.text)
}

func TestNeverKept(t *testing.T) {
	p := playRows(t, "cpus 0-3\noffline cpu1: nothing\noffline cpu1: right", rows(offline), nil)
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Contains(t, p.text, "lasted:   longer than 1s, when it was last looked at")
}

func TestOperationFails(t *testing.T) {
	p := playRows(t, "cpus 0-3\noffline cpu1: EIO\noffline cpu1: right", rows(offline, online), nil)
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Offline/at-return/mask"])
	assert.Equal(t, "pass", p.verdicts["Offline/at-uevent/uevent"])
	assert.Contains(t, p.text, "Offline of cpu1: the operation failed: cpuhp: offline cpu1: input/output error\nsource:   its document")
	assert.Contains(t, p.text, "Offline of cpu1: no offline uevent was sent by the time the operation had returned")
}

func TestUevents(t *testing.T) {
	for rule, says := range map[string]string{
		"silent":        "cpu1 sent no uevent, want one offline",
		"uevent change": "cpu1 sent change (SEQNUM ",
	} {
		p := playRows(t, "cpus 0-3\noffline cpu1: "+rule, rows(offline), nil)
		assert.Equal(t, "fail", p.verdicts["Offline/at-return/uevent"], p.text)
		assert.Equal(t, "pass", p.verdicts["Offline/at-return/mask"], p.text)
		assert.Contains(t, p.text, says)
	}
}

// An operation that does not end fails its test, and all after it at once.
func TestHang(t *testing.T) {
	quick := func(r *Runner) {
		r.machine.limits = limits{op: 20 * time.Millisecond, whole: 40 * time.Millisecond}
		r.machine.log.askForBlockedTasks = func() error { return errors.New("no sysrq here") }
	}
	p := playRows(t, "cpus 0-3\noffline cpu1: hang", rows(offline, online), quick)
	assert.Contains(t, p.text, "Offline: cpu1: Offline of cpu1 has not finished within 40ms\ncpu0 hotplug state 236, target 236\n")
	assert.Contains(t, p.text, "no sysrq here")
	assert.Contains(t, p.text, "cannot run: Offline of cpu1 has not finished, and may hold the kernel's locks")
	for test, verdict := range p.verdicts {
		assert.Equal(t, "fail", verdict, test)
	}
	assert.Contains(t, p.verdicts, "Online")

	r, _ := scriptedRunner(t, "cpus 0-3\noffline cpu3: hang", Tables{})
	quick(r)
	x := r.machine.NewScene()
	assert.ErrorContains(t, x.OffAndOn(3), "taking cpu3 offline has not finished within 20ms")
	assert.ErrorContains(t, r.Close(), "its supervisor tries to restore it")

	stuck := make(chan struct{})
	defer close(stuck)
	tables := Tables{Scenarios: []Scenario{{Name: "sc", Promise: "it holds", Source: "a document", Actors: []Actor{
		{Name: "actor", Begin: func(*Act) (func() error, error) { return func() error { <-stuck; return nil }, nil }},
	}}}}
	p = playRows(t, "cpus 0-3", tables, quick)
	assert.Regexp(t, `actor, thread \d+, turn 1 has not finished within 20ms`, p.text)
}

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
						both(tt.setup, m.SetAll(affinity.Of(0, 1), Offline))
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
	assert.Contains(t, p.text, "after Offline: cpuhp: online cpu3: input/output error")
}

// An operation that takes seconds is looked at by all at once.
func TestTogether(t *testing.T) {
	ops := 0
	tables := rows(with(offline, func(tr *Transition) {
		tr.Together, tr.Op = true, func(o *Operation) error { ops++; return both(o.Machine.Ensure(1, Offline), setOffline(o)) }
	}))
	p := playRows(t, "cpus 0-3\noffline cpu1: late 20ms\noffline cpu3: late 20ms", tables, nil)
	assert.Equal(t, 2, ops, "one for each moment")
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Offline/at-return/mask"], p.text)
	assert.Equal(t, "pass", p.verdicts["Offline/at-return/uevent"], p.text)
	assert.Contains(t, p.text, "but cpu1 is offline")

	p = playRows(t, "cpus 0-3\noffline cpu3: EIO\noffline cpu3: right", tables, nil)
	assert.Contains(t, p.text, "Offline of cpu3: the operation failed")

	tables = rows(with(offline, func(tr *Transition) { tr.Together = true }))
	tables.Invariants[1].Arm = func(p *Probe) (Check, error) { return nil, errors.New("it cannot be armed") }
	p = playRows(t, "cpus 0-3", tables, nil)
	assert.Contains(t, p.text, "Offline: uevent: it cannot be armed")

	p = playRows(t, "cpus 0-3", rows(with(offline, func(tr *Transition) { tr.Once = true })), nil)
	assert.Equal(t, "1", p.attributes("Offline/at-uevent/mask")["cpus"])
	assert.Equal(t, "3", p.attributes("Offline/at-return/mask")["cpus"])
	p = playRows(t, "cpus 0-3", rows(with(offline, func(tr *Transition) {
		tr.Once, tr.Setup = true, func(*Machine) (Prepared, error) { return Prepared{CPUs: []int{3}}, nil }
	})), nil)
	assert.Equal(t, "skip: it can be done to a CPU once, and there were only 1 CPUs for it", p.verdicts["Offline/at-return"])
}

// A variant that could not be made to fail is left out.
func TestVariants(t *testing.T) {
	variants := func(names ...string) Tables {
		return rows(Transition{
			Name: "Rollback/offline", Source: "its document", Before: Online, After: Online, Err: unix.EAGAIN, RolledBack: true,
			Variants: func(*Machine, int) ([]string, error) { return names, nil },
			Op: func(o *Operation) error {
				switch o.Variant {
				case "nothing":
					return ErrInapplicable
				case "success":
					return nil
				}
				return unix.EAGAIN
			},
		})
	}
	p := playRows(t, "cpus 0-3", variants("fails", "nothing", "success"), nil)
	assert.Equal(t, map[string]string{"Rollback/offline/fails": "pass", "Rollback/offline/success": "fail"}, p.verdicts, p.text)
	assert.Contains(t, p.text, "the operation succeeded, want EAGAIN")
	p = playRows(t, "cpus 0-3", variants("nothing"), nil)
	assert.Contains(t, p.text, "Rollback/offline: none of 1 variants was applicable")
}

// A complaint of the kernel's fails the test that it came in.
func TestComplaint(t *testing.T) {
	p := playRows(t, "cpus 0-3\noffline cpu1: log WARNING: CPU: 1 PID: 7\noffline cpu1: right", rows(offline), nil)
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Equal(t, "pass", p.verdicts["Offline/at-uevent/uevent"], p.text)
	assert.Contains(t, p.text, "the kernel's log has a complaint (warning):\n[    1.000000] WARNING: CPU: 1 PID: 7")
}

func TestScenarios(t *testing.T) {
	cleaned, acted := 0, false
	tables := Tables{Scenarios: []Scenario{
		{Name: "good", Promise: "it holds", Source: "a document",
			Setup: func(x *Scene) error {
				x.Data = "left by the set-up"
				x.Cleanup(func() error { cleaned++; return nil })
				return nil
			},
			Actors: []Actor{{Name: "actor", Count: func(*Scene) int { return 2 }, Begin: func(a *Act) (func() error, error) {
				acted = a.Scene.Data == "left by the set-up"
				a.Scene.Ran(7)
				return func() error { return nil }, nil
			}}},
			Hold: func(x *Scene) error {
				x.Note("measured", time.Second)
				if x.HaveRun(7) != 2 || x.Threads() != 2 || x.Over() || x.Elapsed() <= 0 {
					return errors.New("two threads act")
				}
				return nil
			}},
		{Name: "bad", Promise: "it holds", Source: "a document", Together: true,
			Cycle: func(x *Scene, cpu int) error { return both(x.Set(cpu, Offline), errors.New("it does not\nhold")) }},
		{Name: "broken-actor", Promise: "it holds", Source: "a document",
			Actors: []Actor{{Name: "actor", Begin: func(*Act) (func() error, error) { return nil, unix.EPERM }}}},
	}}
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, map[string]string{"Scenario/good": "pass", "Scenario/bad": "fail", "Scenario/broken-actor": "fail"}, p.verdicts, p.text)
	assert.Equal(t, 1, cleaned)
	assert.True(t, acted)
	attrs := p.attributes("Scenario/good")
	assert.Equal(t, "2", attrs["cycles"])
	assert.Equal(t, "1000.000 ms", attrs["measured"])
	assert.Equal(t, "1000000000", attrs["measured-ns"])
	assert.Contains(t, attrs, "longest-offline")
	assert.Contains(t, p.text, "bad\npromised: it holds\nseen:     cycle 1: it does not\nhold\nsource:   a document")
	assert.Contains(t, p.text, "seen:     actor: operation not permitted")
}

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
	assert.Regexp(t, `(?m)^soak: 0s of 300ms, \d+ cycles, [0-9.]+ cycles/s, workload idle, 0 failures, worst window none$`, p.text)
	_, err := ParseSamples(p.attributes("Soak/idle")["time-to-return-ns"])
	assert.NoError(t, err)

	p = soak("cpus 0-3\noffline cpu1: right\noffline cpu1: right\noffline cpu1: right\noffline cpu1: right\noffline cpu1: late 5ms", false)
	assert.Equal(t, "fail", p.verdicts["Soak/idle"], p.text)
	assert.Contains(t, p.text, "promised: the mask has the CPU")

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
