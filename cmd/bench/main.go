// Command bench measures the suite against what it must reach, and prints a table for Markdown. The script ci/bench is a
// short name for it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm"
)

// section is a part of the table.
type section struct {
	name    string
	measure func(context.Context, *bench) ([]row, error)
}

var sections = []section{
	{"cycle", cycle},
	{"react", react},
	{"start", start},
	{"default", defaultRun},
	{"uevent", uevents},
	{"growth/4", growth("4", "", 10)},
	{"growth/16", growth("16", "", 10)},
	{"growth/64", growth("64", "TestOnline/at-return/affinity$", 3)},
	{"detect/bullseye", detect("bullseye")},
	{"detect/bookworm", detect("bookworm")},
}

// row is a line of the table.
type row struct {
	what, result, goal string
	missed             bool
	runs               string // what is behind the result
}

// bench is what the sections need.
type bench struct {
	kernel string
	n      int
	module string // its directory
	dir    string // where the guest's files are
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	b := &bench{}
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&b.kernel, "kernel", vm.DefaultKernel, vm.KernelUsage)
	flags.IntVar(&b.n, "n", 30, "`times` that each of two ways is measured in turn")
	match := flags.String("run", "", "measure only what matches the `regexp`, of "+strings.Join(names, ", "))
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: ci/bench [flags]\n\nMeasures the suite against what it must reach. Exits 1 if that is missed.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q: what is to be measured is named by -run", flags.Arg(0))
	}
	wanted, err := regexp.Compile(*match)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	runtime.LockOSThread() // QEMU ends with it
	cleanup, err := b.build(ctx)
	if err != nil {
		return err
	}
	defer cleanup()

	missed := 0
	var rows []row
	for _, s := range sections {
		if !wanted.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", s.name)
		got, err := s.measure(ctx, b)
		rows = append(rows, got...)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			rows = append(rows, row{what: s.name, result: "failed", goal: "a result", missed: true})
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Print("| measured | result | goal | | runs |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		verdict := "ok"
		switch {
		case r.missed:
			verdict = "**missed**"
			missed++
		case r.goal == "":
			verdict = ""
		}
		fmt.Printf("| %s | %s | %s | %s | %s |\n", r.what, r.result, r.goal, verdict, r.runs)
	}
	if missed > 0 {
		return fmt.Errorf("goals missed: %d", missed)
	}
	return nil
}

// build makes the programs for the guest in a directory that the VM's runner can be run in: it copies testdata, and builds
// the guest's init, for which it has to find this module.
func (b *bench) build(ctx context.Context) (cleanup func(), err error) {
	if b.module, err = os.Getwd(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	cleanup = func() { os.RemoveAll(b.dir) }
	defer func() {
		if err != nil {
			cleanup()
		}
	}()
	if err := os.Mkdir(filepath.Join(b.dir, "testdata"), 0o755); err != nil {
		return nil, err
	}
	work := fmt.Sprintf("go 1.25.0\n\nuse %s\n", strconv.Quote(b.module))
	if err := os.WriteFile(filepath.Join(b.dir, "go.work"), []byte(work), 0o644); err != nil {
		return nil, err
	}
	for _, argv := range [][]string{
		{"gcc", "-static", "-O2", "-Wall", "-o", b.baseline(), "cmd/bench/baseline/baseline.c"},
		{"go", "build", "-buildvcs=false", "-o", filepath.Join(b.dir, "guest"), "./cmd/bench/guest"},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	return cleanup, nil
}

func (b *bench) baseline() string { return filepath.Join(b.dir, "testdata/baseline") }

// guest runs the guest's program in a VM, and returns the numbers in each line that it prints, by the name before them.
func (b *bench) guest(ctx context.Context, opts vm.Options, args ...string) (map[string][]int64, error) {
	if err := os.Chdir(b.dir); err != nil {
		return nil, err
	}
	if opts.SMP == "" {
		opts.SMP = "4"
	}
	if opts.Kernel == "" {
		opts.Kernel = b.kernel
	}
	opts.Mem, opts.Timeout = "1G", 5*time.Minute
	var out bytes.Buffer
	code, err := vm.Run(ctx, opts, append([]string{filepath.Join(b.dir, "guest")}, args...), &out, os.Stderr)
	if err := errors.Join(err, os.Chdir(b.module)); err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("the guest's program: exit status %d: %s", code, &out)
	}
	lines := make(map[string][]int64)
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		for _, f := range fields[1:] {
			v, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("the guest's program: line %q: %w", line, err)
			}
			lines[fields[0]] = append(lines[fields[0]], v)
		}
	}
	return lines, nil
}

// compare makes a row of nanoseconds that are to be at most goal times those of something else.
func compare(what string, goal float64, ours, theirs []int64, theirName string) row {
	ratio := float64(median(ours)) / float64(median(theirs))
	return row{
		what: what, result: fmt.Sprintf("%.2f x", ratio), goal: fmt.Sprintf("%.2f x", goal), missed: ratio > goal,
		runs: fmt.Sprintf("%s; %s: %s", spread(ours), theirName, spread(theirs)),
	}
}

func median(values []int64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func spread(ns []int64) string {
	return fmt.Sprintf("median %s (%s to %s, %d runs)", ms(median(ns)), ms(slices.Min(ns)), ms(slices.Max(ns)), len(ns))
}

func ms(ns int64) string { return strconv.FormatFloat(float64(ns)/1e6, 'f', 2, 64) + " ms" }

// cycle is offline and online by cpuhp.
func cycle(ctx context.Context, b *bench) ([]row, error) {
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(b.n), "cycle")
	if err != nil {
		return nil, err
	}
	return []row{compare("a hotplug cycle", 1.05, got["suite"], got["baseline"], "in C")}, nil
}

// react is from a uevent to sched_setaffinity(2).
func react(ctx context.Context, b *bench) ([]row, error) {
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(b.n), "react")
	if err != nil {
		return nil, err
	}
	return []row{compare("from the uevent to sched_setaffinity(2)", 1, got["suite"], got["baseline"], "in C")}, nil
}

// start is ci/selftest to its first test.
func start(ctx context.Context, b *bench) ([]row, error) {
	prepared, err := vm.Prepare(ctx, vm.Options{Kernel: b.kernel, SMP: "4", Mem: "1G", Append: "cpu0_hotplug"}, runtime.GOARCH, os.Stderr)
	if err != nil {
		return nil, err
	}
	var ours, bare []int64
	for range max(3, b.n/6) {
		r, err := b.selftest(ctx, "-kernel", b.kernel, "-run", "TestSameValue/online/at-return/cpu-online")
		if err != nil {
			return nil, err
		}
		if r.code != 0 {
			return nil, fmt.Errorf("ci/selftest: exit status %d", r.code)
		}
		ours = append(ours, r.first.Nanoseconds())
		took, err := prepared.BareBoot(ctx, b.baseline())
		if err != nil {
			return nil, err
		}
		bare = append(bare, took.Nanoseconds())
	}
	return []row{compare("ci/selftest to its first test", 1.25, ours, bare, "bare boot to init")}, nil
}

// defaultRun is all of ci/selftest.
func defaultRun(ctx context.Context, b *bench) ([]row, error) {
	const goal = time.Minute
	r, err := b.selftest(ctx, "-kernel", b.kernel)
	if err != nil {
		return nil, err
	}
	return []row{{
		what: "the whole default run", result: fmt.Sprintf("%.1f s", r.all.Seconds()), goal: fmt.Sprintf("%.0f s", goal.Seconds()),
		missed: r.all > goal || r.code != 0, runs: fmt.Sprintf("1 run of %d tests, exit status %d", r.tests, r.code),
	}}, nil
}

// growth is what more CPUs cost: a cycle, n times, and the tests that match run.
func growth(smp, run string, n int) func(context.Context, *bench) ([]row, error) {
	return func(ctx context.Context, b *bench) ([]row, error) {
		got, err := b.guest(ctx, vm.Options{SMP: smp}, "-n", strconv.Itoa(n), "cycle")
		if err != nil {
			return nil, err
		}
		rows := []row{{what: "a cycle on " + smp + " CPUs", result: ms(median(got["suite"])), runs: spread(got["suite"])}}
		r, err := b.selftest(ctx, "-kernel", b.kernel, "-smp", smp, "-run", run)
		if err != nil {
			return rows, err
		}
		what := "the default run"
		if run != "" {
			what = "-run '" + run + "'"
		}
		return append(rows, row{
			what: what + " on " + smp + " CPUs", result: fmt.Sprintf("%.1f s", r.all.Seconds()),
			runs: fmt.Sprintf("1 run of %d tests, the first after %.1f s, exit status %d", r.tests, r.first.Seconds(), r.code),
		}), nil
	}
}

// uevents is what the receiver costs and whether it loses anything.
func uevents(ctx context.Context, b *bench) ([]row, error) {
	const sent = 100_000
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(sent), "storm")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range []struct{ buffer, goal string }{{"default", "all received"}, {"small", "each accounted for"}} {
		received, lost, overruns, ns := got[s.buffer][0], got[s.buffer][1], got[s.buffer][2], got[s.buffer][3]
		rows = append(rows, row{
			what:   fmt.Sprintf("%d uevents, %s buffer", sent, s.buffer),
			result: fmt.Sprintf("%d received, %d reported as lost", received, lost),
			goal:   s.goal, missed: received+lost != sent || s.buffer == "default" && lost > 0,
			runs: fmt.Sprintf("%d overruns reported; %.0f µs a uevent, the kernel's part included", overruns, float64(ns)/sent/1e3),
		})
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkReceive$", "-benchtime", "20000x", "./uevent")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	for _, r := range []struct {
		name string
		goal int
	}{{"Receive", 2}, {"ReceiveInto", 0}} {
		m := regexp.MustCompile(`(?m)^BenchmarkReceive/` + r.name + `\S*\s.*\s(\S+ ns/op).*\s(\d+) allocs/op$`).FindSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("%v: no result for %s:\n%s", cmd, r.name, out)
		}
		allocs, err := strconv.Atoi(string(m[2]))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{
			what: "uevent." + r.name, result: fmt.Sprintf("%d allocations", allocs), goal: strconv.Itoa(r.goal), missed: allocs > r.goal,
			runs: fmt.Sprintf("%s of this machine's kernel, 20000 times", m[1]),
		})
	}
	return rows, nil
}

// detect is how surely the bug of 2021 is seen in a kernel that had it fixed.
func detect(kernel string) func(context.Context, *bench) ([]row, error) {
	const cycles, poke = 100, "cpuset_wait_for_hotplug=ret"
	return func(ctx context.Context, b *bench) ([]row, error) {
		// Two CPUs at two moments.
		r, err := b.selftest(ctx, "-kernel", kernel, "-poke", poke, "-run", "TestOnline/.*/affinity$/child-cpuset",
			"--", "-cycles", strconv.Itoa(cycles/4), "-cpus", "1-2")
		if err != nil {
			return nil, err
		}
		got, err := b.guest(ctx, vm.Options{Kernel: kernel, Pokes: []string{poke}}, "-n", strconv.Itoa(cycles), "detect")
		if err != nil {
			return nil, err
		}
		return []row{{
			what:   "the bug of 2021 in the kernel of " + kernel,
			result: fmt.Sprintf("%d of %d cycles", r.broken, r.probes), goal: "99 of 100",
			missed: r.probes < cycles || r.broken*100 < 99*r.probes, runs: fmt.Sprintf("in C %d of %d", got["seen"][0], cycles),
		}}, nil
	}
}
