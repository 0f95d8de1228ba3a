// Command widen delays one function of a kernel after another, of those that a
// hotplug operation depends on, and tells which rows of the suite notice: a
// delay never makes a correct kernel incorrect. The script ci/widen is a short
// name for it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

var program = &cli.Program{
	Name: "widen", Call: "ci/widen", Synopsis: "[flags] [-- flags of the test binary]",
	About: "Traces which functions a kernel runs to take a CPU offline and online, delays one after the other, and prints which\n" +
		"tests of the suite fail then. Goes on where it was if it is called again. Exits 0 if no test failed, 1 if one did, and\n" +
		"125 if nothing could be told.",
	Stray:   "a kernel is named by -kernel, and flags of the test binary come after --",
	Failure: cli.Untold,
}

func main() {
	w, err := parse(os.Args[1:])
	os.Exit(program.Run(err, w.run))
}

// defaultDelay is longer than an operation takes on a machine that is not very
// busy. A shorter one may be over before the operation returns.
const defaultDelay = 500 * time.Millisecond

// widen is what the command line says.
type widen struct {
	vm    vm.Options
	boot  profile.Profile
	limit time.Duration
	delay time.Duration
	rows  string // tests to run, instead of those of the transition
	out   string
	dir   cli.Dir
	args  []string // for the test binary

	state *state

	// suite is [lab.Runner.Run], except in tests.
	suite func(ctx context.Context, out string, args ...string) (*lab.Outcome, error)
}

func parse(args []string) (*widen, error) {
	w := &widen{}
	flags := flag.NewFlagSet("widen", flag.ContinueOnError)
	w.dir.Flag(flags)
	flags.StringVar(&w.vm.Kernel, "kernel", vm.DefaultKernel, vm.KernelUsage)
	flags.DurationVar(&w.limit, "for", time.Hour, "begin nothing after this `time`, and end what runs then")
	flags.DurationVar(&w.delay, "by", defaultDelay, "the `time` that each call waits")
	flags.StringVar(&w.rows, "run", "", "run the tests that match the `regexp`, as in go test -run, instead of those of the transition in which a function was seen")
	flags.StringVar(&w.out, "out", "out/widen", "`directory` for what was found so far and for the reports of each run")
	w.vm.Flags(flags)
	w.boot.Name = profile.Default
	flags.Func("profile", "`name` of a way to boot the kernel: "+strings.Join(profile.Names(), ", ")+" (default "+profile.Default+")", w.setProfile)
	var err error
	if w.args, err = program.Parse(flags, args); err != nil {
		return w, err
	}
	if _, err := vm.ParseDelay("f=" + w.delay.String()); err != nil {
		return w, fmt.Errorf("-by %v: a delay is of whole milliseconds, from %v to %v", w.delay, vm.MinDelay, vm.MaxDelay)
	}
	if w.limit <= 0 {
		return w, fmt.Errorf("-for %v: it takes time", w.limit)
	}
	w.vm.Kernel = vmkernel.From(string(w.dir), w.vm.Kernel)
	w.out = w.dir.Path(w.out)
	return w, nil
}

func (w *widen) setProfile(name string) error {
	boots, err := profile.Named(name)
	if err == nil && len(boots) > 1 {
		err = errors.New("one way to boot the kernel at a time")
	}
	if err == nil {
		boots, err = profile.For(boots, runtime.GOARCH)
	}
	if err == nil {
		w.boot = boots[0]
	}
	return err
}

// errOver is the cause of a context that -for has ended.
var errOver = errors.New("-for is over")

// run does as much as -for allows, and prints the table.
func (w *widen) run(ctx context.Context) (err error) {
	runtime.LockOSThread() // QEMU ends with it
	ctx, cancel := context.WithTimeoutCause(ctx, w.limit, errOver)
	defer cancel()
	// Runs for several kernels and profiles can share -out: each has a directory below it.
	unlock, err := cli.LockOut(w.reports())
	if err != nil {
		return err
	}
	defer unlock()
	prepared, err := vm.Prepare(ctx, w.vm, runtime.GOARCH, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", w.boot.Of(w.vm.Kernel), w.vm.Changed(prepared.Kernel()))
	runner, err := lab.NewRunner(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	w.suite = runner.Run
	key, err := lab.Key(prepared.Kernel(), prepared.File())
	if err != nil {
		return err
	}
	if w.state, err = openState(filepath.Join(w.reports(), stateFile), w.key(key)); err != nil {
		return err
	}
	err = w.delayAll(ctx)
	if err != nil && !errors.Is(context.Cause(ctx), errOver) {
		return err
	}
	fmt.Print(w.state.table(w))
	return w.state.verdict()
}

// reports is the directory of the reports of a kernel that is booted in one way.
func (w *widen) reports() string {
	name := strings.ReplaceAll(w.vm.Kernel, "/", "-")
	if vmkernel.IsPath(w.vm.Kernel, "") {
		name = filepath.Base(w.vm.Kernel)
	}
	if w.boot.Name != profile.Default {
		name += "-" + w.boot.Name
	}
	return filepath.Join(w.out, name)
}

// key is all that what was found so far depends on.
func (w *widen) key(kernel string) string {
	return strings.Join(append([]string{kernel, w.delay.String(), w.rows}, append(w.flags(), w.args...)...), "\n")
}

// flags are those of ci/selftest that every run has.
func (w *widen) flags() []string {
	flags := []string{"-kernel", w.vm.Kernel}
	if w.boot.Name != profile.Default {
		flags = append(flags, "-profile", w.boot.Name)
	}
	for _, f := range []struct{ name, value, standard string }{
		{"-smp", w.vm.SMP, "4"}, {"-mem", w.vm.Mem, "1G"}, {"-append", w.vm.Append, ""}, {"-qemu", strings.Join(w.vm.QEMU, " "), ""},
	} {
		if f.value != f.standard {
			flags = append(flags, f.name, f.value)
		}
	}
	if w.vm.Packed {
		flags = append(flags, "-packed")
	}
	if w.vm.Timeout > 0 {
		flags = append(flags, "-timeout", w.vm.Timeout.String())
	}
	for _, module := range w.vm.Modules {
		flags = append(flags, "-module", module)
	}
	for _, poke := range w.vm.Pokes {
		flags = append(flags, "-poke", poke)
	}
	for _, delay := range w.vm.Delays {
		flags = append(flags, "-delay", delay)
	}
	return flags
}

// delayAll finds the suspects and runs the suite with each of them delayed,
// except for what the state has already.
func (w *widen) delayAll(ctx context.Context) error {
	if w.state.Suspects == nil {
		if err := w.findSuspects(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("%d functions, %d of them done\n", len(w.state.Suspects), len(w.state.Runs))
	if w.state.Baseline == nil {
		all := w.pattern([]string{"offline", "online"})
		o, err := w.test(ctx, "baseline", all)
		if err != nil {
			return err
		}
		if o.Died != "" {
			return fmt.Errorf("without a delay %s: what dies by itself says nothing of a delay", o)
		}
		fmt.Printf("without a delay: %d tests, %d failed %s\n", o.Tests, len(o.Failed), o)
		w.state.Baseline = o
		if err := w.state.save(); err != nil {
			return err
		}
	}
	for n, s := range w.state.Suspects {
		if _, done := w.state.Runs[s.Function]; done {
			continue
		}
		r, err := w.delayOne(ctx, s)
		if err != nil {
			return err
		}
		w.state.Runs[s.Function] = r
		if err := w.state.save(); err != nil {
			return err
		}
		fmt.Printf("%d of %d %v: %v\n", n+1, len(w.state.Suspects), s, r)
	}
	return nil
}
