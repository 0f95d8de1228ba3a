package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/suspend"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// Unsupported says why the suite cannot run on a machine, where nothing is wrong with the kernel.
type Unsupported struct{ Reason string }

func (u *Unsupported) Error() string { return u.Reason }

// Suite is the machine that is tested: its CPUs, the listener and the cpusets that the probes are made from.
type Suite struct {
	opts    Options
	require *regexp.Regexp
	kernel  version
	cpus    CPUs
	power   suspend.FS
	events  *Events
	places  []*placement
	inside  *placement // the partition that everything is looked at from, if the transition has one
	crowd   *crowd
	caches  affinity.CPUSet // CPUs with a cache directory in sysfs

	online   affinity.CPUSet // CPUs that were online at first
	boots    []Boot          // how the machine is booted
	isolated affinity.CPUSet // CPUs in no scheduler domain
	fresh    affinity.CPUSet // CPUs that had never been online
	stay     affinity.CPUSet // CPUs that must not go offline, but in a row that is about that
	awake    int             // the CPU that stays online in a suspend
	rebound  bool            // the process was not free to run on all of them

	owned    affinity.CPUSet // CPUs of somebody's partition
	usable   affinity.CPUSet // CPUs that may be taken offline
	targets  []int           // those of them to probe
	times    times
	said     *kernelLog
	hung     hang
	progress atomic.Uint64 // counts what was done, for who watches whether it goes on
	facts    [][2]string   // about the machine, for the report
	undo     undoList
}

// opLimit bounds one operation. The kernel itself gives a CPU 10 s to come or go.
const opLimit = 60 * time.Second

// Open gets the machine ready: it creates the cpusets and opens the uevent listener. [Suite.Close] undoes that, and where
// the process ends without it a [machine.Supervisor] does. The error is an [*Unsupported] where the machine, or the
// caller's lack of privilege, does not allow the suite to run.
func Open(opts Options) (s *Suite, err error) {
	counted.ask()
	opts.Cycles = max(opts.Cycles, 1)
	if opts.Cpusets == 0 {
		opts.Cpusets = 5000
	}
	s = &Suite{opts: opts, power: suspend.New("/sys")}
	s.said = &kernelLog{askForBlockedTasks: func() error { return sysfs.WriteFile("/proc/sysrq-trigger", "w") }}
	if err := hung.err(); err != nil {
		return nil, fmt.Errorf("cannot run: %w", err)
	}
	if opts.Require != "" {
		if s.require, err = regexp.Compile(opts.Require); err != nil {
			return nil, err
		}
	}
	if os.Geteuid() != 0 {
		return nil, &Unsupported{"not root: taking CPUs offline needs it; run with sudo"}
	}
	if reason := machine.Unsuitable("/"); reason != "" {
		return nil, &Unsupported{reason}
	}
	if s.kernel, err = runningKernel(); err != nil {
		return nil, err
	}
	if s.cpus, err = cpuhp.New("/sys"); err != nil {
		return nil, &Unsupported{err.Error()}
	}
	if reason := s.unwritable(); reason != "" {
		return nil, &Unsupported{reason}
	}

	defer func() {
		if err == nil {
			return
		}
		// Nobody is to take a machine that was left changed for one that the suite cannot run on.
		if closeErr := s.Close(); closeErr != nil {
			err = fmt.Errorf("%v; and then: %w", err, closeErr)
		}
	}()
	release, err := machine.Guard(os.Stderr)
	if errors.Is(err, machine.ErrUnwritable) {
		return s, &Unsupported{err.Error()}
	}
	if err != nil {
		return s, err
	}
	s.undo.add(release)
	// Not before: another run may have had CPUs offline until now.
	if err := s.choose(); err != nil {
		return s, err
	}
	present, err := s.cpus.Present()
	if err != nil {
		return s, err
	}
	rebind, err := s.unbind(present)
	if err != nil {
		return s, err
	}
	s.undo.add(rebind)
	// Since Go 1.25 the runtime stops the world to follow changes of the online mask. An explicit setting keeps it from that.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	s.undo.add(func() error { return s.restore(s.online) })
	for cpu := range s.online.All() {
		if _, err := os.Stat(filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(cpu), "cache/index0")); err == nil {
			s.caches = s.caches.With(cpu)
		}
	}
	if s.caches.Equal(s.online) {
		s.caches = present // what all have that are online, the others will have
	}
	conn, err := uevent.Open(nil)
	if err != nil {
		return s, err
	}
	s.undo.add(conn.Close)
	s.events = NewEvents(conn)
	if s.said.log, err = kmsg.Open("/dev/kmsg", kmsg.FromEnd); err == nil {
		s.undo.add(s.said.log.Close)
	}
	logErr := err
	cleanup, err := s.placements(opts.Cpusets)
	if err != nil {
		return s, err
	}
	s.undo.add(cleanup)
	s.facts = facts(s)
	if logErr != nil {
		s.facts = append(s.facts, [2]string{"warning", fmt.Sprintf("the kernel's log is not judged: %v", logErr)})
	}
	for _, warning := range machine.Warnings("/") {
		s.facts = append(s.facts, [2]string{"warning", warning})
	}
	return s, nil
}

// Close removes the cpusets and gives each CPU the state that it had before [Open].
func (s *Suite) Close() error {
	if err := s.hung.err(); err != nil {
		return fmt.Errorf("%w; its supervisor tries to restore it when this process has ended", err)
	}
	return s.undo.run()
}

// restore brings the CPUs back to the given online mask.
func (s *Suite) restore(online affinity.CPUSet) error {
	now, err := s.cpus.Online()
	if err != nil {
		return err
	}
	return errors.Join(s.setAll(online.Difference(now), true), s.setAll(now.Difference(online), false))
}

func (s *Suite) setAll(cpus affinity.CPUSet, online bool) error {
	var errs []error
	for cpu := range cpus.All() {
		errs = append(errs, s.cpus.SetOnline(cpu, online))
		s.progress.Add(1)
	}
	return errors.Join(errs...)
}

// Run is the whole suite as subtests of t, for use in tests of one's own. It skips, with the reason, where the machine
// does not allow it to run, and under -short. With [Options.MustTest] it fails if nothing was tested. Its last line of log
// counts the tests by their result.
func Run(t *testing.T, opts Options) {
	if testing.Short() {
		t.Skip("-short: the suite takes CPUs offline")
	}
	concludeRun(t, opts)
	s, err := Open(opts)
	if err != nil {
		SkipOrFail(t, err, opts)
	}
	t.Cleanup(func() {
		if times := s.Times(); times != "" {
			t.Log("\n" + times)
		}
		if err := s.Close(); err != nil {
			t.Errorf("the machine is not as it was found: %v", err)
		}
	})
	var names []string
	for i := range Transitions {
		if name := Transitions[i].test(); s.counts(Transitions[i].Boot) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { s.Run(t, name) })
	}
	t.Run("Scenario", s.RunScenarios)
	if opts.Soak > 0 {
		t.Run("Soak", s.Soak)
	}
}

// SkipOrFail ends a test for which [Open] failed: it is skipped if the error is an [*Unsupported] and opts do not require
// it, and fails otherwise.
func SkipOrFail(t *testing.T, err error, opts Options) {
	t.Helper()
	counted.group(t)
	var unsupported *Unsupported
	if !errors.As(err, &unsupported) {
		t.Fatal(err)
	}
	s := &Suite{}
	if opts.Require != "" {
		if s.require, err = regexp.Compile(opts.Require); err != nil {
			t.Fatal(err)
		}
	}
	s.skip(t, unsupported.Reason)
}

// skip skips a test, unless it is required.
func (s *Suite) skip(t *testing.T, reason string) {
	t.Helper()
	if s.require != nil && s.require.MatchString(t.Name()) {
		t.Fatalf("cannot run, but is required: %s", reason)
	}
	counted.skip(t, reason)
	t.Skip(reason)
}

// Run runs the transitions of a name, or whose name begins with it and a slash, as subtests of t:
// transition/moment/invariant/placement, each with a cycle of its own, so that nothing comes between the moment and the
// check. An operation is looked at at both its moments, if both are run.
func (s *Suite) Run(t *testing.T, name string) {
	for i := range Transitions {
		tr := &Transitions[i]
		if !s.counts(tr.Boot) {
			continue
		}
		if tr.Name == name {
			s.transition(t, tr)
		} else if rest, ok := strings.CutPrefix(tr.Name, name+"/"); ok {
			t.Run(rest, func(t *testing.T) { s.transition(t, tr) })
		}
	}
}

func (s *Suite) transition(t *testing.T, tr *Transition) {
	counted.group(t)
	if err := s.hung.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	if tr.Destructive && !s.opts.Destructive {
		s.skip(t, "it may take a broken kernel down: it runs with -destructive")
	}
	s.said.watch(t)
	online, err := s.cpus.Online()
	if err != nil {
		t.Fatal(err)
	}
	var undo undoList
	var targets []int
	var missing string
	err = s.bounded("setting up "+tr.Name, func() (err error) {
		targets, missing, err = s.setUp(tr, &undo)
		return err
	})
	// Now, not in a t.Cleanup: the next row may be a subtest of the same test.
	defer func() {
		if s.hung.any() {
			return
		}
		// The set-up may be what keeps the CPUs offline.
		if err := s.bounded("undoing the set-up of "+tr.Name, undo.run); err != nil {
			t.Errorf("undoing the set-up of %s: %v", tr.Name, err)
		}
		if s.hung.any() {
			return
		}
		if err := s.bounded("restoring the CPUs after "+tr.Name, func() error { return s.restore(online) }); err != nil {
			t.Errorf("after %s: %v", tr.Name, err)
		}
	}()
	if err != nil {
		t.Fatalf("setting up %s: %v", tr.Name, err)
	}
	if missing != "" {
		s.skip(t, missing)
	}
	if tr.Variants != nil {
		s.variants(t, targets, tr)
		return
	}
	made := make(map[slot]*result)
	for i, moment := range tr.moments() {
		t.Run(string(moment), func(t *testing.T) {
			counted.group(t)
			targets := targets
			if tr.Once {
				if i >= len(targets) {
					s.skip(t, fmt.Sprintf("it can be done to a CPU once, and there were just %d CPUs for it", len(targets)))
				}
				targets = targets[i : i+1]
			}
			if tr.Together || tr.Once {
				var err error
				if made, err = s.cycleTogether(targets, tr, moment, ""); err != nil {
					t.Fatalf("%s: %v", tr.Name, err)
				}
				if failed := operationFailed(made); failed != "" {
					t.Fatal(failed)
				}
			}
			s.eachSlot(t, tr, func(t *testing.T, at slot) { s.probeAll(t, targets, tr, moment, at, made) })
		})
	}
}

// setUp prepares the machine for a transition, and picks the CPUs to look at. missing tells why the machine cannot do it.
func (s *Suite) setUp(tr *Transition, undo *undoList) (cpus []int, missing string, err error) {
	cpus = s.targets
	if tr.Setup != nil {
		var back func() error
		if cpus, back, missing, err = tr.Setup(s); back != nil {
			undo.add(back)
		}
		if err != nil || missing != "" {
			return nil, missing, err
		}
	}
	if tr.Partition != nil {
		place, cpu, remove, missing, err := s.partition(tr.Partition)
		if err != nil || missing != "" {
			return nil, missing, err
		}
		undo.add(remove)
		s.inside = place
		undo.add(func() error { s.inside = nil; return nil })
		cpus = []int{cpu}
	}
	return cpus, "", nil
}

// slot is a place for a result: an invariant, and the placement that it is looked at from.
type slot struct {
	inv   *Invariant
	place *placement
}

// slots are all that apply to a transition.
func (s *Suite) slots(tr *Transition) []slot {
	var list []slot
	places := s.places
	if s.inside != nil {
		places = []*placement{s.inside}
	}
	for i := range Invariants {
		inv := &Invariants[i]
		from := places[:1]
		if inv.Placed {
			from = places
		}
		for _, place := range from {
			if s.counts(inv.Boot) && inv.applies(tr, place) {
				list = append(list, slot{inv, place})
			}
		}
	}
	return list
}

// eachSlot runs a subtest for each slot: invariant, or invariant/placement.
func (s *Suite) eachSlot(t *testing.T, tr *Transition, f func(t *testing.T, at slot)) {
	for rest := s.slots(tr); len(rest) > 0; {
		inv := rest[0].inv
		n := 1
		for n < len(rest) && rest[n].inv == inv {
			n++
		}
		slots := rest[:n]
		rest = rest[n:]
		t.Run(inv.Name, func(t *testing.T) {
			for _, at := range slots {
				if inv.Placed {
					t.Run(at.place.name, func(t *testing.T) { f(t, at) })
				} else {
					f(t, at)
				}
			}
		})
	}
}

// missing tells why a slot cannot be looked at, or "".
func (s *Suite) missing(at slot, cpu int) string {
	if at.inv.Placed && at.place.enter && at.place.missing != "" {
		return at.place.missing
	}
	if at.inv.Needs != nil {
		return at.inv.Needs(&Probe{CPU: cpu, Invariant: at.inv, suite: s, placement: at.place})
	}
	return ""
}

// probeAll is one case: one invariant at one moment of one transition, from one placement, on each of the CPUs. The
// result is made here, unless there is one already: of a cycle that was made for all invariants, or of those that were made
// to look at the uevent, which look at the return as well.
func (s *Suite) probeAll(t *testing.T, cpus []int, tr *Transition, moment Moment, at slot, made map[slot]*result) {
	counted.test(t)
	if err := s.hung.err(); err != nil {
		t.Fatalf("cannot run: %v", err)
	}
	s.said.watch(t)
	var able []int
	var missing string
	for _, cpu := range cpus {
		if why := s.missing(at, cpu); why != "" {
			missing = why
		} else {
			able = append(able, cpu)
		}
	}
	if cpus = able; len(cpus) == 0 {
		s.skip(t, missing)
	}
	r := made[at]
	if r == nil {
		r = &result{}
		if err := s.cycles(cpus, tr, moment, at, r, made); err != nil {
			r.attach(t, s, at)
			t.Fatalf("%s: %v", tr.Name, err)
		}
	}
	r.attach(t, s, at)
	r.report(t, s)
}

// cycles makes the cycles of a case for its result, and those at the uevent for the one at the return too.
func (s *Suite) cycles(cpus []int, tr *Transition, moment Moment, at slot, r *result, made map[slot]*result) error {
	if err := s.crowd.set(tr.crowded() && at.inv.Placed); err != nil {
		return err
	}
	atReturn := &result{}
	for _, cpu := range cpus {
		for range s.opts.Cycles {
			c := &Cycle{CPU: cpu, Transition: tr, Moment: moment, suite: s}
			p := c.probe(cpu, at)
			if moment == AtUevent {
				c.also = c.atReturn().probe(cpu, at)
			}
			if err := c.alone(p); err != nil {
				return fmt.Errorf("cpu%d: %w", cpu, err)
			}
			r.add(p)
			if c.also != nil {
				atReturn.add(c.also)
			}
		}
		// Where all that are online are looked at, one of them has to be there when the next one goes.
		if len(cpus) > 1 && s.exhaustible() {
			if err := s.bounded(fmt.Sprintf("bringing cpu%d online", cpu), func() error { return s.put(cpu, Online) }); err != nil {
				return err
			}
		}
	}
	s.times.add(tr.Name, r)
	if moment == AtUevent {
		s.times.add(tr.Name, &result{windows: atReturn.windows})
		if len(atReturn.broken) > 0 {
			atReturn.state = s.state(atReturn.broken[0])
		}
		made[at] = atReturn
	}
	return nil
}

// exhaustible tells whether the last CPU would be asked to go if all that are looked at went. One that is left to somebody's
// partition would be taken from it.
func (s *Suite) exhaustible() bool {
	return s.online.Difference(s.owned).Difference(affinity.Of(s.targets...)).Empty()
}

// cycleTogether makes the cycles of a transition that is looked at by all invariants at once: as often as Cycles says, for
// each CPU that a uevent is to come from, or all CPUs in one.
func (s *Suite) cycleTogether(cpus []int, tr *Transition, moment Moment, variant string) (map[slot]*result, error) {
	if err := s.hung.err(); err != nil {
		return nil, fmt.Errorf("cannot run: %w", err)
	}
	all := make(map[slot]*result)
	cycles := s.opts.Cycles
	if tr.Once {
		cycles = 1
	}
	if err := s.crowd.set(tr.crowded()); err != nil {
		return nil, err
	}
	// Each of the looks has a thread or more for each CPU, and Go ends a process that has 10000.
	const most = 32
	var groups [][]int
	for range cycles {
		groups = slices.AppendSeq(groups, slices.Chunk(cpus, most))
	}
	for _, cpus := range groups {
		c := &Cycle{CPU: cpus[len(cpus)-1], Transition: tr, Moment: moment, Variant: variant, suite: s}
		var probes []*Probe
		var slots []slot
		for _, at := range s.slots(tr) {
			for _, cpu := range cpus {
				if s.missing(at, cpu) == "" {
					probes = append(probes, c.probe(cpu, at))
					slots = append(slots, at)
				}
			}
		}
		if err := c.together(cpus, probes); err != nil {
			return nil, err
		}
		for i, at := range slots {
			if all[at] == nil {
				all[at] = &result{}
			}
			all[at].add(probes[i])
		}
		s.times.add(tr.Name, c.once(probes))
	}
	return all, nil
}

// variants runs a transition once for each of its variants, as a subtest that has all invariants in it.
func (s *Suite) variants(t *testing.T, cpus []int, tr *Transition) {
	cpus = cpus[len(cpus)-1:]
	names, err := tr.Variants(s, cpus[0])
	if err != nil {
		t.Fatalf("%s: %v", tr.Name, err)
	}
	done := 0
	for _, name := range names {
		s.said.begin()
		all, err := s.cycleTogether(cpus, tr, AtReturn, name)
		said := s.said.end()
		if errors.Is(err, errInapplicable) {
			said.report(t)
			continue
		}
		done++
		t.Run(name, func(t *testing.T) {
			counted.test(t)
			defer said.report(t)
			if err != nil {
				t.Fatalf("%s: %v", tr.Name, err)
			}
			if failed := operationFailed(all); failed != "" {
				t.Fatal(failed)
			}
			var whole result
			for _, at := range s.slots(tr) {
				if all[at] != nil {
					all[at].report(t, s)
					whole.merge(all[at])
				}
			}
			whole.attach(t, s, slot{&Invariant{}, s.places[0]})
		})
	}
	if done == 0 {
		t.Fatalf("%s: none of %d variants was applicable", tr.Name, len(names))
	}
}
