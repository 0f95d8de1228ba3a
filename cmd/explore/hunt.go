package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/vm"
)

// hunt explores one kernel, in one VM after another.
type hunt struct {
	name, source string
	dir          string // for the consoles of its VMs
	vm           vm.Options
	guest        string // the program for the VM
	all          *findings
	options      *options

	// runVM is [vm.Run], except in tests.
	runVM func(ctx context.Context, o vm.Options, argv []string, out, log io.Writer) (int, error)

	stats explore.Stats // of all VMs
	again map[string]int
	began time.Time
	end   time.Time // of the time to explore
	next  uint64    // the number of the next sequence
}

// session is what one VM has told so far.
type session struct {
	hunt    *hunt
	rest    []byte
	begin   explore.Begin
	step    int // the number of the step that began last
	stats   explore.Stats
	trouble string
	tried   []explore.Tried
	heard   time.Time // when it last told something

	spoilers []*explore.Finding // to be reduced in fresh VMs
	explored explore.Begin      // the last sequence that was not one to reduce a finding
	broke    *explore.Finding   // what is being reduced, as it was found; nil: nothing is
}

// alive is how long a guest may be silent that is at work: it tells of each
// step.
const alive = time.Minute

// boot runs the guest in a fresh VM. The error is a *vm.Failure if the kernel
// did not survive.
func (h *hunt) boot(ctx context.Context, limit time.Duration, args ...string) (*session, error) {
	s := &session{hunt: h}
	options := h.vm
	options.Timeout = limit
	options.Append += " oops=panic"
	options.Out = h.dir
	began := time.Now()
	code, err := h.runVM(ctx, options, append([]string{h.guest}, args...), s, os.Stderr)
	switch {
	case err != nil && time.Since(began) >= limit && time.Since(s.heard) < alive:
		// The limit has ended it, and to reduce what it found took longer.
		return s, fmt.Errorf("the guest was still at work after %v", limit)
	case err != nil:
		return s, err
	case code != 0 && s.trouble != "":
		return s, errors.New(s.trouble)
	case code != 0:
		return s, fmt.Errorf("the guest's program ended with status %d", code)
	}
	return s, nil
}

// Write takes what the guest prints: an event a line.
func (s *session) Write(p []byte) (int, error) {
	s.heard = time.Now()
	s.rest = append(s.rest, p...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		s.rest = rest
		var e explore.Event
		if err := json.Unmarshal(line, &e); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s\n", s.hunt.name, line)
			continue
		}
		if err := s.take(e); err != nil {
			return 0, err
		}
	}
}

func (s *session) take(e explore.Event) error {
	h := s.hunt
	switch {
	case e.Begin != nil:
		s.begin, s.step = *e.Begin, -1
		if e.Begin.Why == "explore" {
			h.next = e.Begin.Number + 1
			s.explored = *e.Begin
		}
	case e.Step != nil:
		s.step = *e.Step
	case e.Broken != nil:
		fmt.Printf("%s: after %.0f s: %s: %s; reducing it\n", h.name, time.Since(h.began).Seconds(), e.Broken.Key(), e.Broken.Seen)
		s.broke = s.unreduced(*e.Broken)
	case e.Finding != nil:
		s.broke = nil
		return h.all.add(h, e.Finding)
	case e.Spoiler != nil:
		s.broke = nil
		s.spoilers = append(s.spoilers, e.Spoiler)
	case e.Again != nil:
		h.again[*e.Again]++
	case e.Stats != nil:
		s.stats = *e.Stats
	case e.Trouble != nil:
		s.trouble = *e.Trouble
	case e.Tried != nil:
		s.tried = append(s.tried, *e.Tried)
	}
	return nil
}

// unreduced returns the finding of a law that the last sequence has broken.
func (s *session) unreduced(v explore.Violation) *explore.Finding {
	steps := s.explored.Lines
	return &explore.Finding{
		Violation: v, Steps: steps, Original: len(steps), Shown: 1, Tried: 1,
		Seed: s.hunt.options.seed, Number: s.explored.Number, Kernel: s.hunt.source, Cgroup: s.explored.Cgroup,
	}
}

// unfinished returns the findings that are to be reduced in fresh VMs: also the
// one that the machine was at when it died.
func (s *session) unfinished() []*explore.Finding {
	if s.broke == nil {
		return s.spoilers
	}
	return append(slices.Clone(s.spoilers), s.broke)
}

// run explores the kernel for the time that is given, or replays. It is an error
// if ctx ends it before that: no law broken is then no verdict.
func (h *hunt) run(ctx context.Context) error {
	h.again = make(map[string]int)
	fmt.Printf("%s: %s, %s CPUs\n", h.name, h.source, h.vm.SMP)
	if h.options.replay != "" {
		return h.replay(ctx)
	}
	h.began = time.Now()
	h.end = h.began.Add(h.options.time)
	var quick int
	for time.Now().Before(h.end) && ctx.Err() == nil && (h.options.most == 0 || len(h.all.list) < h.options.most) {
		began := time.Now()
		left := time.Until(h.end)
		s, err := h.boot(ctx, left+shrinkLimit, "-seed", fmt.Sprint(h.options.seed), "-first", fmt.Sprint(h.next),
			"-length", fmt.Sprint(h.options.length), "-for", left.String(), "-found", h.all.keys(), fmt.Sprintf("-known=%t", !h.options.all),
			"-findings", fmt.Sprint(max(h.options.most-len(h.all.list), 0)))
		h.stats.Add(s.stats)
		h.progress(s)
		if h.all.failed != nil {
			return h.all.failed
		}
		for _, f := range s.unfinished() {
			if err := h.finish(ctx, f); err != nil {
				return err
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		var failure *vm.Failure
		switch {
		case s.begin.Lines == nil:
			return err // it did not come so far
		case errors.As(err, &failure):
			if err := h.crashed(ctx, s, failure); err != nil {
				return err
			}
		default:
			fmt.Printf("%s: %v; going on in a fresh VM\n", h.name, err)
		}
		// A kernel that never gets anywhere is not explored.
		if quick++; time.Since(began) > time.Minute || s.stats.Sequences > 0 {
			quick = 0
		}
		if quick == 5 {
			return fmt.Errorf("five VMs one after the other did not end one sequence: %w", err)
		}
	}
	return context.Cause(ctx)
}

// shrinkLimit is the time that a VM may take beyond that to explore.
const shrinkLimit = 5 * time.Minute

// progress prints the figures of one VM.
func (h *hunt) progress(s *session) {
	if s.stats.Total > 0 {
		fmt.Printf("%s: %v; %d states, %d findings\n", h.name, s.stats, s.stats.States, len(h.all.list))
	}
}

// replay runs the sequences of the file.
func (h *hunt) replay(ctx context.Context) error {
	s, err := h.boot(ctx, shrinkLimit, "-law", h.options.key, "-replay", h.options.sequences)
	var failure *vm.Failure
	if errors.As(err, &failure) {
		return h.replayCrashed(ctx, s, failure)
	}
	sequences, parseErr := explore.ReadSequences(h.options.sequences)
	if parseErr != nil {
		return parseErr
	}
	for _, tried := range s.tried {
		for i, step := range tried.Steps {
			if i == len(sequences[tried.Number]) {
				fmt.Printf("%s: and to undo that:\n", h.name)
			}
			fmt.Printf("%s: %s  # %s\n", h.name, step, orOK(tried.Results[i]))
		}
		if tried.Broken == nil {
			fmt.Printf("%s: not broken\n", h.name)
		}
		for _, v := range tried.Broken {
			if h.all.known(v.Key()) {
				fmt.Printf("%s: BROKEN: %s: %s\n", h.name, v.Key(), v.Seen)
				continue
			}
			f := &explore.Finding{
				Violation: v, Steps: tried.Steps, Results: tried.Results, Original: len(tried.Steps), Shown: 1, Tried: 1,
				Kernel: h.source, Cgroup: s.begin.Cgroup, Log: tried.Log,
			}
			if err := h.replayed(ctx, f); err != nil {
				return err
			}
		}
	}
	if s.spoiled() {
		return nil // the finding says why
	}
	return err
}

// replayCrashed tells of a VM that did not survive the sequences.
func (h *hunt) replayCrashed(ctx context.Context, s *session, failure *vm.Failure) error {
	if ctx.Err() != nil || s.begin.Lines == nil {
		return failure // it was ended, or did not come so far
	}
	fmt.Printf("%s: the kernel did not survive step %d: %s\n", h.name, s.step+1, failure.What)
	f := crashFinding(s, failure)
	if failure.Doubt != "" {
		fmt.Printf("%s: %s\n", h.name, failure.Doubt)
		if shown, err := h.showsAgain(ctx, f); err != nil || !shown {
			return err
		}
	}
	return h.replayed(ctx, f)
}

// replayed tells of what a sequence that was given has shown, reduced if that is
// wanted.
func (h *hunt) replayed(ctx context.Context, f *explore.Finding) error {
	if h.options.reduce {
		return h.reduce(ctx, f)
	}
	return h.all.add(h, f)
}

// spoiled reports whether the last sequence that was tried broke a law: then
// the machine may be another one than before, which is no trouble of ours.
func (s *session) spoiled() bool { return len(s.tried) > 0 && s.tried[len(s.tried)-1].Broken != nil }

func orOK(result string) string {
	if result == "" {
		return "ok"
	}
	return result
}

// known reports whether the key was found before.
func (f *findings) known(key string) bool {
	return slices.ContainsFunc(f.list, func(f *explore.Finding) bool { return f.Violation.Key() == key })
}
