// Command selftest runs the suite on one kernel after another, booted in one
// way after another, each time in a virtual machine of its own, and reports on
// all of them together. The script ci/selftest builds and runs it.
package main

import (
	"cmp"
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

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/report"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/internal/testpattern"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

// suitePackage is the package whose tests are run.
const suitePackage = "github.com/hotplugtest/hotplugtest"

var program = &cli.Program{
	Name: "selftest", Call: "ci/selftest", Synopsis: "[flags] [-- flags of the test binary]",
	About: "Runs the suite on a kernel in a virtual machine. Exits 0 only if all tests passed, 1 if one failed, and 125 if none\n" +
		"could tell, by which git bisect run skips a commit.",
	Stray:   "a kernel is named by -kernel, and flags of the test binary come after --",
	Failure: cli.Untold,
}

// From the script to QEMU there are six processes, each a child of the one
// above it. Three of them are this program:
//
//	ci/selftest           builds this program and its tools, and becomes
//	selftest              reads the command line, finds kernels, builds the suite
//	  |  ^ results as text, results.json
//	gotestsum             shows results; writes junit.xml and results.json
//	  |  ^ test events: JSON, a line each
//	selftest stream PLAN  runs one VM after another, and corrects their events
//	  |  ^ test events of one VM
//	test2json             makes events of text, under the name of the kernel
//	  |  ^ output of the suite, and what became of the VM: lines with "vm: "
//	selftest boot PLAN N  is vm exec for VM number N: watches the guest
//	  |  ^ serial lines: output, files, pongs, exit status; the console
//	QEMU                  runs the kernel, with init and the suite in an initramfs
//
// A process that ends takes those below it along. A terminal sends an interrupt
// to all of them: stream still writes what the VMs have said then, and gotestsum
// its reports.
func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "stream":
			os.Exit(stream(os.Args[2]))
		case "boot":
			os.Exit(boot(os.Args[2], os.Args[3]))
		}
	}
	o, err := parse(os.Args[1:])
	os.Exit(program.Run(err, o.test))
}

// What the report has told of already.
var (
	errFailed = &cli.Told{What: "tests failed", Status: cli.Failed}
	errUntold = &cli.Told{What: "no test could tell"}
)

// bootArgs are for the kernels of an architecture that do not offer what the
// suite tests by themselves. On x86 before v6.5 the boot CPU can go offline
// only on request, and without it no other CPU can be the last one.
var bootArgs = map[string]string{"amd64": "cpu0_hotplug"}

// options are what the command line says.
type options struct {
	vm       vm.Options
	kernels  []string
	profiles []profile.Profile
	arch     string
	run      string
	soak     time.Duration
	goOn     bool     // after a failure of the soak
	shard    shard    // which of the VMs are run
	atOnce   int      // how many of them at a time
	retry    int      // how often a test that failed is run again
	known    []string // lists of known defects
	baseline string   // a run to compare with, or ""
	sum      string   // SHA-256 that the kernel must have, or ""
	gdb      bool     // the VM waits for a debugger
	shell    bool     // there is a shell at the first failure
	// what paths are relative to; the working directory is the module's
	dir  cli.Dir
	args []string // for the test binary
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("selftest", flag.ContinueOnError)
	o.dir.Flag(flags)
	flags.Func("kernel", vm.KernelUsage+"; may be repeated (default "+vm.DefaultKernel+")", func(s string) error {
		o.kernels = append(o.kernels, s)
		return nil
	})
	profile.Flag(flags, &o.profiles)
	flags.StringVar(&o.arch, "arch", runtime.GOARCH, "`GOARCH` of the kernel")
	flags.StringVar(&o.run, "run", "", "run only the tests that match the `regexp`, as in go test -run")
	flags.DurationVar(&o.soak, "soak", 0, "take CPUs offline and online under changing workloads for this `time`, instead of all tests unless there is a -run")
	flags.BoolVar(&o.goOn, "soak-continue", false, "don't end the soak with the first failure")
	flags.Func("shard", "run only part `I/N` of the virtual machines that -kernel and -profile make", func(s string) (err error) {
		o.shard, err = parseShard(s)
		return err
	})
	flags.IntVar(&o.atOnce, "j", 0, "`number` of virtual machines to run at once (default as many as have a processor for each of their CPUs)")
	flags.IntVar(&o.retry, "retry", 0, "run tests that failed `N` times again, each time in a fresh virtual machine")
	flags.Func("known", knownUsage, func(s string) error {
		o.known = append(o.known, s)
		return nil
	})
	flags.StringVar(&o.sum, "sha256", "", "`checksum` that the kernel, or the package that it is in, must have")
	flags.BoolVar(&o.gdb, "gdb", false, "have the virtual machine wait for gdb, and print the command that connects it")
	flags.BoolVar(&o.shell, "shell", false, "at the first failure, give a shell in the virtual machine as it is then")
	flags.StringVar(&o.baseline, "baseline", "", "`directory` of an earlier run's reports, to compare with: see ci/compare -help")
	flags.StringVar(&o.vm.Out, "out", "out", "`directory` for junit.xml, results.json and console.log")
	o.vm.Flags(flags)
	rest, err := program.Parse(flags, args)
	if err != nil {
		return nil, misplaced(err)
	}
	o.args = rest
	if err := o.check(); err != nil {
		return nil, err
	}
	o.complete()
	if err := errors.Join(o.checkDebug(), o.shard.check(len(o.kernels)*len(o.profiles))); err != nil {
		return nil, err
	}
	if _, err := loadKnown(o.known); err != nil {
		return nil, err
	}
	if err := checkSuiteArgs(o.args); err != nil {
		return nil, fmt.Errorf("after --: %w", err)
	}
	return o, nil
}

// check tells what the command line has that cannot be.
func (o *options) check() error {
	if !slices.Contains(vm.Architectures(), o.arch) {
		return fmt.Errorf("-arch %s: there is no virtual machine for it, only for %s", o.arch, strings.Join(vm.Architectures(), ", "))
	}
	if err := o.vm.Check(); err != nil {
		return err
	}
	if oneCPU.MatchString(o.vm.SMP) {
		return fmt.Errorf("-smp %s: the suite needs two CPUs or more, one to take offline and one that stays", o.vm.SMP)
	}
	if o.soak < 0 {
		return fmt.Errorf("-soak %v: a soak takes time", o.soak)
	}
	if o.goOn && o.soak == 0 {
		return errors.New("-soak-continue without -soak")
	}
	if o.retry < 0 {
		return fmt.Errorf("-retry %d: a test can be run again once or more", o.retry)
	}
	if o.retry > 0 && o.soak > 0 {
		return errors.New("-retry with -soak: a soak is not run again")
	}
	if o.sum != "" && !checksum.MatchString(o.sum) {
		return fmt.Errorf("-sha256 %s: it must be 64 hexadecimal digits", o.sum)
	}
	if o.sum != "" && len(o.kernels) > 1 {
		return fmt.Errorf("-sha256 with %d kernels: give one", len(o.kernels))
	}
	if o.atOnce < 0 {
		return fmt.Errorf("-j %d: it takes one virtual machine or more", o.atOnce)
	}
	if _, err := testpattern.Parse(o.run); err != nil {
		return fmt.Errorf("-run %w", err)
	}
	var err error
	o.profiles, err = profile.For(o.profiles, o.arch)
	return err
}

// complete fills in what follows from the rest.
func (o *options) complete() {
	if o.soak > 0 && o.run == "" {
		o.run = "^TestSoak$"
	}
	o.vm.Out = o.dir.Path(o.vm.Out)
	if o.baseline != "" {
		o.baseline = o.dir.Path(o.baseline)
	}
	for i, file := range o.known {
		if file != known.Builtin {
			o.known[i] = o.dir.Path(file)
		}
	}
	for i, kernel := range o.kernels {
		o.kernels[i] = vmkernel.From(string(o.dir), kernel)
	}
	if len(o.kernels) == 0 {
		o.kernels = []string{vm.DefaultKernel}
	}
	if len(o.profiles) == 0 {
		o.profiles, _ = profile.Named(profile.Default)
	}
	o.atOnce = cmp.Or(o.atOnce, o.fitting())
}

// checksum matches a SHA-256.
var checksum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// oneCPU matches a -smp of one CPU.
var oneCPU = regexp.MustCompile(`^(cpus=)?1(,|$)`)

// test builds the suite, runs it on each kernel and reports.
func (o *options) test(ctx context.Context) error {
	if err := o.checkBaseline(); err != nil {
		return err
	}
	unlock, err := cli.LockOut(o.vm.Out)
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.removeReports(); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	binary := filepath.Join(tmp, "hotplugtest.test")
	built := make(chan error, 1)
	go func() {
		program, err := vm.Build(ctx, "hotplugtest.test", o.arch, suitePackage, "test", "-c", "-tags", "selftest")
		if err == nil {
			err = os.WriteFile(binary, program, 0o755)
		}
		built <- err
	}()
	p := &plan{Known: o.known, AtOnce: o.atOnce, Retry: o.retry}
	if err := p.warn(os.Stderr); err != nil {
		return err
	}
	err = o.plan(ctx, p, tmp, binary)
	if err := <-built; err != nil {
		return err
	}
	if err != nil {
		return err
	}
	err = p.report(ctx, tmp, o.vm.Out)
	if o.baseline == "" || ctx.Err() != nil || err != nil && !errors.Is(err, errFailed) {
		return err
	}
	return cmp.Or(err, o.compare(p, os.Stdout))
}

// removeReports removes those of an earlier run. Nobody is to take them for
// those of a run that made none.
func (o *options) removeReports() error {
	repros := filepath.Join(o.vm.Out, report.ReproDir)
	dirs := []string{repros}
	files := []string{junit.File, testjson.ResultsFile, compareFile, suggestFile, report.PageFile, report.SummaryFile}
	for _, kernel := range fileNames(o.kernels) {
		for _, boot := range o.profiles {
			of := o.subdir(kernel, &boot)
			dirs = append(dirs, againDirs(of)...)
			console, err := filepath.Rel(o.vm.Out, filepath.Join(of, vm.ConsoleFile))
			if err != nil {
				return err
			}
			files = append(files, console)
		}
	}
	if err := unused(repros); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, name := range files {
		if err := os.Remove(filepath.Join(o.vm.Out, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unused returns an error if a script that an earlier run wrote is running: its
// reports are beside it.
func unused(repros string) error {
	entries, _ := os.ReadDir(repros) // an earlier run need not have been
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(repros, e.Name()))
		}
	}
	unlock, err := cli.LockOut(dirs...)
	if err == nil {
		unlock()
	}
	return err
}

// tool is the path of a program that makes the reports, which is built beside
// this one.
func tool(name string) string {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return filepath.Join(filepath.Dir(self), name)
}

// fileNames makes a file's name of what names each kernel: bookworm, trixie-rt,
// bzImage, and bzImage-2 for a second one.
func fileNames(kernels []string) []string {
	var names []string
	for _, kernel := range kernels {
		base := strings.ReplaceAll(kernel, "/", "-")
		if vmkernel.IsPath(kernel, "") {
			base = filepath.Base(kernel)
		}
		name := base
		for n := 2; slices.Contains(names, name); n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		names = append(names, name)
	}
	return names
}
