// Command mutants runs the suite on kernels that are broken on purpose, and
// tells which rows notice: it is the test of the suite. The script ci/mutants
// is a short name for it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

var program = &cli.Program{
	Name: "mutants", Call: "ci/mutants", Synopsis: "[flags] [-- flags of the test binary]",
	About: "Runs the suite on broken kernels, each in a virtual machine of its own, and prints which tests notice.\n" +
		"Exits 0 only if each mutant was noticed by the tests that are to notice it. With -callbacks, the mutants are the callbacks\n" +
		"of hotplug states that the kernel itself names, and the exit status is 0 if one of them could be knocked out. With -explore,\n" +
		"the explorer looks for the mutants, and the exit status is 0 however many it finds.",
	Stray: "mutants are named by -run, and flags of the test binary come after --",
}

func main() {
	l, err := parse(os.Args[1:])
	os.Exit(program.Run(err, l.run))
}

// bench is what the command line says.
type bench struct {
	names       []string // of kernels
	kernels     []series // the same, for all but callbacks
	mutants     *regexp.Regexp
	callbacks   bool
	limit       time.Duration // begin no further callback after it; 0: there is no limit
	exploreTime time.Duration // 0: the suite runs instead
	short       bool
	rows        bool
	healthy     bool
	delays      bool
	out         string
	markdown    string
	dir         cli.Dir  // what paths are relative to
	args        []string // for the test binary, or the explorer

	runner *lab.Runner
}

func parse(args []string) (*bench, error) {
	l := &bench{mutants: regexp.MustCompile("")}
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	l.dir.Flag(flags)
	flags.Func("kernel", "Debian `suite` whose kernel is broken, or with -callbacks any kernel as of ci/selftest; may be repeated (default each of "+strings.Join(suites(), ", ")+")", func(s string) error {
		l.names = append(l.names, s)
		return nil
	})
	flags.BoolVar(&l.callbacks, "callbacks", false, "instead of the mutants of the table, knock out each callback of a hotplug state, until a test notices; goes on where it was if it is called again")
	flags.DurationVar(&l.limit, "for", 0, "with -callbacks, begin no further callback after this `time` (default: as long as it takes)")
	flags.DurationVar(&l.exploreTime, "explore", 0, "instead of running the suite, explore each mutant for this `time`; flags of ci/explore come after --")
	flags.Func("run", "only the mutants, or callbacks, whose name matches the `regexp`", func(s string) (err error) {
		l.mutants, err = regexp.Compile(s)
		return err
	})
	flags.BoolVar(&l.short, "short", false, "a few mutants, with -rows")
	flags.BoolVar(&l.rows, "rows", false, "of the suite, run only what has to notice each mutant, and all for those that nothing has to")
	flags.BoolVar(&l.healthy, "healthy", true, "without -rows, run the suite on the healthy kernels first: it must pass there")
	flags.BoolVar(&l.delays, "delays", true, "delay what a mutant's delays say: without them, what only a delay shows survives")
	flags.StringVar(&l.out, "out", "out/mutants", "`directory` for the reports of each run")
	flags.StringVar(&l.markdown, "markdown", "", "write the score, or with -explore what was found, as a Markdown table to this `file`")
	var err error
	if l.args, err = program.Parse(flags, args); err != nil {
		return l, err
	}
	l.rows = l.rows || l.short
	if len(l.names) == 0 {
		l.names = suites()
	}
	if err := l.check(flags); err != nil {
		return l, err
	}
	l.out = l.dir.Path(l.out)
	if l.markdown != "" {
		l.markdown = l.dir.Path(l.markdown)
	}
	return l, nil
}

// check finds the kernels that the mutants of the table are for, and tells which
// flags do not go together.
func (l *bench) check(flags *flag.FlagSet) (err error) {
	if l.limit < 0 {
		return fmt.Errorf("-for %v: it takes time", l.limit)
	}
	if l.exploreTime < 0 {
		return fmt.Errorf("-explore %v: it takes time", l.exploreTime)
	}
	flags.Visit(func(f *flag.Flag) {
		table := slices.Contains([]string{"short", "rows", "delays", "markdown", "explore"}, f.Name)
		switch {
		case l.exploreTime != 0 && f.Name == "rows":
			err = fmt.Errorf("-%s is for the suite, not for -explore", f.Name)
		case l.callbacks && table:
			err = fmt.Errorf("-%s is for the mutants of the table, not for -callbacks", f.Name)
		case !l.callbacks && f.Name == "for":
			err = errors.New("-for is for -callbacks only")
		}
	})
	for n, name := range l.names {
		if l.callbacks {
			l.names[n] = vmkernel.From(string(l.dir), name)
		}
		i := slices.IndexFunc(kernels, func(k series) bool { return k.suite == name })
		if l.callbacks || err != nil {
			continue
		}
		if i < 0 {
			return fmt.Errorf("-kernel %s: there are no mutants of it, only of %s", name, strings.Join(suites(), ", "))
		}
		l.kernels = append(l.kernels, kernels[i])
	}
	return err
}

// run tests each kernel, and each mutant of it.
func (l *bench) run(ctx context.Context) (err error) {
	// Runs for several kernels can share -out: each has a directory below it.
	var dirs []string
	for _, name := range l.names {
		dirs = append(dirs, filepath.Join(l.out, strings.ReplaceAll(name, "/", "-")))
	}
	unlock, err := cli.LockOut(dirs...)
	if err != nil {
		return err
	}
	defer unlock()
	if l.exploreTime > 0 {
		return l.exploreAll(ctx)
	}
	if l.runner, err = lab.NewRunner(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.runner.Close()) }()
	if l.callbacks {
		return l.runCallbacks(ctx)
	}

	var s score
	for _, k := range l.kernels {
		chosen := l.chosen(k)
		if len(chosen) == 0 {
			continue
		}
		if l.healthy && !l.rows {
			if err := l.testHealthy(ctx, k); err != nil {
				return err
			}
		}
		for _, m := range chosen {
			o, err := l.testMutant(ctx, k, m)
			if err != nil {
				return err
			}
			v := judge(m, k, o)
			fmt.Println(v)
			s = append(s, v)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Print(s.summary())
	if l.markdown != "" {
		if err := os.WriteFile(l.markdown, []byte(s.markdown()), 0o644); err != nil {
			return err
		}
	}
	return s.err()
}

// chosen are the mutants of a kernel that are asked for.
func (l *bench) chosen(k series) (chosen []*mutant) {
	for i := range mutants {
		m := &mutants[i]
		if _, ok := m.pokesFor(k); ok && l.mutants.MatchString(m.name) && (!l.short || slices.Contains(m.short, k.name)) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// testHealthy fails if the suite does on a kernel that is not broken.
func (l *bench) testHealthy(ctx context.Context, k series) error {
	o, err := l.test(ctx, k, "healthy", "", nil, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%-5s healthy: %d tests\n", k.name, o.Tests)
	if o.Noticed() {
		return fmt.Errorf("the suite fails on the healthy kernel %s, so it says nothing of the broken ones: %s; see %s", k.name, o, l.reports(k, "healthy"))
	}
	return nil
}

// testMutant runs the suite on a mutant.
func (l *bench) testMutant(ctx context.Context, k series, m *mutant) (*lab.Outcome, error) {
	run := ""
	if l.rows {
		// Both are patterns of test names.
		run = strings.Join(m.rows, "|")
	}
	return l.test(ctx, k, m.name, run, l.breaking(k, m), m.args)
}

// breaking returns the flags that make the mutant of a kernel, and those that
// it takes beside them.
func (l *bench) breaking(k series, m *mutant) (flags []string) {
	pokes, _ := m.pokesFor(k)
	for _, poke := range pokes {
		flags = append(flags, "-poke", poke)
	}
	for delay := range strings.FieldsSeq(m.delays) {
		if l.delays {
			flags = append(flags, "-delay", delay)
		}
	}
	return append(flags, m.flags...)
}

// reports is the directory of what one run leaves.
func (l *bench) reports(k series, name string) string { return filepath.Join(l.out, k.suite, name) }

// test runs the suite on a kernel, with flags of ci/selftest and arguments of
// the test binary. A VM that does not start says nothing of a kernel, and starts
// once more.
func (l *bench) test(ctx context.Context, k series, name, run string, flags, testArgs []string) (*lab.Outcome, error) {
	args := slices.Concat([]string{"-kernel", k.suite, "-run", run}, flags, []string{"--"}, leaveOut(k.suite), testArgs, l.args)
	o, err := l.runner.Run(ctx, l.reports(k, name), args...)
	if err == nil && vm.NotStarted(o.Died) {
		o, err = l.runner.Run(ctx, l.reports(k, name), args...)
	}
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s of %s: %w", name, k.name, err)
	}
	return o, err
}
