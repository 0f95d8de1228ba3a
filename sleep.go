package hotplugtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suspend"
)

// pmTest sets suspends up to turn back at a level, without a pause there: what is looked at is what they leave behind.
func pmTest(state, level string) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		mem, missing := s.lacks(state)
		if missing != "" {
			return nil, nil, missing, nil
		}
		was, err := s.power.PMTest()
		if err != nil {
			return nil, nil, fmt.Sprintf("%v (CONFIG_PM_DEBUG)", err), nil
		}
		delay, err := s.power.TestDelay()
		if err != nil {
			return nil, nil, "", err
		}
		var back undoList
		back.add(func() error { return s.power.SetPMTest(was.Current) })
		back.add(func() error { return s.power.SetTestDelay(delay) })
		err = errors.Join(s.power.SetTestDelay(0), s.power.SetPMTest(level))
		// Whatever the machine's owner has it sleep by, firmware has no part in this.
		if err == nil && state == "mem" && mem.Current != deep {
			back.add(func() error { return s.power.SetMemSleep(mem.Current) })
			err = s.power.SetMemSleep(deep)
		}
		return s.targets, back.run, "", err
	}
}

// deep is what of /sys/power/mem_sleep takes CPUs offline.
const deep = "deep"

// lacks tells why the machine cannot go into a state of sleep, or "", and what mem means there.
func (s *Suite) lacks(state string) (mem suspend.Choice, missing string) {
	states, err := s.power.States()
	switch {
	case err != nil:
		return mem, err.Error()
	case !slices.Contains(states, state):
		return mem, fmt.Sprintf("/sys/power/state has %v, not %s", states, state)
	case state == "mem":
		if mem, err = s.power.MemSleep(); err != nil {
			return mem, err.Error()
		} else if !mem.Has(deep) {
			return mem, fmt.Sprintf("mem means one of %v here, which take no CPU offline (/sys/power/mem_sleep)", mem.All)
		}
	}
	return mem, ""
}

// enterWoken suspends while a wakeup event is going on.
func enterWoken(state string) func(*Cycle) error {
	return func(c *Cycle) error {
		count, err := c.suite.power.WakeupCount()
		if err != nil {
			return err
		}
		if err := c.suite.power.SetWakeupCount(count); err != nil {
			return err
		}
		release, err := suspend.HoldWakeup()
		if err != nil {
			return err
		}
		return errors.Join(c.suite.power.Enter(state), release())
	}
}

// notified sets suspends up to be refused by a notifier with the error, before tasks are frozen. pm_test is for a kernel that
// goes on: it is not to sleep.
func notified(state string, errno unix.Errno) func(*Suite) ([]int, func() error, string, error) {
	const action = "PM_SUSPEND_PREPARE"
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		if was, err := s.power.NotifierError(action); err != nil {
			return nil, nil, fmt.Sprintf("%v (modprobe pm-notifier-error-inject)", err), nil
		} else if was != 0 {
			return nil, nil, fmt.Sprintf("a notifier refuses %s with %s already, which is not ours", action, unix.ErrnoName(was)), nil
		}
		cpus, back, missing, err := pmTest(state, "freezer")(s)
		if err != nil || missing != "" {
			return nil, back, missing, err
		}
		undo = func() error { return errors.Join(s.power.SetNotifierError(action, 0), back()) }
		return cpus, undo, "", s.power.SetNotifierError(action, errno)
	}
}

// hibernation sets hibernations up to turn back at a level. The image is written after the last of them, so they need no swap
// space, but its memory is allocated before.
func hibernation(level string) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		if !s.opts.Sleep {
			return nil, nil, "memory for an image would be freed, which takes long, and the kernel waits 5 s at the level: it does with -sleep", nil
		}
		return pmTest("disk", level)(s)
	}
}

// alarmAfter is when the clock wakes the machine, in whole seconds; it has to be asleep by then.
const alarmAfter = 5 * time.Second

// really sets up suspends all the way, which the real-time clock ends.
func really(state string) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		if !s.opts.Sleep {
			return nil, nil, "the machine would really sleep, and may not wake: it does with -sleep", nil
		}
		if mem, missing := s.lacks(state); missing != "" {
			return nil, nil, missing, nil
		} else if state == "mem" && mem.Current != deep {
			return nil, nil, fmt.Sprintf("mem means %s here, which takes no CPU offline (/sys/power/mem_sleep)", mem.Current), nil
		}
		if set, err := s.power.Alarm(); err != nil {
			return nil, nil, fmt.Sprintf("nothing would wake the machine: %v", err), nil
		} else if set {
			return nil, nil, "the real-time clock has an alarm already, which is not ours", nil
		}
		return s.targets, nil, "", nil
	}
}

// enterAndWake suspends until the real-time clock's alarm.
func enterAndWake(state string) func(*Cycle) error {
	return func(c *Cycle) error {
		if err := c.suite.power.SetAlarm(alarmAfter); err != nil {
			return err
		}
		return c.suite.power.Enter(state)
	}
}

func enter(state string) func(*Cycle) error {
	return func(c *Cycle) error { return c.suite.power.Enter(state) }
}

// allButOne is a set-up for suspends that take all CPUs offline but one, so that those have to be given. Of somebody's
// partition they may be, since whatever runs there is frozen.
func allButOne(setup func(*Suite) ([]int, func() error, string, error)) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		online, err := s.cpus.Online()
		if err != nil {
			return nil, nil, "", err
		}
		if why := s.notGiven(online.Without(s.awake)); why != "" {
			return nil, nil, fmt.Sprintf("a suspend takes all CPUs offline but cpu%d: %s", s.awake, why), nil
		}
		return setup(s)
	}
}

// butHousekeeping is a set-up for suspends whose last CPU has to be one that tasks may run on.
func butHousekeeping(setup func(*Suite) ([]int, func() error, string, error)) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		if s.counts(IsolcpusFirst) {
			return nil, nil, "the CPU that stays online is isolated, which TestSuspend/last-housekeeping is about", nil
		}
		return allButOne(setup)(s)
	}
}

// ofLast is a set-up for the last of its CPUs alone: on x86 the system does not suspend while CPU 0 is offline.
func ofLast(setup func(*Suite) ([]int, func() error, string, error)) func(*Suite) ([]int, func() error, string, error) {
	return func(s *Suite) (cpus []int, undo func() error, missing string, err error) {
		cpus, undo, missing, err = setup(s)
		return cpus[max(0, len(cpus)-1):], undo, missing, err
	}
}
