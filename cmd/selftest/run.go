package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// report runs the plan below gotestsum, which shows the results as they come
// and writes the reports.
func (p *plan) report(ctx context.Context, tmp, out string) error {
	p.Results = filepath.Join(out, testjson.ResultsFile)
	last := newLastLine(os.Stdout, p.attended())
	p.Status = last.shows()
	done, err := p.showProgress(filepath.Join(tmp, "progress"), last)
	if err != nil {
		return err
	}
	done = sync.OnceFunc(done)
	defer done()
	xmlFile := filepath.Join(out, junit.File)
	gotestsum, runErr := p.gotestsum(ctx, tmp, xmlFile, last)
	done() // not before stream has ended, which then has written all results
	last.set("")
	if runErr != nil && !errors.As(runErr, new(*exec.ExitError)) {
		return runErr
	}
	v, err := p.judge()
	if errors.Is(err, os.ErrNotExist) && runErr != nil {
		return errUntold // stream has said why
	}
	if err != nil {
		return err
	}
	switch {
	case errors.Is(verdict(v, runErr), errUntested):
		err = p.failUntested(tmp, xmlFile)
	case cutShort(gotestsum):
		err = p.rewriteJUnit(tmp, xmlFile)
	}
	var again []*tries
	if p.Retry > 0 && ctx.Err() == nil {
		var retryErr error
		again, retryErr = p.retry(ctx, tmp, p.Retry, v, os.Stdout)
		err = errors.Join(err, retryErr, p.noteTries(again, v, out, os.Stdout))
	}
	module, moduleErr := os.Getwd() // the script runs this there
	err = errors.Join(err, junit.Mark(xmlFile, junit.Notes{Suites: p.facts(), Cases: attempts(again)}), moduleErr, p.writeRepros(v, module, out, os.Stdout))
	err = errors.Join(err, writePage(out, os.Stdout))
	return cmp.Or(err, verdict(v, runErr))
}

// gotestsum runs it, with stream below it, and returns how it ended.
func (p *plan) gotestsum(ctx context.Context, tmp, xmlFile string, last *lastLine) (*os.ProcessState, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cut, err := p.lifeline(filepath.Join(tmp, "lifeline"))
	if err != nil {
		return nil, err
	}
	defer cut()
	file, err := p.write(tmp)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, tool("gotestsum"), "--raw-command", "--format=testname",
		"--junitfile="+xmlFile, "--", self, "stream", file)
	screen := &screen{w: last}
	cmd.Stdout, cmd.Stderr = screen, os.Stderr
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err == nil && os.Getenv("NO_COLOR") == "" {
		// its own standard output is no terminal
		cmd.Args = slices.Insert(cmd.Args, 1, "--no-color=false")
	}
	// A signal would kill it if the terminal has sent one already.
	cmd.Cancel = func() error {
		_ = cut()
		return os.ErrProcessDone // its exit status tells
	}
	err = errors.Join(cmd.Run(), screen.flush())
	return cmd.ProcessState, err
}

// judge reads the results, and prints what they come to.
func (p *plan) judge() (*verdicts, error) {
	events, err := os.Open(p.Results)
	if err != nil {
		return nil, err
	}
	defer events.Close()
	return judge(events, os.Stdout)
}

// verdict is what the results come to. runErr is what gotestsum ended with.
func verdict(v *verdicts, runErr error) error {
	switch {
	case v.failed:
		return errFailed
	case len(v.wrong) > 0:
		return errors.New(slices.Sorted(maps.Values(v.wrong))[0])
	case runErr != nil:
		return errUntold
	case !v.passed() && len(v.known) == 0:
		return errUntested
	}
	return nil
}

// showProgress shows what is written to a pipe: gotestsum
// shows what a test has printed when that ends, which may be in a day, and
// takes for an error what comes on standard error.
func (p *plan) showProgress(path string, last *lastLine) (done func(), err error) {
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
		last.copyProgress(out)
		out.Close()
	}()
	return func() { in.Close(); <-copied }, nil
}

// stream runs the plan's VMs and prints their results as test2json does.
func stream(file string) int {
	code, err := streamPlan(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	return code
}

func streamPlan(file string) (code int, err error) {
	p, err := readPlan(file)
	if err != nil {
		return 1, err
	}
	defects, err := loadKnown(p.Known)
	if err != nil {
		return 1, err
	}
	progress, err := os.OpenFile(p.Progress, os.O_WRONLY, 0)
	if err != nil {
		return 1, err
	}
	defer progress.Close()
	results, err := os.Create(p.Results)
	if err != nil {
		return 1, err
	}
	times, err := tookFile()
	if err != nil {
		return 1, err
	}
	took := readTook(times)
	r := &runner{plan: &p, file: file, defects: defects, progress: progress, turns: turns{to: []io.Writer{os.Stdout, results}}, took: took}
	if p.Status {
		r.status = newProgress(progress, took.of(p.VMs), p.AtOnce)
	}
	// What the VMs have said so far is then written, and is not lost with this
	// process. A write to a gotestsum that has ended is such an end, too.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	if ctx, err = p.untilCut(ctx); err != nil {
		return 1, err
	}
	r.run(ctx, took.order(p.VMs, p.AtOnce))
	if r.failed {
		code = 1
	}
	if r.turns.err != nil {
		return 1, r.turns.err
	}
	if err := took.write(times); err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
	}
	return code, results.Close()
}

// runner runs the VMs of a plan, several at once.
type runner struct {
	plan     *plan
	file     string // the plan's
	defects  *known.Loader
	progress io.Writer
	status   *progress // nil: nobody sees it
	turns    turns

	mu     sync.Mutex
	took   took
	failed bool
}

// run runs the VMs in an order, until the context ends.
func (r *runner) run(ctx context.Context, order []int) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, r.plan.AtOnce)
	for _, i := range order {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		piece := r.turns.piece()
		wg.Go(func() {
			defer func() { <-slots }()
			r.one(ctx, i, piece)
		})
	}
	wg.Wait()
}

// one runs VM number i.
func (r *runner) one(ctx context.Context, i int, out *piece) {
	// What is ended with this process hangs on this thread.
	runtime.LockOSThread()
	began := time.Now()
	g := &r.plan.VMs[i]
	reports := &forReports{w: out.to(0), results: out.to(1), progress: r.progress, status: r.status, number: i}
	reports.verdicts.matcher = r.defects.Matcher(g.Where)
	if r.plan.AtOnce > 1 {
		reports.label = g.Package + ": "
	}
	err := errors.Join(g.describe(r.plan.Results, out.to(1)), r.plan.test(ctx, r.file, i, reports), reports.close())
	out.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if reports.ended {
		r.took[g.key()] = tookOnce{earlier{time.Since(began), reports.tests}, time.Now()}
	}
	if exit := new(exec.ExitError); err != nil && !(reports.onlyKnown() && errors.As(err, &exit)) {
		r.failed = true
		if !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "selftest:", err)
		}
	}
}

// test runs VM number i, and writes its events.
func (p *plan) test(ctx context.Context, file string, i int, w io.Writer) error {
	cmd := exec.CommandContext(ctx, tool("test2json"), "-t", "-p", p.VMs[i].Package, os.Args[0], "boot", file, strconv.Itoa(i))
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	// It pays no heed to an interrupt, and would wait for the next line of a
	// guest that may have none.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd.Run()
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
	return tellStatus(os.Stdout, vm.Exec(p.VMs[i].Options, p.VMs[i].Argv))
}

// tellStatus says that the suite ended with a status that its tests cannot have
// given it, as by a panic when it restored the machine. A known defect that
// failed a test does not excuse this. It returns the status.
func tellStatus(w io.Writer, status int) int {
	if status != 0 && status != 1 {
		// What the suite wrote last need not have ended its line.
		fmt.Fprintf(w, "\nFAIL: the suite ended with status %d\n", status)
	}
	return status
}
