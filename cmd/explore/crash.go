package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/internal/crash"
	"github.com/hotplugtest/hotplugtest/vm"
)

// crashFinding makes a finding of the end of a VM.
func crashFinding(s *session, failure *vm.Failure) *explore.Finding {
	steps := s.begin.Lines
	if s.step >= 0 && s.step+1 < len(steps) {
		steps = steps[:s.step+1]
	}
	return &explore.Finding{
		Violation: crash.Violation(failure),
		Steps:     steps, Results: make([]string, len(steps)), Original: len(steps), Shown: 1, Tried: 1,
		Seed: s.hunt.options.seed, Number: s.begin.Number, Kernel: s.hunt.source, Cgroup: s.begin.Cgroup, Log: strings.Split(failure.Console, "\n"),
	}
}

// crashed tells of a kernel that did not survive, and reduces what it was.
func (h *hunt) crashed(ctx context.Context, s *session, failure *vm.Failure) error {
	f := crashFinding(s, failure)
	if h.counted(f, failure) {
		return nil
	}
	fmt.Printf("%s: %s in sequence %d, step %d\n", h.name, f.Violation.Key(), s.begin.Number, s.step+1)
	if failure.Doubt != "" {
		fmt.Printf("%s: %s\n", h.name, failure.Doubt)
		if shown, err := h.showsAgain(ctx, f); err != nil || !shown {
			return err
		}
	}
	return h.finish(ctx, f)
}

// counted reports whether a crash is one that was found before, or is known to
// be a defect of the kernel. Then it is counted.
func (h *hunt) counted(f *explore.Finding, failure *vm.Failure) bool {
	key := f.Violation.Key()
	if !h.all.known(key) && (h.options.all || !crash.Known(failure)) {
		return false
	}
	h.again[key]++
	return true
}

// doubtTries is how often a crash that may not be the kernel's fault is tried
// again.
const doubtTries = 3

// showsAgain reports whether the steps of a crash that may not be the kernel's
// fault show it once more, which makes it a finding. A VM in which the steps did
// not come to an end, and did not crash the kernel, says nothing of that: if all
// are such, the error says why.
func (h *hunt) showsAgain(ctx context.Context, f *explore.Finding) (bool, error) {
	key := f.Violation.Key()
	lines, err := explore.ReadSequences(strings.Join(f.Steps, "\n"))
	if err != nil {
		return false, err
	}
	tried := 0
	var untold error
	for range doubtTries {
		s, err := h.boot(ctx, shrinkLimit, "-law", key, "-replay", explore.FormatSequences(lines...))
		var failure *vm.Failure
		crashed := errors.As(err, &failure) && s.begin.Lines != nil
		switch {
		case crashed && crashFinding(s, failure).Violation.Key() == key:
			f.Shown, f.Tried = f.Shown+1, f.Tried+tried+1
			return true, nil
		case ctx.Err() != nil:
			return false, fmt.Errorf("%s may be a finding or not: %w", key, context.Cause(ctx))
		case crashed:
			if err := h.another(ctx, s, failure, f.Number); err != nil {
				return false, err
			}
		case err != nil && len(s.tried) == 0:
			untold = err
			continue
		}
		tried++
	}
	if tried == 0 {
		return false, fmt.Errorf("%s may be a finding or not: %w", key, untold)
	}
	fmt.Printf("%s: no finding: %s did not show again in %d fresh VMs\n", h.name, key, tried)
	return false, nil
}

// another tells of a crash that came in place of one that was tried again. Its
// steps are of the sequence with the number.
func (h *hunt) another(ctx context.Context, s *session, failure *vm.Failure, number uint64) error {
	f := crashFinding(s, failure)
	f.Number = number
	if h.counted(f, failure) {
		return nil
	}
	fmt.Printf("%s: another one in a fresh VM: %s\n", h.name, f.Violation.Key())
	if failure.Doubt != "" {
		fmt.Printf("%s: no finding: %s\n", h.name, failure.Doubt)
		return nil
	}
	return h.finish(ctx, f)
}

// finish reduces a finding and tells of it. If the time to explore is over, or
// who runs this has interrupted it, the finding stays as it is.
func (h *hunt) finish(ctx context.Context, f *explore.Finding) error {
	if ctx.Err() != nil || !time.Now().Before(h.end) {
		return h.all.add(h, f)
	}
	return h.reduce(ctx, f)
}

// reduceTime is how long a finding may be reduced in fresh VMs: each takes
// seconds to boot.
const reduceTime = 5 * time.Minute

// reduce reduces a finding in fresh VMs, and tells of it: the kernel did not
// survive it, or was not as before after it.
func (h *hunt) reduce(ctx context.Context, f *explore.Finding) error {
	fmt.Printf("%s: reducing %s in fresh VMs\n", h.name, f.Violation.Key())
	lines, err := explore.ReadSequences(strings.Join(f.Steps, "\n"))
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, reduceTime)
	defer cancel()
	shows, ran := h.shows(limited, f, lines)
	if ran {
		f.Tried++
	}
	if shows < 0 {
		return h.all.add(h, f)
	}
	f.Shown++
	steps := explore.Shrink(lines[0], func(candidates [][]explore.Line) int {
		if limited.Err() != nil {
			return -1
		}
		first, _ := h.shows(limited, f, candidates)
		return first
	})
	// The last candidate that was tried is not what is left.
	if shows, ran := h.shows(ctx, f, [][]explore.Line{steps}); ran {
		f.Tried++
		if shows == 0 {
			f.Shown++
		}
	}
	return h.all.add(h, f)
}

// shows returns the index of the first candidate that shows the finding in a
// fresh VM, or -1. What was seen then is part of the finding, and the steps up
// to it: a law may have been broken when they were undone. A VM that does not
// come so far says nothing; if the next one does not either, the others are left
// out. ran reports whether one came so far.
func (h *hunt) shows(ctx context.Context, f *explore.Finding, candidates [][]explore.Line) (at int, ran bool) {
	key := f.Violation.Key()
	for first, missed := 0, 0; first < len(candidates); {
		s, err := h.boot(ctx, shrinkLimit, "-law", key, "-replay", explore.FormatSequences(candidates[first:]...))
		if s.begin.Lines == nil {
			if missed++; missed > 1 || ctx.Err() != nil {
				return -1, ran
			}
			continue
		}
		missed, ran = 0, true
		at := first + int(s.begin.Number)
		var failure *vm.Failure
		switch crashed := errors.As(err, &failure); {
		case crashed && crashFinding(s, failure).Violation.Key() == key:
			f.Steps = strings.Split(strings.TrimSpace(explore.FormatSequences(candidates[at])), "\n")
			f.Results = make([]string, len(f.Steps))
			return at, ran
		case s.shown(f):
			return at, ran
		case err == nil:
			return -1, ran
		}
		first = at + 1 // it spoiled the machine, or crashed it in another way
	}
	return -1, ran
}

// shown reports whether the last sequence that was tried shows the finding,
// which then has what was seen.
func (s *session) shown(f *explore.Finding) bool {
	if len(s.tried) == 0 {
		return false
	}
	last := s.tried[len(s.tried)-1]
	if last.Number != s.begin.Number {
		return false // the machine did not come back from a later one
	}
	for _, v := range last.Broken {
		if v.Key() == f.Violation.Key() {
			v.Lasted = f.Violation.Lasted
			f.Violation, f.Steps, f.Results, f.Log = v, last.Steps, last.Results, last.Log
			return true
		}
	}
	return false
}
