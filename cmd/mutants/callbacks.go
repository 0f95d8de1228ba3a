package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// knockouts are what -callbacks asks for on one kernel: each callback of
// hotplug states returns 0 at once, one after the other.
type knockouts struct {
	*bench
	kernel string // as of ci/selftest -kernel
	dir    string // of the reports
	key    string // all that what was found so far depends on
	boots  []boot // in which a callback runs that survives the default one

	// guest is [lab.Guest], except in tests.
	guest func(ctx context.Context, opts vm.Options, pkg string, args ...string) ([]byte, error)

	// selftest is [lab.Runner.Run], except in tests.
	selftest func(ctx context.Context, out string, args ...string) (*lab.Outcome, error)

	// explore is [explorer.explore], except in tests.
	explore func(ctx context.Context, kernel, out string, length time.Duration, flags ...string) (found string, err error)
}

// callbackSMP is a machine with two threads a core, on which the kernel has more
// callbacks, and more rows of the suite run.
const callbackSMP = "4,cores=2,threads=2"

// testTimeout bounds one run of the suite: a healthy kernel needs a third of
// it on a busy host.
const testTimeout = 5 * time.Minute

// runCallbacks knocks out the callbacks of each kernel, and prints the tables.
func (l *bench) runCallbacks(ctx context.Context) (err error) {
	runtime.LockOSThread() // QEMU ends with it
	e, err := newExplorer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	begun := time.Now()
	var told []error
	for _, kernel := range l.names {
		prepared, err := vm.Prepare(ctx, vm.Options{Kernel: kernel}, runtime.GOARCH, os.Stderr)
		if err != nil {
			return err
		}
		key, err := lab.Key(prepared.Kernel(), prepared.File())
		if err != nil {
			return err
		}
		k := &knockouts{
			bench: l, kernel: kernel, dir: filepath.Join(l.out, strings.ReplaceAll(kernel, "/", "-"), "callbacks"),
			key: strings.Join(append([]string{key, callbackSMP}, l.args...), "\n"), guest: lab.Guest, selftest: l.runner.Run, explore: e.explore,
		}
		k.boots, err = bootsOf(func(p *profile.Profile) error {
			_, err := vm.Prepare(ctx, p.Options(vm.Options{Kernel: kernel}), runtime.GOARCH, os.Stderr)
			return err
		}, os.Stderr)
		if err != nil {
			return err
		}
		functions, err := k.list(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", kernel, err)
		}
		functions = slices.DeleteFunc(functions, func(f string) bool { return !l.mutants.MatchString(f) })
		if len(functions) == 0 {
			return fmt.Errorf("%s has no callback that matches %v", kernel, l.mutants)
		}
		results, err := k.all(ctx, functions, begun)
		if err != nil {
			return fmt.Errorf("%s: %w", kernel, err)
		}
		fmt.Print(results.markdown(prepared.Kernel()))
		told = append(told, results.err(kernel))
	}
	return errors.Join(told...)
}

// all knocks out the functions that were not knocked out before, until -for is
// over. An interrupt loses the one that is running.
func (k *knockouts) all(ctx context.Context, functions []string, begun time.Time) (results knockoutList, err error) {
	if err := k.healthyFirst(ctx); err != nil {
		return nil, err
	}
	done := 0
	for n, f := range functions {
		r, err := k.load(f)
		if err != nil {
			return nil, err
		}
		if r == nil && (done == 0 || k.limit == 0 || time.Since(begun) < k.limit) {
			if r, err = k.knockOut(ctx, f); err != nil {
				return nil, err
			}
			if err := k.save(f, r); err != nil {
				return nil, err
			}
			done++
			fmt.Printf("%d of %d %s: %v\n", n+1, len(functions), f, r)
		}
		results = append(results, function{f, r})
	}
	return results, nil
}

// listFile is the list of a kernel's callbacks, beside the reports.
const listFile = "list"

// list returns the callbacks of the running kernel, in the order in which one
// cycle calls them.
func (k *knockouts) list(ctx context.Context) ([]string, error) {
	if r, err := k.load(listFile); err != nil || r != nil {
		return r.functions(), err
	}
	out, err := k.guest(ctx, k.vm(listFile, 5*time.Minute), guestPackage)
	if err != nil {
		return nil, fmt.Errorf("listing the callbacks: %w", err)
	}
	functions, err := parseFunctions(out)
	if err != nil {
		return nil, err
	}
	return functions, k.save(listFile, &knockout{Functions: functions})
}

// parseFunctions reads what the guest's program prints.
func parseFunctions(out []byte) (functions []string, err error) {
	if err := json.Unmarshal(out, &functions); err != nil {
		return nil, fmt.Errorf("listing the callbacks: the guest's program printed %q: %w", out, err)
	}
	if len(functions) == 0 {
		return nil, errors.New("listing the callbacks: the kernel has told of none: does it have the trace events cpuhp_enter and cpuhp_multi_enter?")
	}
	return functions, nil
}

// guestPackage is the program of the guest.
const guestPackage = "./cmd/mutants/guest"

// vm are the options of a VM in which the guest's program runs.
func (k *knockouts) vm(name string, timeout time.Duration, pokes ...string) vm.Options {
	return vm.Options{Kernel: k.kernel, SMP: callbackSMP, Mem: "1G", Timeout: timeout, Pokes: pokes, Out: filepath.Join(k.dir, name)}
}

// healthyFirst fails if the suite or the explorer does on a kernel that is not
// broken, which would say nothing of the broken ones. A result without the
// explorer's part does not stand for both.
func (k *knockouts) healthyFirst(ctx context.Context) error {
	if !k.healthy {
		return nil
	}
	const name = "healthy"
	r, err := k.load(name)
	if err == nil && (r == nil || !r.noticed() && !r.Explored) {
		if r, err = k.look(ctx, name); err == nil {
			err = k.save(name, r)
		}
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s healthy: %d tests\n", k.kernel, r.Tests)
	if r.noticed() {
		return fmt.Errorf("the suite fails on the healthy kernel, so it says nothing of the broken ones: %v; see %s, and remove it to try again", r, filepath.Join(k.dir, name))
	}
	return nil
}

// pokeError is how the VM's runner begins what it says of a function that it
// cannot find or write to.
const pokeError = "poke: "

// knockOut sees whether a CPU goes offline and online without a callback, and if
// so, looks whether anything notices. What failed runs once more by itself.
func (k *knockouts) knockOut(ctx context.Context, f string) (*knockout, error) {
	poke := f + "=ret0"
	if _, err := vm.ParsePoke(poke); err != nil {
		return &knockout{Impossible: err.Error()}, nil
	}
	begun := time.Now()
	err := k.attempt(ctx, f, poke)
	var failure *vm.Failure
	var exit *lab.ExitError
	var noCPU string
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &failure) && !failure.Started:
		return nil, fmt.Errorf("%s: %w", f, err) // it was not knocked out yet
	case errors.As(err, &failure):
		return &knockout{NoCPU: failure.What}, nil
	case errors.As(err, &exit):
		// Which row says so first is worth to know all the same.
		noCPU = strings.TrimSpace(exit.Output)
	case err != nil:
		if what, ok := strings.CutPrefix(err.Error(), pokeError); ok {
			return &knockout{Impossible: what}, nil
		}
		return nil, err
	}
	look := k.look
	if noCPU != "" { // there is nothing to explore
		look = k.suite
	}
	r, err := look(ctx, f, "-poke", poke)
	if err != nil {
		return nil, err
	}
	r.NoCPU = noCPU
	if r.noticed() && r.Died == "" {
		again, err := k.again(ctx, f+"/again", r, "-poke", poke)
		switch {
		case err == nil:
			r.Again = again.noticed()
		case !errors.Is(err, lab.ErrNoTest): // by itself it is skipped
			return nil, err
		}
	}
	r.Took = time.Since(begun)
	return r, nil
}

// knownTries is how often in a row a defect may show that is said to be rare.
const knownTries = 3

// attempt takes a CPU offline and online without a callback. If the VM does not
// come to the end of that, it tries once more: a busy host may have been why.
func (k *knockouts) attempt(ctx context.Context, f, poke string) (err error) {
	for range 2 {
		_, err = k.guest(ctx, k.vm(f, 2*time.Minute, poke), guestPackage, "-try")
		if ctx.Err() != nil || !errors.As(err, new(*vm.Failure)) {
			break
		}
	}
	return err
}

// exactly is a pattern for one test, as in go test -run. The name of the whole
// suite is none.
func exactly(test string) string {
	if test == lab.Whole {
		return ""
	}
	var parts []string
	for part := range strings.SplitSeq(test, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	return strings.Join(parts, "/")
}

// look runs the suite, the ledger's row with it, and if nothing notices what of
// it other boots are for, and the explorer.
func (k *knockouts) look(ctx context.Context, name string, flags ...string) (*knockout, error) {
	r, err := k.suite(ctx, name, flags...)
	for _, e := range k.boots {
		if err != nil || r.noticed() {
			return r, err
		}
		tests := r.Tests
		r, err = k.profile(ctx, name, e, flags...)
		if r != nil {
			r.Tests += tests
		}
	}
	if err != nil || r.noticed() {
		return r, err
	}
	r.Found, err = k.minute(ctx, name, flags...)
	r.Explored = true
	return r, err
}

// explorationTime is for how long the explorer looks.
const explorationTime = time.Minute

// minute explores. It is not cut short by what is known to be a defect of the
// kernel with the callback, too.
func (k *knockouts) minute(ctx context.Context, name string, flags ...string) (found string, err error) {
	return k.explore(ctx, k.kernel, filepath.Join(k.dir, name, "explorer"), explorationTime, append([]string{"-smp", callbackSMP}, flags...)...)
}

// suite runs the suite until a test fails.
func (k *knockouts) suite(ctx context.Context, name string, flags ...string) (*knockout, error) {
	return k.tests(ctx, name, "", flags...)
}

// again runs by itself what failed first in a result.
func (k *knockouts) again(ctx context.Context, name string, r *knockout, flags ...string) (again *knockout, err error) {
	if len(r.Failed) > 0 {
		if r.Profile != "" {
			flags = append([]string{"-profile", r.Profile}, flags...)
		}
		return k.tests(ctx, name, exactly(r.Failed[0]), flags...)
	}
	again = &knockout{}
	again.Found, err = k.minute(ctx, name, flags...)
	return again, err
}

// tests runs tests of the suite until one fails. A rare defect that is known
// ends a run as well, and tells nothing of the callback: then it runs again.
func (k *knockouts) tests(ctx context.Context, name, run string, flags ...string) (*knockout, error) {
	args := append([]string{"-kernel", k.kernel, "-smp", callbackSMP, "-known", "builtin", "-timeout", testTimeout.String(), "-run", run}, flags...)
	args = slices.Concat(args, []string{"--", "-test.failfast"}, leaveOut(k.kernel), k.args)
	dir := filepath.Join(k.dir, name)
	for range knownTries {
		o, err := k.selftest(ctx, dir, args...)
		switch {
		case err != nil:
			return nil, err
		case vm.NotStarted(o.Died):
			return nil, fmt.Errorf("%s: %s: a busy host may be why: call it again to go on", name, o.Died)
		case o.Known && !o.Noticed():
			continue
		}
		r := &knockout{Tests: o.Tests, Failed: o.Failed, Died: o.Died}
		if len(r.Failed) > 0 {
			r.Log, err = onlyLog(filepath.Join(dir, testjson.ResultsFile), r.Failed[0])
		}
		return r, err
	}
	return nil, fmt.Errorf("%s: %d runs have ended by a known defect: see %s", name, knownTries, dir)
}

// What a test prints that fails: of a complaint in the kernel's log, and of a
// promise that was broken.
const (
	complaintText = "the kernel's log has a complaint"
	promiseText   = "promised: "
)

// onlyLog reports whether a test failed by the kernel's log, and not by what its
// row looks at.
func onlyLog(file, test string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	complaint, promise := false, false
	for e, err := range testjson.Read(f) {
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		if e.Test == test {
			complaint = complaint || strings.Contains(e.Output, complaintText)
			promise = promise || strings.Contains(e.Output, promiseText)
		}
	}
	return complaint && !promise, nil
}
