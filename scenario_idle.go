package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/stat"
	"github.com/hotplugtest/hotplugtest/suite"
)

// idleScenarios are about CPUs with nothing to do.
var idleScenarios = []Scenario{
	{
		Name:    "idle-timers",
		Promise: "the timer of an idle CPU expires when it is due while another CPU is offline and when that is back, and so does one of the CPU that is back",
		Source: `socket(7): SO_RCVTIMEO; kernel/time/timer_migration.c: an idle CPU leaves its timers to one that is not, since ` +
			`7ee988770326 ("timers: Implement the hierarchical pull model", v6.9)`,
		Together: true,
		Cycle:    idleTimersExpire,
	},
}

const (
	// idleTime is long enough for a CPU to stop its tick.
	idleTime = 100 * time.Millisecond
	// idleTries is how often a CPU is idle for that time, unless most of its timers
	// have been on time before. Anything may wake it up now and then.
	idleTries = 7
	// lateLimit is longer than a timer is late by, unless the machine is very
	// busy. One that nobody looks after waits for the next interrupt of its CPU,
	// which is most of a second on a machine that does nothing else.
	lateLimit = idleTime
)

// idleTimersExpire has a CPU that stays leave its timers to others while it is
// idle, of which one goes.
func idleTimersExpire(x *Scene, cpu int) error {
	on, err := x.Staying()
	if err != nil {
		return err
	}
	if on < 0 {
		return suite.Unsupportedf("all CPUs that may be used go offline in turn: %v", x.Targets())
	}
	for _, on := range []int{on, cpu} {
		if late, err := timersLate(on); err != nil {
			return err
		} else if late > lateLimit {
			return suite.Unsupportedf("timers on cpu%d are late by %v with all CPUs online", on, late.Round(time.Millisecond))
		}
	}
	prompt := func(on int, when string) error {
		late, err := timersLate(on)
		if err == nil && late > lateLimit {
			err = fmt.Errorf("%s, timers of %v on cpu%d are late by %v, time and again for %v", when, idleTime, on, late.Round(time.Millisecond), suite.TaskTimeout)
		}
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = prompt(on, fmt.Sprintf("while cpu%d is offline", cpu))
	if online := x.Set(cpu, Online); online != nil {
		return errors.Join(err, online)
	}
	back := fmt.Sprintf("when cpu%d is back", cpu)
	return errors.Join(err, prompt(on, back), prompt(cpu, back))
}

// timersLate has a thread sleep on a CPU, again and again, by a timer that the
// kernel may have another CPU look after. It returns by how much half of the
// timers were late at least. If that is long it is measured again: the least
// counts.
func timersLate(cpu int) (least time.Duration, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	err = affinity.Run(affinity.Of(cpu), func() error {
		for end := time.Now().Add(suite.TaskTimeout); ; {
			var late []time.Duration
			for onTime := 0; len(late) < idleTries && onTime <= idleTries/2; {
				due := time.Now().Add(idleTime)
				if _, err := timeOut(pair[0], due); err != nil {
					return err
				}
				late = append(late, time.Since(due))
				if late[len(late)-1] <= lateLimit {
					onTime++
				}
			}
			if median := stat.Median(late); least == 0 || median < least {
				least = median
			}
			if least <= lateLimit || time.Now().After(end) {
				return nil
			}
		}
	})
	return least, err
}
