package hotplugtest

import (
	"errors"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/suspend"
)

// suspended is t for a suspend to a state, looked at after the resume. Unless t
// says otherwise, the CPU is online before and after, and the suspend succeeds.
func suspended(name, state string, t Transition) Transition {
	t.Name, t.Together, t.Sleep = "Suspend/"+name, true, true
	if t.Before == 0 {
		t.Before = Online
	}
	t.After = t.Before
	if t.Source == "" {
		t.Source = docSleep
	}
	if t.Op == nil {
		t.Op = enter(state)
	}
	return t
}

// pmTest sets suspends up to turn back at a level, without a pause there: what
// is looked at is what they leave behind.
func pmTest(state, level string) Setup {
	return func(m *Machine) (Prepared, error) {
		mem, err := sleepUnsupported(m, state)
		if err != nil {
			return Prepared{}, err
		}
		was, err := m.Power.PMTest()
		if err != nil {
			return Prepared{}, suite.Unsupportedf("%v (CONFIG_PM_DEBUG)", err)
		}
		delay, err := m.Power.TestDelay()
		if err != nil {
			return Prepared{}, err
		}
		undo := func() error {
			return errors.Join(m.Power.SetTestDelay(delay), m.Power.SetPMTest(was.Current))
		}
		err = errors.Join(m.Power.SetTestDelay(0), m.Power.SetPMTest(level))
		// Whatever the machine's owner has it sleep by, firmware has no part in
		// this.
		if err == nil && state == "mem" && mem.Current != deep {
			pmUndo := undo
			undo = func() error { return errors.Join(m.Power.SetMemSleep(mem.Current), pmUndo()) }
			err = m.Power.SetMemSleep(deep)
		}
		return Prepared{Undo: undo}, err
	}
}

// deep is the value of /sys/power/mem_sleep that takes CPUs offline.
const deep = "deep"

// sleepUnsupported returns an [*Unsupported] if the machine cannot go into a
// state of sleep, and what mem means there.
func sleepUnsupported(m *Machine, state string) (mem suspend.Choice, err error) {
	states, err := m.Power.States()
	switch {
	case err != nil:
		return mem, suite.Unsupportedf("%v", err)
	case !slices.Contains(states, state):
		return mem, suite.Unsupportedf("/sys/power/state has %v, not %s", states, state)
	case state == "mem":
		if mem, err = m.Power.MemSleep(); err != nil {
			return mem, suite.Unsupportedf("%v", err)
		} else if !mem.Has(deep) {
			return mem, suite.Unsupportedf("mem means one of %v here, which take no CPU offline (/sys/power/mem_sleep)", mem.All)
		}
	}
	return mem, nil
}

func enter(state string) func(*Operation) error {
	return func(o *Operation) error { return o.Machine.Power.Enter(state) }
}

// enterWoken suspends while a wakeup event is going on.
func enterWoken(state string) func(*Operation) error {
	return func(o *Operation) error {
		power := o.Machine.Power
		if err := expectWakeup(power); err != nil {
			return err
		}
		release, err := suspend.HoldWakeup()
		if err != nil {
			return err
		}
		return errors.Join(power.Enter(state), release())
	}
}

// expectWakeup has the next suspend aborted by a wakeup event.
func expectWakeup(power suspend.FS) error {
	const tries = 10
	for n := 1; ; n++ {
		count, err := power.WakeupCount()
		if err != nil {
			return err
		}
		// Another event may have come in between, such as a key.
		if err := power.SetWakeupCount(count); !errors.Is(err, unix.EINVAL) || n == tries {
			return err
		}
	}
}

// unwoken is a set-up for suspends during a wakeup event of their own. While
// there is another one, the kernel lets nobody read the count of them, and that
// may be for ever: somebody may hold a wakelock, or a charger be one.
func unwoken(setup Setup) Setup {
	return func(m *Machine) (Prepared, error) {
		if source := activeWakeup("/sys/class/wakeup"); source != "" {
			return Prepared{}, suite.Unsupportedf("a wakeup event is going on, which is not ours: %s", source)
		}
		return setup(m)
	}
}

// activeWakeup returns the name of a wakeup source that is active, or "". Before
// v5.4 there is no directory of them.
func activeWakeup(dir string) string {
	// The error is one of the pattern.
	files, _ := filepath.Glob(filepath.Join(dir, "*/active_time_ms"))
	for _, file := range files {
		if active, err := sysfs.ReadFile(file); err != nil || active == "0" {
			continue
		}
		if name, err := sysfs.ReadFile(filepath.Join(filepath.Dir(file), "name")); err == nil {
			return name
		}
	}
	return ""
}

// notified sets suspends up to be refused by a notifier with the error, before
// tasks are frozen. pm_test is for a kernel that goes on: it must not sleep.
func notified(state string, errno unix.Errno) Setup {
	const action = "PM_SUSPEND_PREPARE"
	return func(m *Machine) (Prepared, error) {
		if was, err := m.Power.NotifierError(action); err != nil {
			return Prepared{}, suite.Unsupportedf("%v (modprobe pm-notifier-error-inject)", err)
		} else if was != 0 {
			return Prepared{}, suite.Unsupportedf("a notifier refuses %s with %s already, which is not ours", action, unix.ErrnoName(was))
		}
		prepared, err := pmTest(state, "freezer")(m)
		if err != nil {
			return prepared, err
		}
		undo := prepared.Undo
		prepared.Undo = func() error { return errors.Join(m.Power.SetNotifierError(action, 0), undo()) }
		return prepared, m.Power.SetNotifierError(action, errno)
	}
}

// hibernation sets hibernations up to turn back at a level. The image is
// written after the last of them, so they need no swap space, but its memory is
// allocated before.
func hibernation(level string) Setup {
	return func(m *Machine) (Prepared, error) {
		if !m.Options.Sleep {
			return Prepared{}, suite.Unsupportedf("memory for an image would be freed, which takes long, and the kernel waits 5 s at the level: it does with -sleep")
		}
		return pmTest("disk", level)(m)
	}
}

// alarmAfter is when the clock wakes a machine with so many CPUs, in whole
// seconds. It must be asleep by then, or nothing wakes it: before that it takes
// its CPUs offline one after the other.
func alarmAfter(cpus int) time.Duration {
	const each = 100 * time.Millisecond
	return (5*time.Second + time.Duration(cpus)*each).Truncate(time.Second)
}

// really sets up suspends all the way, which the real-time clock ends.
func really(state string) Setup {
	return func(m *Machine) (Prepared, error) {
		if !m.Options.Sleep {
			return Prepared{}, suite.Unsupportedf("the machine would really sleep, and may not wake: it does with -sleep")
		}
		mem, err := sleepUnsupported(m, state)
		if err != nil {
			return Prepared{}, err
		}
		if state == "mem" && mem.Current != deep {
			return Prepared{}, suite.Unsupportedf("mem means %s here, which takes no CPU offline (/sys/power/mem_sleep)", mem.Current)
		}
		if set, err := m.Power.Alarm(); err != nil {
			return Prepared{}, suite.Unsupportedf("nothing would wake the machine: %v", err)
		} else if set {
			return Prepared{}, suite.Unsupportedf("the real-time clock has an alarm already, which is not ours")
		}
		return Prepared{}, nil
	}
}

// enterAndWake suspends until the real-time clock's alarm.
func enterAndWake(state string) func(*Operation) error {
	return func(o *Operation) error {
		if err := o.Machine.Power.SetAlarm(alarmAfter(o.Machine.Online.Count())); err != nil {
			return err
		}
		err := o.Machine.Power.Enter(state)
		if err != nil { // nothing has taken the alarm
			err = errors.Join(err, o.Machine.Power.SetAlarm(0))
		}
		return err
	}
}

// allButOne is a set-up for suspends that take all CPUs offline but one, which
// must be given. CPUs of somebody's partition may be among them, since whatever
// runs there is frozen.
func allButOne(setup Setup) Setup {
	return func(m *Machine) (Prepared, error) {
		online, err := m.CPUs.Online()
		if err != nil {
			return Prepared{}, err
		}
		if err := m.NotGiven(online.Without(m.Primary)); err != nil {
			return Prepared{}, suite.Unsupportedf("a suspend takes all CPUs offline but cpu%d: %v", m.Primary, err)
		}
		return setup(m)
	}
}

// butHousekeeping is a set-up for suspends whose last CPU must be one that
// tasks may run on.
func butHousekeeping(setup Setup) Setup {
	return func(m *Machine) (Prepared, error) {
		if m.Booted(IsolcpusFirst) {
			return Prepared{}, suite.Unsupportedf("the CPU that stays online is isolated, which TestSuspend/last-housekeeping is about")
		}
		return allButOne(setup)(m)
	}
}

// ofLast is a set-up for the last of the CPUs alone: on x86 the system does not
// suspend while CPU 0 is offline.
func ofLast(setup Setup) Setup {
	return func(m *Machine) (Prepared, error) {
		prepared, err := setup(m)
		prepared.CPUs = m.Targets[len(m.Targets)-1:]
		return prepared, err
	}
}
