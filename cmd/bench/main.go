// Command bench measures the suite against what it must reach, and prints a
// table for Markdown. The script ci/bench is a short name for it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
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
	wanted *regexp.Regexp // the sections to measure
	module string         // its directory
	dir    string         // where the guest's files are
}

var program = &cli.Program{
	Name: "bench", Call: "ci/bench", Synopsis: "[flags]",
	About: "Measures the suite against what it must reach. Exits 1 if that is missed.",
	Stray: "what is to be measured is named by -run",
}

func main() {
	b, err := parse(os.Args[1:])
	os.Exit(program.Run(err, b.run))
}

func parse(args []string) (*bench, error) {
	b := &bench{wanted: regexp.MustCompile("")}
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var dir cli.Dir
	dir.Flag(flags)
	flags.StringVar(&b.kernel, "kernel", vm.DefaultKernel, vm.KernelUsage)
	flags.IntVar(&b.n, "n", 30, "`times` that each of two ways is measured in turn")
	flags.Func("run", "measure only what matches the `regexp`, of "+strings.Join(names, ", "), func(s string) (err error) {
		b.wanted, err = regexp.Compile(s)
		return err
	})
	if _, err := program.Parse(flags, args); err != nil {
		return b, err
	}
	// The VM's runner is run in another directory.
	if b.kernel = vmkernel.From(string(dir), b.kernel); vmkernel.IsPath(b.kernel, "") || strings.HasPrefix(b.kernel, ".") {
		var err error
		if b.kernel, err = filepath.Abs(b.kernel); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b *bench) run(ctx context.Context) error {
	runtime.LockOSThread() // QEMU ends with it
	cleanup, err := b.build(ctx)
	if err != nil {
		return err
	}
	defer cleanup()

	missed := 0
	var rows []row
	for _, s := range sections {
		if !b.wanted.MatchString(s.name) {
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

// build makes the programs for the guest in a directory that the VM's runner
// can be run in: it copies testdata, and builds the guest's init, for which it
// has to find this module.
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

// guest runs the guest's program in a VM, and returns the numbers in each line
// that it prints, by the name before them.
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
