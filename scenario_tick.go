package hotplugtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// tickScenarios are about CPUs of nohz_full=.
var tickScenarios = []Scenario{
	{
		Name:    "tickless",
		Promise: "a CPU of nohz_full= on which one thread computes has no tick, also while another CPU is offline, and when that is back",
		Source:  `Documentation/timers/no_hz.rst: "Omit Scheduling-Clock Ticks For CPUs With Only One Runnable Task"; kernel/rcu/tree.c: TICK_DEP_BIT_RCU`,
		Needs:   needsTickless,
		Cycle:   staysTickless,
	},
}

// tickWindow is for how long the interrupts of a timer are counted, and
// fewTicks is less than the tick makes in that time: it has 100 Hz at least.
const (
	tickWindow = 500 * time.Millisecond
	fewTicks   = 40
)

// timerInterrupts returns how many interrupts of its own timer a CPU has had.
func timerInterrupts(cpu int) (int, error) {
	return sysfs.Read("/proc/interrupts", func(text string) (int, error) { return parseTimerInterrupts(text, cpu) })
}

// parseTimerInterrupts reads the line LOC, which x86 has.
func parseTimerInterrupts(text string, cpu int) (int, error) {
	head, rows, _ := strings.Cut(text, "\n")
	for column, name := range strings.Fields(head) {
		if name != fmt.Sprintf("CPU%d", cpu) {
			continue
		}
		for line := range strings.Lines(rows) {
			if fields := strings.Fields(line); len(fields) > column+1 && fields[0] == "LOC:" {
				return strconv.Atoi(fields[column+1])
			}
		}
		return 0, errors.New("no line LOC")
	}
	return 0, fmt.Errorf("no column of cpu%d", cpu)
}

// tickless returns a CPU of nohz_full= that is online, and not the one that
// goes.
func tickless(m *Machine, goes int) (int, error) {
	cpus, err := m.CPUs.NohzFull()
	if err != nil {
		return 0, err
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return 0, err
	}
	on, ok := cpus.Intersect(online).Without(goes).First()
	if !ok {
		return 0, suite.Unsupportedf("no other CPU of nohz_full= is online")
	}
	return on, nil
}

func needsTickless(m *Machine) error {
	if !m.Booted(NohzFull) {
		return suite.Unsupportedf("booted without nohz_full=")
	}
	on, err := tickless(m, -1)
	if err == nil {
		if _, cannot := timerInterrupts(on); cannot != nil {
			err = suite.Unsupportedf("%v", cannot)
		}
	}
	return err
}

// staysTickless looks for the tick of a CPU of nohz_full= on which a thread
// computes, while another CPU is offline and when it is back. A machine where
// the first has its tick all the same, because of a second task or a timer, is
// none to ask.
func staysTickless(x *Scene, cpu int) error {
	on, err := tickless(x.Machine, cpu)
	if err != nil {
		return err
	}
	if n, err := ticks(on); err != nil {
		return err
	} else if n > fewTicks {
		return suite.Unsupportedf("cpu%d of nohz_full= has a tick with all CPUs online: %d timer interrupts in %v", on, n, tickWindow)
	}
	stopped := func(when string) error {
		n, err := ticks(on)
		if err == nil && n > fewTicks {
			err = fmt.Errorf("%s, cpu%d of nohz_full= has a tick: at least %d timer interrupts in each %v for %v, though one thread computes on it",
				when, on, n, tickWindow, suite.TaskTimeout)
		}
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = stopped(fmt.Sprintf("while cpu%d is offline", cpu))
	return errors.Join(err, x.Set(cpu, Online), stopped(fmt.Sprintf("when cpu%d is back", cpu)))
}

// ticks has a thread compute on a CPU, and counts the interrupts of the CPU's
// timer in windows, until there are few. It returns the fewest.
func ticks(cpu int) (fewest int, err error) {
	err = affinity.Run(affinity.Of(cpu), func() error {
		for end := time.Now().Add(suite.TaskTimeout); ; {
			before, err := timerInterrupts(cpu)
			if err != nil {
				return err
			}
			spin(tickWindow)
			after, err := timerInterrupts(cpu)
			if err != nil {
				return err
			}
			if n := after - before; fewest == 0 || n < fewest {
				fewest = n
			}
			if fewest <= fewTicks || time.Now().After(end) {
				return nil
			}
		}
	})
	return fewest, err
}
