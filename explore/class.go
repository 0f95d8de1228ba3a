package explore

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// classHelp says what the options of chrt may be.
const classHelp = "want chrt -o|-b|-i -p 0, -f|-r -p PRIORITY or -d -T RUNTIME -D DEADLINE -P PERIOD -p 0 in nanoseconds, and $T1 to $T9 for the TASK"

var (
	classPattern    = regexp.MustCompile(`^-([obifr]) -p ([0-9]{1,2})$`)
	deadlinePattern = regexp.MustCompile(`^-d -T ([0-9]{1,12}) -D ([0-9]{1,12}) -P ([0-9]{1,12}) -p 0$`)
)

// policies are the scheduling classes by their options of chrt(1).
var policies = map[string]uint32{
	"o": unix.SCHED_NORMAL, "b": unix.SCHED_BATCH, "i": unix.SCHED_IDLE, "f": unix.SCHED_FIFO, "r": unix.SCHED_RR,
}

// parseClass parses the options of chrt, without the task.
func parseClass(options string) (*unix.SchedAttr, error) {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr}
	if m := classPattern.FindStringSubmatch(options); m != nil {
		priority, err := strconv.ParseUint(m[2], 10, 32)
		attr.Policy, attr.Priority = policies[m[1]], uint32(priority)
		return attr, err
	}
	m := deadlinePattern.FindStringSubmatch(options)
	if m == nil {
		return nil, fmt.Errorf("%q: %s", options, classHelp)
	}
	attr.Policy = unix.SCHED_DEADLINE
	for i, ns := range []*uint64{&attr.Runtime, &attr.Deadline, &attr.Period} {
		var err error
		if *ns, err = strconv.ParseUint(m[i+1], 10, 64); err != nil {
			return nil, err
		}
	}
	return attr, nil
}

// SetClass gives a process a scheduling class as chrt(1) does, as far as lines use
// it: args are its options and the process ID, which comes last. The error is
// one of sched_setattr(2), or says what the arguments must be.
func SetClass(args []string) error {
	if len(args) < 2 {
		return errors.New(classHelp)
	}
	last := len(args) - 1
	attr, err := parseClass(strings.Join(args[:last], " "))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(args[last])
	if err != nil {
		return fmt.Errorf("%q is no process ID", args[last])
	}
	return unix.SchedSetAttr(pid, attr, 0)
}

// ordinary are the options of chrt for the class that a task has at first, and
// deadline begins those for SCHED_DEADLINE.
const (
	ordinary = "-o -p 0"
	deadline = "-d "
)

func drawClass(d *Drawer) string {
	if !d.Version.Since(Version{6, 0}) {
		// 5.10 divides by zero in set_cpus_allowed_dl() more often than later
		// kernels, maybe for want of b6e8d40d43ae (v6.0). Each sequence would end
		// there.
		return "chrt " + Pick(d, plainClasses) + " $" + Pick(d, taskNames)
	}
	class := Pick(d, append(slices.Clone(plainClasses),
		"-d -T 1000000 -D 100000000 -P 100000000 -p 0", "-d -T 1000000 -D 100000000 -P 100000000 -p 0", "-d -T 400000000 -D 500000000 -P 500000000 -p 0",
		wholeCPU, wholeCPU,
		"-d -T 2000000 -D 1000000 -P 1000000 -p 0"))
	return "chrt " + class + " $" + Pick(d, taskNames)
}

// wholeCPU are the options for a deadline task that needs a CPU of its own: two
// of them keep two CPUs from going offline.
const wholeCPU = "-d -T 1000000000 -D 1000000000 -P 1000000000 -p 0"

// plainClasses are the options of chrt for the classes but SCHED_DEADLINE, one
// of which must be refused.
var plainClasses = []string{ordinary, "-b -p 0", "-i -p 0", "-f -p 1", "-f -p 98", "-r -p 50", "-f -p 0"}
