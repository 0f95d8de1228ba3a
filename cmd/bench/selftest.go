package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// selftestRun is what a run of ci/selftest shows.
type selftestRun struct {
	// from its start to the first test, and to its end
	first, all time.Duration
	code       int
	tests      int
	// looks at a promise, and those of them at which it was broken
	probes, broken int
}

// selftest runs ci/selftest. Tests that fail are no error.
func (b *bench) selftest(ctx context.Context, args ...string) (r selftestRun, err error) {
	out := filepath.Join(b.dir, "out")
	if err := os.RemoveAll(out); err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, "ci/selftest", append([]string{"-out", out}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	err = cmd.Run()
	r.all = time.Since(start)
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		return r, err
	}
	r.code = cmd.ProcessState.ExitCode()
	results, err := os.Open(filepath.Join(out, testjson.ResultsFile))
	if err != nil {
		return r, err
	}
	defer results.Close()
	if err := r.read(results, start); err != nil {
		return r, err
	}
	if r.tests == 0 {
		return r, fmt.Errorf("%v: exit status %d, no test ran:\n%s", cmd, r.code, &said)
	}
	return r, nil
}

// read takes the events of go test -json.
func (r *selftestRun) read(results io.Reader, start time.Time) error {
	for e, err := range testjson.Read(results) {
		if err != nil {
			return err
		}
		switch {
		case e.Action == "run":
			if r.tests++; r.tests == 1 {
				r.first = e.Time.Sub(start)
			}
		case e.Action == "attr" && (e.Key == "broken" || e.Key == "probes"):
			n, err := strconv.Atoi(e.Value)
			if err != nil {
				return fmt.Errorf("attribute %s of %s: %w", e.Key, e.Test, err)
			}
			if e.Key == "broken" {
				r.broken += n
			} else {
				r.probes += n
			}
		}
	}
	return nil
}
