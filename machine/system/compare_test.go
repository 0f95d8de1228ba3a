package system_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A state is what is true of the guest: a fact's name, and its values in order.
type state map[string][]string

// parseState reads what look has written.
func parseState(text string) state {
	s := make(state)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok {
			s[name] = append(s[name], value)
		}
	}
	for name, values := range s {
		slices.Sort(values)
		if strings.HasPrefix(name, "thread ") {
			// How many threads a program has is its own affair.
			s[name] = slices.Compact(values)
		}
	}
	return s
}

// mayComeAndGo matches facts that are compared only if they are in both states:
// the kernel starts and ends threads of its own, and udev its workers.
var mayComeAndGo = regexp.MustCompile(`^thread ("|/ )?.*"" *$|^thread .*\(udev-worker\)`)

// different lists what differs in now from was, a line each, except facts whose
// name matches ignore; "" matches none.
func (was state) different(now state, ignore string) []string {
	ignored := func(string) bool { return false }
	if ignore != "" {
		ignored = regexp.MustCompile(ignore).MatchString
	}
	names := make(map[string]bool)
	for _, s := range []state{was, now} {
		for name := range s {
			names[name] = true
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, had := was[name]
		after, has := now[name]
		switch {
		case ignored(name), slices.Equal(before, after):
		case (!had || !has) && mayComeAndGo.MatchString(name):
		case !had:
			lines = append(lines, fmt.Sprintf("%s: is %s, and was not there", name, values(after)))
		case !has:
			lines = append(lines, fmt.Sprintf("%s: is gone, and was %s", name, values(before)))
		default:
			lines = append(lines, fmt.Sprintf("%s: is %s, and was %s", name, values(after), values(before)))
		}
	}
	return lines
}

func values(list []string) string { return fmt.Sprintf("%q", strings.Join(list, "; ")) }

// settleLimit is how long the system may take to be as it was: a supervisor
// restores it within 10 s, and after that udev and systemd have work to do.
const settleLimit = 30 * time.Second

// same fails the test if the guest is not as it was, or does not get so by
// itself within the limit.
func (g *guest) same(t *testing.T, before state, ignore string) {
	t.Helper()
	var diffs []string
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); {
		if diffs = before.different(g.look(t), ignore); len(diffs) == 0 {
			return
		}
	}
	const most = 40
	if more := len(diffs) - most; more > 0 {
		diffs = append(diffs[:most], fmt.Sprintf("and %d more", more))
	}
	t.Errorf("the machine is not as it was:\n  %s", strings.Join(diffs, "\n  "))
}

// look returns the guest's state.
func (g *guest) look(t *testing.T) state {
	t.Helper()
	out, code := g.run(t, "root", lookEnv+"=1 /root/system.test")
	require.Equal(t, 0, code, out)
	s := parseState(out)
	require.NotEmpty(t, s["file /sys/devices/system/cpu/online"], "the state has nothing of CPUs:\n%s", out)
	return s
}

// one returns the single value of a fact.
func (s state) one(t *testing.T, name string) string {
	t.Helper()
	require.Len(t, s[name], 1, name)
	return s[name][0]
}
