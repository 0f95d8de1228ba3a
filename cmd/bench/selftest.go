package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// selftestRun is what a run of ci/selftest shows.
type selftestRun struct {
	first, all     time.Duration // from its start to the first test, and to its end
	code           int
	tests          int
	broken, probes int // in tests that failed
}

// broken matches what a failed test says of its probes.
var broken = regexp.MustCompile(`broken in (\d+) of (\d+) probes`)

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
	data, err := os.ReadFile(filepath.Join(out, "results.json"))
	if err != nil {
		return r, err
	}
	if err := r.read(data, start); err != nil {
		return r, err
	}
	if r.tests == 0 {
		return r, fmt.Errorf("%v: exit status %d, no test ran:\n%s", cmd, r.code, &said)
	}
	return r, nil
}

// read takes the events of go test -json.
func (r *selftestRun) read(data []byte, start time.Time) error {
	for line := range bytes.Lines(data) {
		var event struct {
			Time                 time.Time
			Action, Test, Output string
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		switch {
		case event.Action == "run":
			if r.tests++; r.tests == 1 {
				r.first = event.Time.Sub(start)
			}
		case event.Action == "output":
			m := broken.FindStringSubmatch(event.Output)
			if m == nil {
				continue
			}
			for i, sum := range []*int{&r.broken, &r.probes} {
				n, err := strconv.Atoi(m[i+1])
				if err != nil {
					return err
				}
				*sum += n
			}
		}
	}
	return nil
}
