package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/vm"
)

var (
	crashedIn = regexp.MustCompile(`(?m)RIP: [0-9a-f]+:([A-Za-z_][\w.]*)\+0x|^\S*\s*pc : ([A-Za-z_][\w.]*)\+0x`)
	thread    = regexp.MustCompile(`\d+`)
)

// crashFinding makes a finding of the end of a VM.
func crashFinding(s *session, failure *vm.Failure) *explore.Finding {
	steps := s.begin.Lines
	if s.step >= 0 && s.step+1 < len(steps) {
		steps = steps[:s.step+1]
	}
	touches := thread.ReplaceAllString(strings.SplitN(failure.What, " (Linux", 2)[0], "N")
	if m := crashedIn.FindStringSubmatch(failure.Console); m != nil {
		touches = "crash in " + m[1] + m[2]
	}
	return &explore.Finding{
		Violation: explore.Violation{Law: explore.Survives.Name, Touches: touches, Seen: failure.What},
		Steps:     steps, Results: make([]string, len(steps)), Original: len(steps), Shown: 1, Tried: 1,
		Seed: s.hunt.options.seed, Number: s.begin.Number, Kernel: s.hunt.source, Log: strings.Split(failure.Console, "\n"),
	}
}

// crashed tells of a kernel that did not survive, and reduces what it was.
func (h *hunt) crashed(ctx context.Context, s *session, failure *vm.Failure) error {
	f := crashFinding(s, failure)
	key := f.Violation.Key()
	if h.all.known(key) {
		h.again[key]++
		return nil
	}
	fmt.Printf("%s: %s in sequence %d, step %d; reducing it in fresh VMs\n", h.name, f.Violation.Key(), s.begin.Number, s.step+1)
	lines, err := explore.ReadSequences(strings.Join(f.Steps, "\n"))
	if err != nil {
		return err
	}
	if h.crashes(ctx, key, lines) == 0 {
		steps := explore.Shrink(lines[0], func(candidates [][]explore.Line) int {
			if ctx.Err() != nil {
				return -1
			}
			return h.crashes(ctx, key, candidates)
		})
		f.Steps = strings.Split(strings.TrimSpace(explore.FormatSequences(steps)), "\n")
		f.Results = make([]string, len(f.Steps))
		f.Shown, f.Tried = 2, 2
	} else {
		f.Tried = 2
	}
	return h.all.add(h, f)
}

// crashes returns the index of the first candidate that the kernel does not
// survive in the way that key says, or -1.
func (h *hunt) crashes(ctx context.Context, key string, candidates [][]explore.Line) int {
	for first := 0; first < len(candidates); {
		s, err := h.boot(ctx, shrinkLimit, "-law", "none", "-replay", explore.FormatSequences(candidates[first:]...))
		var failure *vm.Failure
		if !errors.As(err, &failure) || s.begin.Lines == nil {
			return -1
		}
		at := first + int(s.begin.Number)
		if crashFinding(s, failure).Violation.Key() == key {
			return at
		}
		first = at + 1
	}
	return -1
}
