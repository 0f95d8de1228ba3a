// Command selftest runs the suite on one kernel after another, booted in one way after another, each time in a virtual
// machine of its own, and reports on all of them together. The script ci/selftest is a short name for it.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm"
)

// suite is the package whose tests are run.
const suite = "github.com/hotplugtest/hotplugtest"

func main() {
	// It runs itself below the programs that make reports of what it prints.
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "stream":
			os.Exit(stream(os.Args[2]))
		case "boot":
			os.Exit(boot(os.Args[2], os.Args[3]))
		}
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "selftest: %v (ci/selftest -help lists the flags)\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	err = o.test(ctx)
	if err != nil && !errors.Is(err, errFailed) && !errors.Is(err, errUntold) {
		fmt.Fprintln(os.Stderr, "selftest:", err)
	}
	switch {
	case err == nil:
	case errors.Is(err, errFailed):
		os.Exit(1)
	case ctx.Err() != nil:
		os.Exit(130)
	default:
		os.Exit(125)
	}
}

// What the report has told of already.
var (
	errFailed = errors.New("tests failed")
	errUntold = errors.New("no test could tell")
)

// bootArgs are for the kernels of an architecture that do not offer what the suite tests by themselves. On x86 before
// v6.5 the boot CPU can go offline only on request, and without it no other CPU can be the last one.
var bootArgs = map[string]string{"amd64": "cpu0_hotplug"}

// options are what the command line says.
type options struct {
	vm       vm.Options
	kernels  []string
	profiles []profile
	arch     string
	run      string
	soak     time.Duration
	goOn     bool     // after a failure of the soak
	dir      string   // what paths are relative to; the working directory is the module's
	args     []string // for the test binary
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("selftest", flag.ContinueOnError)
	flags.StringVar(&o.dir, "C", ".", "`directory` that paths are relative to; the script gives the working directory")
	flags.Func("kernel", vm.KernelUsage+"; may be repeated (default "+vm.DefaultKernel+")", func(s string) error {
		o.kernels = append(o.kernels, s)
		return nil
	})
	flags.Func("profile", "`name` of a way to boot the kernel: "+strings.Join(profileNames(), ", ")+", or all, each in a VM of its own; may be repeated (default "+defaultProfile+")", func(s string) error {
		more, err := profilesOf(s)
		o.profiles = append(o.profiles, more...)
		return err
	})
	flags.StringVar(&o.arch, "arch", runtime.GOARCH, "`GOARCH` of the kernel")
	flags.StringVar(&o.run, "run", "", "run only the tests that match the `regexp`, as in go test -run")
	flags.DurationVar(&o.soak, "soak", 0, "take CPUs offline and online under changing workloads for this `time`, instead of all tests unless there is a -run")
	flags.BoolVar(&o.goOn, "soak-continue", false, "don't end the soak with the first failure")
	flags.StringVar(&o.vm.Out, "out", "out", "`directory` for junit.xml, results.json and console.log")
	o.vm.Flags(flags)
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print("usage: ci/selftest [flags] [-- flags of the test binary]\n\n" +
			"Runs the suite on a kernel in a virtual machine. Exits 0 only if all tests passed, 1 if one failed, and 125 if none\n" +
			"could tell, by which git bisect run skips a commit.\n\n")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	}
	if err != nil {
		return nil, err
	}
	o.args = flags.Args()
	if before := len(args) - len(o.args) - 1; len(o.args) > 0 && (before < 0 || args[before] != "--") {
		return nil, fmt.Errorf("unexpected %q: a kernel is named by -kernel, and flags of the test binary come after --", o.args[0])
	}
	if !slices.Contains(vm.Architectures(), o.arch) {
		return nil, fmt.Errorf("-arch %s: there is no virtual machine for it, only for %s", o.arch, strings.Join(vm.Architectures(), ", "))
	}
	if oneCPU.MatchString(o.vm.SMP) {
		return nil, fmt.Errorf("-smp %s: the suite needs two CPUs or more, one to take offline and one that stays", o.vm.SMP)
	}
	if o.soak < 0 {
		return nil, fmt.Errorf("-soak %v: a soak takes time", o.soak)
	}
	if o.goOn && o.soak == 0 {
		return nil, errors.New("-soak-continue without -soak")
	}
	if o.soak > 0 && o.run == "" {
		o.run = "^TestSoak$"
	}
	o.vm.Out = o.path(o.vm.Out)
	for i, kernel := range o.kernels {
		if isFile(o.path(kernel)) || strings.HasPrefix(kernel, ".") {
			o.kernels[i] = o.path(kernel)
		}
	}
	if len(o.kernels) == 0 {
		o.kernels = []string{vm.DefaultKernel}
	}
	if len(o.profiles) == 0 {
		o.profiles, _ = profilesOf(defaultProfile)
	}
	o.profiles = withoutRepeats(o.profiles)
	return o, nil
}

// path is a path of the user's, as it is from here.
func (o *options) path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.dir, path)
}

// The files of the report.
const (
	junitFile   = "junit.xml"
	resultsFile = "results.json"
)

// plan is what stream is to run: a VM for each kernel and profile.
type plan struct {
	VMs      []guest
	Progress string // the path of a pipe to write to what is to be shown at once
}

// guest is a VM that runs the suite.
type guest struct {
	Package string // the name its results go under
	Options vm.Options
	Argv    []string
}

// beforeAndAfter is the time that tests may take beside a soak: go test's default.
const beforeAndAfter = 10 * time.Minute

// oneCPU matches a -smp of one CPU.
var oneCPU = regexp.MustCompile(`^(cpus=)?1(,|$)`)

// test builds the suite, runs it on each kernel and reports.
func (o *options) test(ctx context.Context) error {
	if err := os.MkdirAll(o.vm.Out, 0o755); err != nil {
		return err
	}
	// Nobody is to take the reports of an earlier run for those of one that made none.
	for _, name := range []string{junitFile, resultsFile} {
		if err := os.Remove(filepath.Join(o.vm.Out, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	tmp, err := os.MkdirTemp("", "selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	binary := filepath.Join(tmp, "hotplugtest.test")
	built := make(chan error, 1)
	go func() {
		program, err := vm.Build(ctx, "hotplugtest.test", o.arch, suite, "test", "-c", "-tags", "selftest")
		if err == nil {
			err = os.WriteFile(binary, program, 0o755)
		}
		built <- err
	}()
	p := &plan{}
	err = o.plan(ctx, p, tmp, binary)
	if err := <-built; err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return p.report(ctx, tmp, o.vm.Out)
}

// tool is the path of a program that makes the reports, which is built beside this one.
func tool(name string) string {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return filepath.Join(filepath.Dir(self), name)
}

// plan prepares the VMs, for a binary that need not be there yet.
func (o *options) plan(ctx context.Context, p *plan, tmp, binary string) error {
	for i, name := range fileNames(o.kernels) {
		options := o.vm
		options.Kernel = o.kernels[i]
		prepared, err := vm.Prepare(ctx, options, o.arch, os.Stderr)
		if err != nil {
			return err
		}
		options.Init = filepath.Join(tmp, "init")
		if err := prepared.WriteInit(options.Init); err != nil {
			return err
		}
		for _, profile := range o.profiles {
			options := profile.options(options, o.arch)
			options.Out = o.subdir(name, &profile)
			fmt.Printf("%s: %s\n", profile.of(name), joined(", ", prepared.Kernel(), options.SMP+" CPUs", profile.append))
			p.VMs = append(p.VMs, guest{"hotplugtest/" + profile.of(name), options, o.argv(binary, &profile)})
		}
	}
	return nil
}

// argv is the command line of the test binary.
func (o *options) argv(binary string, p *profile) []string {
	argv := []string{binary, "-test.v=test2json", "-test.run=" + cmp.Or(o.run, p.run), "-test.skip=" + p.skip, "-test.count=1"}
	if o.vm.Timeout > 0 {
		argv = append(argv, "-test.timeout="+o.vm.Timeout.String())
	} else if o.soak > 0 {
		// From this the VM's limit follows.
		argv = append(argv, "-test.timeout="+(o.soak+beforeAndAfter).String())
	}
	if o.soak > 0 {
		argv = append(argv, "-soak="+o.soak.String(), fmt.Sprintf("-soak-continue=%t", o.goOn))
	}
	// A kernel without CPU hotplug would skip it all, and that is no success. What may take the kernel down takes nothing
	// else along here. Whether anything was tested is judged over all virtual machines, by outcome.
	argv = append(argv, "-require=^[^/]*$", "-must-test=false", "-destructive")
	return slices.Concat(argv, p.args, o.args)
}

// report runs the plan below gotestsum, which shows the results as they come and writes the reports.
func (p *plan) report(ctx context.Context, tmp, out string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	done, err := p.showProgress(filepath.Join(tmp, "progress"))
	if err != nil {
		return err
	}
	defer done()
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	file := filepath.Join(tmp, "plan.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	results := filepath.Join(out, resultsFile)
	cmd := exec.CommandContext(ctx, tool("gotestsum"), "--raw-command", "--format=testname",
		"--junitfile="+filepath.Join(out, junitFile), "--jsonfile="+results, "--", self, "stream", file)
	screen := &screen{w: os.Stdout}
	cmd.Stdout, cmd.Stderr = screen, os.Stderr
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err == nil && os.Getenv("NO_COLOR") == "" {
		cmd.Args = slices.Insert(cmd.Args, 1, "--no-color=false") // its own standard output is no terminal
	}
	// An interrupt reaches gotestsum too, which then still writes its reports.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	runErr := errors.Join(cmd.Run(), screen.flush())
	if runErr != nil && !errors.As(runErr, new(*exec.ExitError)) {
		return runErr
	}
	if err := showTimes(results, os.Stdout); err != nil {
		return err
	}
	passed, failed, err := outcome(results)
	switch {
	case err != nil:
		return err
	case failed:
		return errFailed
	case runErr != nil:
		return errUntold
	case !passed:
		return errors.New("no test ran and passed: does -run match any, and are they all skipped?")
	}
	return nil
}

// showTimes prints the table of what the transitions took, of each kernel. gotestsum shows nothing of a package that
// passed.
func showTimes(results string, w io.Writer) error {
	data, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	kernel := ""
	for line := range strings.Lines(string(data)) {
		var event struct{ Package, Test, Output string }
		if json.Unmarshal([]byte(line), &event) != nil || event.Test != "" {
			continue
		}
		if row, ok := strings.CutPrefix(event.Output, "times: "); ok {
			if event.Package != kernel {
				kernel = event.Package
				fmt.Fprintf(w, "\n=== Times: %s\n", kernel)
			}
			fmt.Fprint(w, row)
		}
	}
	return nil
}

// showProgress copies what is written to a pipe to standard output: gotestsum shows what a test has printed when that ends,
// which may be in a day, and takes for an error what comes on standard error.
func (p *plan) showProgress(path string) (done func(), err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	out, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	// As long as there is somebody who could write, it does not end.
	in, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		out.Close()
		return nil, err
	}
	p.Progress = path
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(os.Stdout, out)
		out.Close()
	}()
	return func() { in.Close(); <-copied }, nil
}

// outcome tells whether a test passed, which one that only has others below it does not; and whether one failed, or
// something else when tests had run. A virtual machine that did not get so far tells nothing of the suite's.
func outcome(results string) (passed, failed bool, err error) {
	data, err := os.ReadFile(results)
	if err != nil {
		return false, false, err
	}
	type test struct{ pkg, name string }
	var passes []test
	parents := make(map[test]bool)
	ran := make(map[string]bool)   // packages in which a test has come to its end
	empty := make(map[string]bool) // and those in which -run matched none, though perhaps the beginning of one's name
	for line := range strings.Lines(string(data)) {
		var event event
		if json.Unmarshal([]byte(line), &event) != nil || event.Test == wholeRun {
			continue
		}
		if parent, _, ok := cutLast(event.Test, "/"); ok {
			parents[test{event.Package, parent}] = true
		}
		switch event.Action {
		case "pass", "skip", "fail":
			failed = failed || event.Action == "fail" && (event.Test != "" || ran[event.Package])
			ran[event.Package] = ran[event.Package] || event.Test != ""
			if event.Action == "pass" && event.Test != "" {
				passes = append(passes, test{event.Package, event.Test})
			}
		case "output":
			if event.Test == "" && event.Output == "testing: warning: no tests to run\n" {
				empty[event.Package] = true
			}
		}
	}
	passed = slices.ContainsFunc(passes, func(t test) bool { return !parents[t] && !empty[t.pkg] })
	return passed, failed, nil
}

// cutLast is [strings.Cut] around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// stream runs the plan's VMs and prints their results as test2json does.
func stream(file string) int {
	p, err := readPlan(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	progress, err := os.OpenFile(p.Progress, os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	defer progress.Close()
	code := 0
	// What is ended with this process hangs on this thread.
	runtime.LockOSThread()
	for i, g := range p.VMs {
		cmd := exec.Command(tool("test2json"), "-t", "-p", g.Package, os.Args[0], "boot", file, strconv.Itoa(i))
		cmd.Stdout, cmd.Stderr = &forReports{w: os.Stdout, progress: progress}, os.Stderr
		// It pays no heed to an interrupt, and would wait for the next line of a guest that may have none.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		if err := cmd.Run(); err != nil {
			code = 1
			if !errors.As(err, new(*exec.ExitError)) {
				fmt.Fprintln(os.Stderr, "selftest:", err)
			}
		}
	}
	return code
}

// boot runs one of the plan's VMs.
func boot(file, index string) int {
	p, err := readPlan(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	i, err := strconv.Atoi(index)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	return vm.Exec(p.VMs[i].Options, p.VMs[i].Argv)
}

func readPlan(file string) (p plan, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(data, &p)
}

// fileNames makes a file's name of what names each kernel: bookworm, trixie-rt, bzImage, and bzImage-2 for a second one.
func fileNames(kernels []string) []string {
	var names []string
	for _, kernel := range kernels {
		base := strings.ReplaceAll(kernel, "/", "-")
		if isFile(kernel) {
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

// isFile tells a kernel's file from a suite's name, which a directory may have too.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}
