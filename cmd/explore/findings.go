package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/explore"
)

// findings are those of all kernels. Each is on disk as soon as it is known.
type findings struct {
	dir    string
	list   []*explore.Finding
	failed error // why one could not be written
}

// keys returns the keys, a line each.
func (f *findings) keys() string {
	var keys []string
	for _, finding := range f.list {
		keys = append(append(keys, finding.Violation.Key()), finding.Also...)
	}
	return strings.Join(keys, "\n")
}

// add tells of a finding and writes it.
func (f *findings) add(h *hunt, finding *explore.Finding) error {
	f.list = append(f.list, finding)
	rate := finding.Rate()
	if finding.Shown == 1 && finding.Tried > 1 {
		rate += ", not again"
	}
	fmt.Printf("%s: BROKEN: %s: %s (%s, %d steps of %d)\n", h.name, finding.Violation.Key(), finding.Violation.Seen,
		rate, len(finding.Steps), finding.Original)
	for i, step := range finding.Steps {
		if i < len(finding.Results) {
			step += "  # " + orOK(finding.Results[i])
		}
		fmt.Printf("    %s\n", step)
	}
	if err := f.write(finding, nil); err != nil {
		f.failed = err
	}
	return f.failed
}

// findings returns those of this run: none so far. Those of an earlier one stay
// only if this one replays, as it may replay one of them.
func (o *options) findings() (*findings, error) {
	f := &findings{dir: filepath.Join(o.vm.Out, "findings")}
	if err := os.MkdirAll(f.dir, 0o755); err != nil || o.replay != "" {
		return f, err
	}
	return f, f.forget()
}

// forget removes the findings that an earlier run wrote: nobody must take them
// for those of this one. A directory that was given another name stays, and so
// does what is not a finding's own file.
func (f *findings) forget() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(f.dir, e.Name())
		text, err := os.ReadFile(filepath.Join(dir, "sequence.txt"))
		if err != nil {
			continue // no finding
		}
		var own explore.Finding
		own.Violation.Law, own.Violation.Touches, _ = strings.Cut(keyOf(string(text)), ": ")
		if own.Slug() != e.Name() {
			continue
		}
		for _, name := range []string{"repro.sh", "report.md", "sequence.txt"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// write writes the files of a finding.
func (f *findings) write(finding *explore.Finding, verdicts []explore.Verdict) error {
	law, err := lawOf(finding)
	if err != nil {
		return err
	}
	return finding.Save(f.dir, law, verdicts)
}

// allLaws are those that a finding may break.
func allLaws() []explore.Law { return append(explore.Default().Laws, explore.Survives) }

// lawOf returns the law that a finding breaks.
func lawOf(f *explore.Finding) (explore.Law, error) {
	for _, law := range allLaws() {
		if law.Name == f.Violation.Law {
			return law, nil
		}
	}
	return explore.Law{}, fmt.Errorf("there is no law %q", f.Violation.Law)
}

// conclude runs the scripts and prints what was found.
func (o *options) conclude(ctx context.Context, hunts []*hunt, all *findings) error {
	var errs []error
	if o.scripts && len(all.list) > 0 {
		errs = append(errs, o.judge(ctx, hunts, all))
	}
	for _, h := range hunts {
		if h.stats.Steps == 0 {
			continue // it has replayed
		}
		fmt.Printf("%s: %v\n", h.name, h.stats)
		for _, key := range slices.Sorted(maps.Keys(h.again)) {
			what := "known, -all shows it"
			if all.known(key) {
				what = "found again"
			}
			fmt.Printf("%s: %s (%d): %s\n", h.name, what, h.again[key], key)
		}
	}
	fmt.Printf("findings: %d, in %s\n", len(all.list), all.dir)
	return errors.Join(errs...)
}
