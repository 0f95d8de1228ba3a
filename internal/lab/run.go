// Package lab runs the suite in one virtual machine after another and reads
// what became of it, for commands that compare kernels which are broken or
// delayed on purpose.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// A Runner runs the suite as ci/selftest does. Make one with [NewRunner].
type Runner struct{ dir string }

// NewRunner builds what runs the suite. The working directory must be the
// module's. The caller must call Close.
func NewRunner(ctx context.Context) (*Runner, error) {
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		return nil, err
	}
	r := &Runner{dir}
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+"/", "./cmd/selftest", "gotest.tools/gotestsum", "cmd/test2json")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("building the suite's runner: %w", err), r.Close())
	}
	return r, nil
}

// Close removes what NewRunner built.
func (r *Runner) Close() error { return os.RemoveAll(r.dir) }

// ErrNoTest is the error of a run that came to its end, and in which no test
// ran: -run matched none, or they were all skipped.
var ErrNoTest = errors.New("no test ran")

// Run runs the suite with the arguments of ci/selftest. Its reports go to a
// directory. The error says why there is no outcome, with what ci/selftest
// printed: a run that was cut short has none. One that an emulator may have
// ended says nothing, and runs once more.
func (r *Runner) Run(ctx context.Context, out string, args ...string) (*Outcome, error) {
	o, err := r.run(ctx, out, args...)
	if err == nil && o.Doubtful {
		o, err = r.run(ctx, out, args...)
	}
	return o, err
}

func (r *Runner) run(ctx context.Context, out string, args ...string) (*Outcome, error) {
	// What is there of an earlier run must not be taken for this one's.
	results := filepath.Join(out, testjson.ResultsFile)
	if err := os.Remove(results); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.dir, "selftest"), append([]string{"-out", out}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	// What it prints is in the reports too, except for why there are none.
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o, readErr := ReadOutcome(results)
	switch {
	case readErr != nil:
		err = fmt.Errorf("the suite's run: %w", errors.Join(err, readErr))
	case o.Tests == 0 && o.Died == "":
		err = errors.Join(ErrNoTest, err)
	// If the VM ends before a test does, ci/selftest cannot tell.
	case err == nil, o.Tests == 0, cmd.ProcessState.ExitCode() == cli.Failed:
		return o, nil
	default:
		err = fmt.Errorf("the suite's run did not come to its end: %w", err)
	}
	return nil, fmt.Errorf("%w\n%s", err, output)
}
