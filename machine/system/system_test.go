// Package system_test runs the suite as people do, on a whole Debian system:
// systemd, udev, cron, irqbalance, containers, services with CPUs of their own,
// real PCI devices whose interrupts somebody has pinned. Nothing there may be
// different afterwards, however a run ends, unless the run says so.
//
// The script ci/system runs it. It boots the system in a virtual machine, as
// root, because it takes root to build the disk image.
package system_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	suite    = flag.String("suite", "", "Debian `suite` of the system to boot; ci/system says which")
	hybrid   = flag.Bool("hybrid", false, "boot with cpusets of cgroup v1, which systemd calls the hybrid hierarchy")
	binary   = flag.String("binary", "", "`path` of the suite's static test binary")
	checkout = flag.String("checkout", "../..", "`directory` of the checkout that is cloned into the system")
	keep     = flag.Bool("keep", false, "leave the virtual machine running after a failure, until this is interrupted")
	shell    = flag.Bool("shell", false, "boot the system and give a shell in it, in place of the tests")
	only     = regexp.MustCompile("")
	thrice   = flag.Bool("thrice", false, "run go test ./... three times, not once")
)

func TestMain(m *testing.M) {
	if os.Getenv(lookEnv) != "" {
		os.Exit(lookMain())
	}
	flag.Func("only", "run just the cases whose names match the `regexp`", func(s string) (err error) {
		only, err = regexp.Compile(s)
		return err
	})
	flag.Parse()
	os.Exit(m.Run())
}

// A testCase is something that is done with the suite in the system. The
// machine has to be the same before and after it, but for what it allows.
type testCase struct {
	name string

	// run does it. The guest is as after its boot, except for what cases before
	// may have left allowed.
	run func(t *testing.T, g *guest)

	// ignore matches the names of facts that may be different after it.
	// Default: none.
	ignore string

	// fresh says that the guest must be booted anew after it, even if it
	// passes.
	fresh bool

	// v1 is whether the case is also for a system with cpusets of cgroup v1.
	v1 bool

	// balanced leaves irqbalance running. Else it is stopped, and interrupts
	// stay where somebody puts them.
	balanced bool
}

// limit bounds a single command in the guest. The slowest is go test ./...,
// which takes a quarter of an hour on two busy cores.
const limit = 40 * time.Minute

func TestSystem(t *testing.T) {
	if *suite == "" {
		t.Skip("boots a whole system in a virtual machine: ci/system runs this")
	}
	// QEMU ends with this thread, and that with an interrupt.
	runtime.LockOSThread()
	d := disks(t)
	g := d.boot(t)
	defer func() { g.stop() }()
	if *shell {
		g.shell(t)
		return
	}
	for i, c := range cases {
		if !wanted(c) {
			continue
		}
		started := time.Now()
		var changed bool
		passed := t.Run(c.name, func(t *testing.T) { c.in(t, g, &changed) })
		fmt.Printf("     took %v\n", time.Since(started).Round(time.Second))
		if !passed && *keep {
			fmt.Printf("==== the system is left as it is until this is interrupted; log in with\n     %s\n", g.login("root"))
			_ = unix.Pause()
		}
		if !passed && g.standsStill(t) {
			fmt.Printf("==== the system stands still; its console ends with\n%s\n", tail(g.said()))
			changed = true
		}
		if changed && slices.ContainsFunc(cases[i+1:], wanted) {
			g.stop()
			g = d.boot(t)
		}
	}
}

// startIRQBalance returns when all threads of the service are there. systemctl
// returns as soon as it has forked.
const startIRQBalance = `
systemctl start irqbalance
pid=$(systemctl show --property MainPID --value irqbalance)
until grep -qs gmain /proc/$pid/task/*/comm; do sleep 0.1; done`

// wanted reports whether a case is to be run, by -only and by the cgroups.
func wanted(c testCase) bool {
	return only.MatchString(c.name) && (c.v1 || !*hybrid)
}

// in runs the case in the guest and compares the machine before and after it.
// changed tells whether the guest must be booted anew for the next case.
func (c testCase) in(t *testing.T, g *guest, changed *bool) {
	*changed = true
	if c.balanced {
		g.must(t, "root", startIRQBalance)
	} else {
		g.must(t, "root", "systemctl stop irqbalance")
		g.pin(t)
	}
	said := len(g.said())
	before := g.look(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console meanwhile, of which %s has all:\n%s", g.console, tail(g.said()[said:]))
		}
		*changed = c.fresh || len(before.different(g.look(t), c.ignore)) > 0
	})
	c.run(t, g)
	if !c.fresh { // else it has compared what it is about
		g.same(t, before, c.ignore)
	}
}
