package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/internal/testpattern"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/suspend"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// Runner runs tables on a machine, as tests.
type Runner struct {
	machine *Machine
	tables  Tables
	require *regexp.Regexp // tests that fail instead of being skipped; nil: none
	chosen  *testpattern.Selection
	times   times
	way     onTheWay
	undo    undoList
}

// Open gets the machine ready to run opts.Tables: it creates the cpusets and
// opens the uevent listener. [Runner.Close] undoes that; if the process ends
// without it, a [machine.Supervisor] does. The error is an [*Unsupported] if
// the machine, or the caller's lack of privilege, does not allow the suite to
// run.
func Open(opts Options) (r *Runner, err error) {
	counted.ask()
	counted.stopAt(opts.Stop)
	if err := opts.Check(); err != nil {
		return nil, &wrongOption{err.Error()}
	}
	opts = opts.withDefaults()
	m := &Machine{
		Facts: Facts{Options: opts}, Power: suspend.New("/"), real: true,
		log: &testLog{askForBlockedTasks: func() error { return sysfs.WriteFile("/proc/sysrq-trigger", "w") }},
	}
	m.Power = m.Power.AfterWrite(m.wrote)
	r = &Runner{machine: m}
	if err := hung.err(); err != nil {
		return nil, fmt.Errorf("cannot run: %w", err)
	}
	if opts.Tables == nil {
		return nil, errors.New("no tables to run")
	}
	if err := opts.Tables.Check(); err != nil {
		return nil, err
	}
	r.tables = opts.Tables.Clone()
	if r.require, err = required(opts); err != nil {
		return nil, err
	}
	if r.chosen, err = chosen(); err != nil {
		return nil, err
	}
	if m.known, err = loadKnown(opts.Known); err != nil {
		return nil, err
	}
	if err := m.suitable(); err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		// Nobody may take a machine that was left changed for one that the
		// suite cannot run on.
		if closeErr := r.Close(); closeErr != nil {
			err = fmt.Errorf("%v; and then: %w", err, closeErr)
		}
	}()
	guard := machine.Guard
	if opts.HotAdd != "" {
		guard = machine.GuardHotAdd
	}
	release, err := guard(os.Stderr)
	if errors.Is(err, machine.ErrUnwritable) {
		return r, Unsupportedf("%v", err)
	}
	if err != nil {
		return r, err
	}
	r.undo.add(release)
	return r, m.open(&r.undo)
}

// required returns what [Options.Require] matches, or nil.
func required(opts Options) (*regexp.Regexp, error) {
	if opts.Require == "" {
		return nil, nil
	}
	return regexp.Compile(opts.Require)
}

// suitable returns an [*Unsupported] if CPUs cannot be taken offline here, by
// this process. It changes nothing.
func (m *Machine) suitable() (err error) {
	if os.Geteuid() != 0 {
		return Unsupportedf("not root: taking CPUs offline needs it; run with sudo%s", leftBehind())
	}
	if reason := machine.Unsuitable("/"); reason != "" {
		return Unsupportedf("%s", reason)
	}
	if m.Kernel, err = RunningKernel(); err != nil {
		return err
	}
	if m.CPUs, err = m.sysfs(); err != nil {
		return Unsupportedf("%v", err)
	}
	return m.writable()
}

// leftBehind says that there is a record of a run, which may have left the machine
// changed, to somebody who may not read it.
func leftBehind() string {
	for _, path := range machine.RecordPaths() {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Sprintf(". And there is %s: a run is under way, or one could not put the machine back, as when it was killed together with its supervisor. The next one, or -restore, does so", path)
		}
	}
	return ""
}

// sysfs returns the CPUs of sysfs, which tell m of what is written.
func (m *Machine) sysfs() (CPUs, error) {
	cpus, err := cpuhp.New("/")
	return cpus.AfterWrite(m.wrote), err
}

// writable returns an [*Unsupported] if no CPU can be taken offline by this
// process.
func (m *Machine) writable() error {
	hotpluggable, _, err := m.CPUs.Hotpluggable()
	cpu, ok := hotpluggable.First()
	if err != nil || !ok {
		return nil // the facts say why
	}
	path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", cpu)
	if err := unix.Access(path, unix.W_OK); err != nil {
		return Unsupportedf("%s cannot be written: %v (is this a container with a read-only /sys?)", path, err)
	}
	return nil
}

// open learns the facts and opens the instruments, and adds what undoes that to
// undo.
func (m *Machine) open(undo *undoList) error {
	if m.Options.HotAdd != "" {
		undo.add(m.removeAdded)
		if err := m.addFirst(); err != nil {
			return err
		}
	}
	// Not before the lock is held: another run may have had CPUs offline until
	// now.
	if err := m.learn(m.CPUs, "/"); err != nil {
		return err
	}
	m.limits = limitsFor(m.Online.Count())
	present, err := m.CPUs.Present()
	if err != nil {
		return err
	}
	back, err := m.unbind(present)
	if err != nil {
		return err
	}
	undo.add(back)
	// The cgroup that the process came from may have few CPUs, or a quota. And
	// since Go 1.25 the runtime stops the world to follow changes of the online
	// mask, from which an explicit setting keeps it.
	fewer := moreProcs(present.Count() + spareProcs - runtime.GOMAXPROCS(0))
	undo.add(func() error { fewer(); return nil })
	undo.add(func() error { return m.restore(m.Online) })
	m.learnCaches(present)
	events, err := uevent.Open(nil)
	if err != nil {
		return err
	}
	undo.add(events.Close)
	m.Events = NewEvents(events)
	var logErr error
	if m.log.log, logErr = kmsg.Open("/dev/kmsg", kmsg.FromEnd); logErr == nil {
		undo.add(m.log.log.Close)
	}
	remove, err := m.place(m.Options.Cpusets)
	if err != nil {
		return err
	}
	undo.add(remove)
	undo.add(m.closeInstruments)
	m.describe(logErr)
	m.known.booted(m.Boots)
	return nil
}

// spareProcs are for the threads of one cycle: one that computes, for each of
// two moments, one that waits for the uevent in a loop, and one that operates.
const spareProcs = 4

// learnCaches finds out which CPUs have a cache directory in sysfs when they
// are online.
func (m *Machine) learnCaches(present affinity.CPUSet) {
	for cpu := range m.Online.All() {
		if _, err := os.Stat(filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(cpu), "cache/index0")); err == nil {
			m.Caches = m.Caches.With(cpu)
		}
	}
	if m.Caches.Equal(m.Online) {
		m.Caches = present // what all have that are online, the others will have
	}
}

// unbind lets the process run on all CPUs if it may not: with isolcpus the
// kernel starts it on the others. A promise about a thread that is free to run
// anywhere could not be looked at.
func (m *Machine) unbind(present affinity.CPUSet) (undo func() error, err error) {
	bound, err := affinity.Get(os.Getpid())
	if err != nil || m.Online.Difference(bound).Empty() {
		return func() error { return nil }, err
	}
	if err := rebind(bound, present); err != nil {
		return nil, err
	}
	free, err := affinity.Get(os.Getpid())
	if err != nil {
		return nil, err
	}
	m.Rebound = true
	return func() error { return rebind(free, bound) }, nil
}

// rebind gives all threads of the process that have one affinity another one.
// Threads that have any other are meant to.
func rebind(from, to affinity.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if cpus, err := affinity.Get(tid); err == nil && cpus.Equal(from) {
			if err := affinity.Set(tid, to); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// Close removes the cpusets and gives each CPU the state that it had before
// [Open].
func (r *Runner) Close() error {
	if err := r.machine.hang.err(); err != nil {
		return fmt.Errorf("%w; its supervisor tries to restore it when this process has ended", err)
	}
	return r.undo.run()
}

// SkipOrFail ends a test for which [Open] failed: it is skipped if the error is
// an [*Unsupported] and opts do not require the test, and fails otherwise.
func SkipOrFail(t *testing.T, err error, opts Options) {
	t.Helper()
	counted.group(t)
	if wrong := new(wrongOption); errors.As(err, &wrong) {
		t.Attr(testjson.WrongOption, wrong.text)
	}
	if !IsUnsupported(err) {
		counted.unable(t, err.Error())
		t.Fatal(err)
	}
	require, badRequire := required(opts)
	if badRequire != nil {
		t.Fatal(badRequire)
	}
	(&Runner{require: require}).skip(t, err)
}

// skip skips a test, with the reason, unless it is required.
func (r *Runner) skip(t *testing.T, reason error) {
	t.Helper()
	if r.require != nil && r.require.MatchString(t.Name()) {
		t.Fatalf("cannot run, but is required: %v", reason)
	}
	counted.skip(t, reason.Error())
	t.Skip(reason)
}

// skipOrFail skips a test for an [*Unsupported], and fails it for any other
// error. doing says what went wrong then.
func (r *Runner) skipOrFail(t *testing.T, doing string, err error) {
	t.Helper()
	if IsUnsupported(err) {
		r.skip(t, err)
	}
	t.Fatalf("%s: %v", doing, err)
}
