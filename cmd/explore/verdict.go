package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/internal/busybox"
	"github.com/hotplugtest/hotplugtest/vm"
)

// scriptLimit bounds the run of a script, the boot included.
const scriptLimit = 5 * time.Minute

// judge runs the script of each finding on each kernel, in a fresh VM, and
// writes the verdicts into the reports.
func (o *options) judge(ctx context.Context, hunts []*hunt, all *findings) error {
	path, err := busybox.Find(ctx, o.arch)
	if err != nil {
		return fmt.Errorf("the scripts were not run: %w", err)
	}
	if err := provide(hunts, all); err != nil {
		return err
	}
	var errs []error
	for _, finding := range all.list {
		script, err := os.ReadFile(filepath.Join(all.dir, finding.Slug(), "repro.sh"))
		if err != nil {
			return err
		}
		var verdicts []explore.Verdict
		for _, h := range hunts {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			v := h.runScript(ctx, path, string(script))
			fmt.Printf("%s: repro.sh of %s: %s\n", h.name, finding.Violation.Key(), v.Status)
			verdicts = append(verdicts, v)
		}
		errs = append(errs, all.write(finding, verdicts))
	}
	return errors.Join(errs...)
}

// provide has the VMs of scripts have a chrt, if one needs it: busybox has none.
// The program of the guest does for it.
func provide(hunts []*hunt, all *findings) error {
	usesChrt := func(f *explore.Finding) bool { return strings.Contains(strings.Join(f.Steps, "\n"), "chrt ") }
	if len(hunts) == 0 || !slices.ContainsFunc(all.list, usesChrt) {
		return nil
	}
	if err := os.MkdirAll(guestFiles, 0o755); err != nil {
		return err
	}
	return os.Link(hunts[0].guest, filepath.Join(guestFiles, "chrt"))
}

// guestFiles is what a VM gets beside its program, in the directory in which
// that runs.
const guestFiles = "testdata"

// runScript runs a script with busybox in a fresh VM.
func (h *hunt) runScript(ctx context.Context, busybox, script string) explore.Verdict {
	var out bytes.Buffer
	options := h.vm
	options.Timeout = scriptLimit
	options.Append += " oops=panic"
	code, err := vm.Run(ctx, options, []string{busybox, "sh", "-c", "PATH=$PATH:$PWD/" + guestFiles + "\n" + script}, &out, os.Stderr)
	v := explore.Verdict{Kernel: h.source, Output: out.String()}
	var failure *vm.Failure
	switch {
	case errors.As(err, &failure):
		v.Status = "crashed: " + failure.What
	case err != nil:
		v.Status = "not known: " + err.Error()
	case code == 1:
		v.Status = "broken"
	case code == 0:
		v.Status = "not broken"
	default:
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		v.Status = fmt.Sprintf("status %d: %s", code, lines[len(lines)-1])
	}
	return v
}
