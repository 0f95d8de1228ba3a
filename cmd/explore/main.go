// Command explore looks for defects that nobody has thought of: it runs random
// sequences of all that user space may do with CPUs, cpusets and masks on one
// kernel after another, each in virtual machines of its own, and makes a script
// of each law that is broken. The script ci/explore builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

// guestPackage is the program that runs in the VMs.
const guestPackage = "github.com/hotplugtest/hotplugtest/cmd/explore/guest"

var program = &cli.Program{
	Name: "explore", Call: "ci/explore", Synopsis: "[flags]",
	About: "Runs random sequences of CPU hotplug, cpusets and masks on a kernel in a virtual machine, and makes a script of each\n" +
		"law that is broken. Exits 0 if none was, 1 if one was, and 125 if the kernel could not be explored.",
	Stray:   "a kernel is named by -kernel",
	Failure: cli.Untold,
}

func main() {
	o, err := parse(os.Args[1:])
	os.Exit(program.Run(err, o.explore))
}

// errFound says that laws are broken.
var errFound = &cli.Told{What: "laws are broken", Status: cli.Failed}

// options are what the command line says.
type options struct {
	vm        vm.Options
	kernels   []string
	profiles  []profile.Profile
	arch      string
	time      time.Duration
	seed      uint64
	length    int
	most      int // findings of all kernels; 0: any number
	dir       cli.Dir
	replay    string
	sequences string // the text of the file replay
	key       string // of the finding that it shows; "": any
	reduce    bool   // what replay shows
	scripts   bool   // run them
	all       bool   // findings that are known too
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("explore", flag.ContinueOnError)
	o.dir.Flag(flags)
	flags.Func("kernel", vm.KernelUsage+"; may be repeated (default "+vm.DefaultKernel+")", func(s string) error {
		o.kernels = append(o.kernels, s)
		return nil
	})
	profile.Flag(flags, &o.profiles)
	flags.StringVar(&o.arch, "arch", runtime.GOARCH, "`GOARCH` of the kernel")
	flags.DurationVar(&o.time, "for", 10*time.Minute, "`time` to explore each kernel; to reduce what is found then, and to run the scripts, takes minutes more")
	flags.Uint64Var(&o.seed, "seed", 1, "decides what is drawn")
	flags.IntVar(&o.length, "length", 40, "`steps` of a sequence")
	flags.IntVar(&o.most, "findings", 0, "end after this `number` of findings (default: go on)")
	flags.StringVar(&o.replay, "replay", "", "run the sequence in this `file` instead, such as out/findings/NAME/sequence.txt, and look for the finding that its first line names")
	flags.BoolVar(&o.reduce, "reduce", false, "with -replay: reduce what the sequence shows, in fresh VMs")
	flags.BoolVar(&o.all, "all", false, "show findings too that are known to be defects of the kernel; otherwise they are counted")
	flags.BoolVar(&o.scripts, "scripts", true, "run the script of each finding on each kernel")
	flags.StringVar(&o.vm.Out, "out", "out", "`directory` for findings/ and console.log")
	o.vm.Flags(flags)
	if _, err := program.Parse(flags, args); err != nil {
		return nil, err
	}
	return o, o.check()
}

// check tells what the command line has that cannot be, and completes it.
func (o *options) check() error {
	if o.time <= 0 {
		return fmt.Errorf("-for %v: exploring takes time", o.time)
	}
	if o.length <= 0 {
		return fmt.Errorf("-length %d: a sequence has steps", o.length)
	}
	if o.most < 0 {
		return fmt.Errorf("-findings %d: there are no fewer than none", o.most)
	}
	if o.vm.Timeout != 0 {
		return errors.New("-timeout: the explorer bounds each VM itself; -for is the time to explore")
	}
	if !slices.Contains(vm.Architectures(), o.arch) {
		return fmt.Errorf("-arch %s: there is no virtual machine for it, only for %s", o.arch, strings.Join(vm.Architectures(), ", "))
	}
	if oneCPU.MatchString(o.vm.SMP) {
		return fmt.Errorf("-smp %s: it takes two CPUs or more, one to take offline and one that stays", o.vm.SMP)
	}
	if len(o.kernels) == 0 {
		o.kernels = []string{vm.DefaultKernel}
	}
	if len(o.profiles) == 0 {
		o.profiles, _ = profile.Named(profile.Default)
	}
	for i, kernel := range o.kernels {
		o.kernels[i] = vmkernel.From(string(o.dir), kernel)
	}
	var err error
	if o.vm.Out, err = filepath.Abs(o.dir.Path(o.vm.Out)); err != nil {
		return err
	}
	if o.reduce && o.replay == "" {
		return errors.New("-reduce: it is for -replay; what is found otherwise is reduced anyway")
	}
	if o.replay == "" {
		return nil
	}
	text, err := os.ReadFile(o.dir.Path(o.replay))
	if err != nil {
		return fmt.Errorf("-replay: %w", err)
	}
	if _, err := explore.ReadSequences(string(text)); err != nil {
		return fmt.Errorf("-replay %s: %w", o.replay, err)
	}
	o.sequences, o.key = string(text), keyOf(string(text))
	return nil
}

// keyOf returns the key that the first line of a finding's sequence has, or "".
func keyOf(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	key, ok := strings.CutPrefix(strings.TrimSpace(first), "# ")
	law, _, _ := strings.Cut(key, ": ")
	if !ok || !slices.ContainsFunc(allLaws(), func(l explore.Law) bool { return l.Name == law }) {
		return ""
	}
	return key
}

// oneCPU matches a -smp of one CPU.
var oneCPU = regexp.MustCompile(`^(cpus=)?1(,|$)`)

// prepare returns a hunt for each kernel and profile.
func (o *options) prepare(ctx context.Context, tmp, binary string, all *findings) (hunts []*hunt, err error) {
	for _, kernel := range o.kernels {
		options := o.vm
		options.Kernel = kernel
		prepared, err := vm.Prepare(ctx, options, o.arch, os.Stderr)
		if err != nil {
			return nil, err
		}
		options.Init = filepath.Join(tmp, "init")
		if err := prepared.WriteInit(options.Init); err != nil {
			return nil, err
		}
		for _, p := range o.profiles {
			hunts = append(hunts, &hunt{
				name: p.Of(kernel), source: options.Changed(p.Of(prepared.Kernel())), dir: filepath.Join(o.vm.Out, p.Of(filepath.Base(kernel))),
				vm: p.Options(options), guest: binary, all: all, options: o, runVM: vm.Run,
			})
		}
	}
	return hunts, nil
}

// explore does all of it.
func (o *options) explore(ctx context.Context) error {
	runtime.LockOSThread() // QEMU ends with it
	unlock, err := cli.LockOut(o.vm.Out)
	if err != nil {
		return err
	}
	defer unlock()
	tmp, err := os.MkdirTemp("", "explore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	guest, err := vm.Build(ctx, "explore-guest", o.arch, guestPackage, "build")
	if err != nil {
		return err
	}
	binary := filepath.Join(tmp, "guest")
	if err := os.WriteFile(binary, guest, 0o755); err != nil {
		return err
	}
	all, err := o.findings()
	if err != nil {
		return err
	}
	hunts, err := o.prepare(ctx, tmp, binary, all)
	if err != nil {
		return err
	}
	// The guest gets what is in testdata here.
	if err := os.Chdir(tmp); err != nil {
		return err
	}
	var errs []error
	for _, h := range hunts {
		if err := h.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", h.name, err))
		}
	}
	if err := o.conclude(ctx, hunts, all); err != nil {
		errs = append(errs, err)
	}
	switch err := errors.Join(errs...); {
	case err != nil && len(all.list) == 0:
		return err
	case err != nil:
		fmt.Fprintln(os.Stderr, "explore:", err)
		return errFound
	case len(all.list) > 0:
		return errFound
	}
	return nil
}
