package scripted

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// rule is what a script says of an operation on a CPU, separated by semicolons.
// If there are several rules for one, each is for one time, and the last for
// all later times.
//
//	ENOSPC        it fails with the errno
//	right         it does all as it must
//	anyway        it fails, and the CPU changes all the same
//	nothing       it succeeds, and the CPU stays as it is
//	silent        it sends no uevent
//	uevent NAME   it sends this uevent too
//	half 87       it leaves the CPU in this hotplug state
//	log TEXT      it logs the text
//	takes 5ms     it takes this long, before its uevent
//	returns 5ms   it takes this long from its uevent to its return
//	hang          it returns at the end of the test
type rule struct {
	errno          unix.Errno
	anyway         bool
	nothing        bool
	silent         bool
	hang           bool
	uevents        []string
	half           int
	log            string
	takes, returns time.Duration
}

// rule takes the next rule for an operation.
func (k *Kernel) rule(op string, cpu int) rule {
	key := fmt.Sprintf("%s cpu%d", op, cpu)
	rules := k.rules[key]
	if len(rules) == 0 {
		return rule{}
	}
	if len(rules) > 1 {
		k.rules[key] = rules[1:]
	}
	return rules[0]
}

// parse reads a script.
func (k *Kernel) parse(script string) error {
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if ok, err := k.parseSet(line); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		} else if ok {
			continue
		}
		operation, text, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("line %q is not OPERATION cpuN: RULE", line)
		}
		r, err := parseRule(text)
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		k.rules[operation] = append(k.rules[operation], r)
	}
	return nil
}

// parseSet reads a line that is about a set of CPUs.
func (k *Kernel) parseSet(line string) (bool, error) {
	name, list, _ := strings.Cut(line, " ")
	sets, ok := map[string][]*affinity.CPUSet{
		"cpus": {&k.present, &k.online}, "online": {&k.online}, "fixed": {&k.fixed},
		"isolated": {&k.isolated}, "nohz_full": {&k.nohzFull},
	}[name]
	if !ok || strings.Contains(line, ":") {
		return false, nil
	}
	cpus, err := affinity.ParseList(list)
	for _, set := range sets {
		*set = cpus
	}
	return true, err
}

func parseRule(text string) (r rule, err error) {
	for part := range strings.SplitSeq(text, ";") {
		word, rest, _ := strings.Cut(strings.TrimSpace(part), " ")
		switch word {
		case "right":
		case "anyway":
			r.anyway = true
		case "nothing":
			r.nothing = true
		case "silent":
			r.silent = true
		case "hang":
			r.hang = true
		case "uevent":
			r.uevents = append(r.uevents, rest)
		case "half":
			_, err = fmt.Sscan(rest, &r.half)
		case "log":
			r.log += rest + "\n"
		case "takes":
			r.takes, err = time.ParseDuration(rest)
		case "returns":
			r.returns, err = time.ParseDuration(rest)
		default:
			if r.errno = errnoOf(word); r.errno == 0 {
				err = fmt.Errorf("%q says nothing", word)
			}
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// errnoOf returns the errno of a name, or 0.
func errnoOf(name string) unix.Errno {
	for errno := unix.Errno(1); errno < 134; errno++ {
		if unix.ErrnoName(errno) == name {
			return errno
		}
	}
	return 0
}
