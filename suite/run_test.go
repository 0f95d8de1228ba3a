package suite

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// played is what a test said, and what became of it and its subtests.
type played struct {
	text     string            // as go test -v shows it, without indentation
	verdicts map[string]string // of its subtests: "pass", "fail", "skip: REASON" or "known: ID"
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
	// RunTests runs it as often as -count and -cpu say. A script is played once.
	var once sync.Once
	testing.RunTests(func(pattern, _ string) (bool, error) { return pattern != skip, nil },
		[]testing.InternalTest{{Name: "T", F: func(t *testing.T) { once.Do(func() { f(t) }) }}})
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	p := played{regexp.MustCompile(`(?m)^ +`).ReplaceAllString(string(text), ""), make(map[string]string)}
	for _, e := range counted.since(before) {
		verdict := map[verdict]string{passed: "pass", failed: "fail", skipped: "skip: " + e.reason, broken: e.reason}[e.verdict]
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

// brokenOnce is mask, broken at the first look at one of the CPUs.
func brokenOnce(cpu int) Invariant {
	inv := mask
	inv.Arm = func(p *Probe) (Check, error) {
		check, err := mask.Arm(p)
		looks := 0
		return func() error {
			if looks++; looks == 1 && p.CPU == cpu {
				return errors.New("it is not there yet")
			}
			return check()
		}, err
	}
	return inv
}

// uevents is the promise that the right uevents come.
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

// What may crash a broken kernel comes last, with all of its test.
func TestNames(t *testing.T) {
	named := func(name string, destructive bool) Transition {
		return with(offline, func(tr *Transition) { tr.Name, tr.Destructive = name, destructive })
	}
	r, _ := scriptedRunner(t, "cpus 0-3", rows(named("Refused/a", false), named("Refused/b", true), named("Offline", false), named("Suspend/c", true), named("Suspend/d", false), named("Online", false)))
	safe, destructive := r.names()
	assert.Equal(t, []string{"Offline", "Online"}, safe)
	assert.Equal(t, []string{"Refused", "Suspend"}, destructive)
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

// A name that no row has is no test that passed.
func TestRunUnknown(t *testing.T) {
	grouped := with(offline, func(tr *Transition) { tr.Name = "Offline/slowly" })
	r, _ := scriptedRunner(t, "cpus 0-3", rows(online, grouped))
	for name, known := range map[string]bool{"Online": true, "Offline": true, "Onlin": false, "Offline/slow": false} {
		p := play(t, func(t *testing.T) { r.Run(t, name) })
		assert.Equal(t, !known, strings.Contains(p.text, "no transition has the name"), "%s: %s", name, p.text)
		assert.Equal(t, !known, strings.Contains(p.text, "--- FAIL"), "%s: %s", name, p.text)
	}
}

// Each transition, moment and invariant is a test, and has its measurements.
func TestAllIsRight(t *testing.T) {
	ops := 0
	counted := with(online, func(tr *Transition) {
		tr.Op = func(o *Operation) error { ops++; return setOnline(o) }
	})
	p := playRows(t, "cpus 0-3", rows(counted, offline), func(r *Runner) {
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
	assert.Equal(t, 8, ops, "two CPUs, two cycles, two promises; one operation serves both moments")
	for test, names := range map[string]string{
		"Online/at-uevent/mask": "kernel cpus probes broken time-to-uevent time-to-uevent-ns time-to-return time-to-return-ns cycle",
		"Online/at-return/mask": "kernel cpus probes broken time-to-return time-to-return-ns cycle",
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
		_, err = ParseTimeline(attrs["cycle"])
		assert.NoError(t, err)
	}
}

// What a kernel developer sees of a promise that is broken for a while.
func TestWindow(t *testing.T) {
	tables := rows(online, offline)
	tables.Invariants[0] = brokenOnce(3)
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, "fail", p.verdicts["Online/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Online/at-return/mask"], p.text)
	assert.Equal(t, "pass", p.verdicts["Online/at-uevent/uevent"])
	for moment, words := range map[Moment]string{AtUevent: "at the uevent", AtReturn: "at the return of the write"} {
		assert.Regexp(t, "cpu3, "+words+` of Online: mask
promised: the mask has the CPU
seen:     it is not there yet
lasted:   [0-9.]+ ms \(kept at try 2\)
source:   a document\n`, p.text)
		attrs := p.attributes("Online/" + string(moment) + "/mask")
		assert.Equal(t, "1", attrs["broken"])
		samples, err := ParseSamples(attrs["window-ns"])
		require.NoError(t, err)
		require.Len(t, samples, 1)
		assert.Positive(t, samples[0].Value)
	}
	assert.Contains(t, p.text, "broken in 1 of 2 probes; until it was kept: ")
	assert.Contains(t, p.text, "the machine after that:\nonline                           0-3\ncpu3 hotplug state, target       236, 236")
}

// A promise may be late by design.
func TestLag(t *testing.T) {
	tables := rows(online)
	tables.Invariants[0] = brokenOnce(3)
	tables.Invariants[0].Lag = time.Hour
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, "pass", p.verdicts["Online/at-uevent/mask"], p.text)
}

// What may be late for longer than a broken promise is looked at is looked at
// for as long as it may be late.
func TestLongLag(t *testing.T) {
	tables := rows(online)
	inv := &tables.Invariants[0]
	inv.Lag = TaskTimeout
	inv.Arm = func(*Probe) (Check, error) {
		kept := time.Now().Add(PollTimeout + 100*time.Millisecond)
		return func() error {
			if time.Now().Before(kept) {
				return errors.New("not yet")
			}
			return nil
		}, nil
	}
	p := playRows(t, "cpus 0-1", tables, nil)
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
	assert.Contains(t, p.text, "Offline of cpu1: the operation failed: cpuhp: write \"0\" to /sys/devices/system/cpu/cpu1/online: EIO (input/output error)\nsource:   its document")
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
	tables := rows(offline, online)
	tables.Scenarios = []Scenario{{Name: "sc", Promise: "it holds", Source: "a document", Cycle: (*Scene).OffAndOn}}
	p := playRows(t, "cpus 0-3\noffline cpu1: hang", tables, func(r *Runner) {
		r.machine.limits.whole = 2 * time.Second
		r.machine.log.askForBlockedTasks = func() error { return errors.New("no sysrq here") }
	})
	assert.Contains(t, p.text, "Offline: cpu1: Offline of cpu1 has not finished within 2s\ncpu0 hotplug state 236, target 236\n")
	assert.Contains(t, p.text, "no sysrq here")
	assert.Contains(t, p.text, "cannot run: Offline of cpu1 has not finished, and may hold the kernel's locks")
	for _, test := range []string{"Offline/at-uevent/uevent", "Offline/at-return/mask", "Online", "Scenario/sc"} {
		assert.Equal(t, "fail", p.verdicts[test], test)
	}
}

// So does what a scenario does itself, and what it undoes.
func TestHangInScenario(t *testing.T) {
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	hangs := func() error { <-stuck; return nil }
	quick := func(r *Runner) { r.machine.limits.whole = 200 * time.Millisecond }
	for says, sc := range map[string]Scenario{
		"seen:     cycle 1: scenario sc has not finished within 200ms": {Cycle: func(*Scene, int) error { return hangs() }},
		"seen:     what the scene undoes has not finished within 200ms": {
			Setup: func(x *Scene) error { x.Cleanup(hangs); return nil }, Cycle: (*Scene).OffAndOn,
		},
	} {
		sc.Name, sc.Promise, sc.Source = "sc", "it holds", "a document"
		p := playRows(t, "cpus 0-3", Tables{Scenarios: []Scenario{sc}}, quick)
		assert.Equal(t, "fail", p.verdicts["Scenario/sc"])
		assert.Contains(t, p.text, says)
	}
}

// So does one of a scene, and an actor that does not end.
func TestHangInScene(t *testing.T) {
	r, _ := scriptedRunner(t, "cpus 0-3\noffline cpu3: hang", Tables{})
	r.machine.limits.op = 20 * time.Millisecond
	x := r.machine.NewScene()
	assert.ErrorContains(t, x.OffAndOn(3), "taking cpu3 offline has not finished within 20ms")
	assert.ErrorContains(t, r.Close(), "its supervisor tries to restore it")

	stuck := make(chan struct{})
	defer close(stuck)
	hangs := func(name string) Actor {
		return Actor{Name: name, Begin: func(*Act) (func() error, error) { return func() error { <-stuck; return nil }, nil }}
	}
	// Who waits for it is named, and not waited for as long again.
	r, _ = scriptedRunner(t, "cpus 0-3\noffline cpu3: hang", Tables{})
	r.machine.limits.op = 20 * time.Millisecond
	x = r.machine.NewScene()
	require.NoError(t, x.Start([]Actor{hangs("reader")}))
	assert.ErrorContains(t, x.OffAndOn(3), "taking cpu3 offline has not finished within 20ms")
	assert.Regexp(t, `^nor have these finished: reader, thread \d+, turn 1$`, x.Stop().Error())

	r, _ = scriptedRunner(t, "cpus 0-3", Tables{})
	r.machine.limits.op = 20 * time.Millisecond
	x = r.machine.NewScene()
	require.NoError(t, x.Start([]Actor{hangs("actor"), hangs("other")}))
	x.Cleanup(func() error { return errors.New("nothing may be undone below what hangs") })
	err := x.Stop()
	assert.Regexp(t, `^actor, thread \d+, turn 1; other, thread \d+, turn 1 has not finished within 20ms\n`, err.Error())
	assert.NotContains(t, err.Error(), "nothing may be undone")
}

// An operation that takes seconds is looked at by all at once.
func TestTogether(t *testing.T) {
	ops := 0
	tables := rows(with(offline, func(tr *Transition) {
		tr.Together, tr.Op = true, func(o *Operation) error { ops++; return errors.Join(o.Machine.Ensure(1, Offline), setOffline(o)) }
	}))
	tables.Invariants[0] = brokenOnce(1)
	var procs atomic.Int64
	tables.Invariants[1].Arm = func(*Probe) (Check, error) {
		procs.Store(int64(runtime.GOMAXPROCS(0)))
		return func() error { return nil }, nil
	}
	before := runtime.GOMAXPROCS(0)
	p := playRows(t, "cpus 0-3", tables, nil)
	assert.Equal(t, 2, ops, "one for each moment")
	assert.Greater(t, int(procs.Load()), before, "threads that compute could keep others from looking")
	assert.Equal(t, before, runtime.GOMAXPROCS(0))
	assert.Equal(t, "fail", p.verdicts["Offline/at-uevent/mask"], p.text)
	assert.Equal(t, "fail", p.verdicts["Offline/at-return/mask"], p.text)
	assert.Equal(t, "pass", p.verdicts["Offline/at-return/uevent"], p.text)
	assert.Contains(t, p.text, "cpu1, at the return of the write of Offline: mask")
	tables.Invariants[0] = mask

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
			Variants: func(*Machine) ([]string, error) { return names, nil },
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
