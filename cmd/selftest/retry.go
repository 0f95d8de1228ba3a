package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// suggestFile has entries for -known, for the failures that were tried again.
const suggestFile = "known-new.json"

// knownFor is how long such an entry counts.
const knownFor = 90 * 24 * time.Hour

// tries are the runs of a test that failed, the first one among them.
type tries struct {
	test
	runs, failed int
}

// String returns "broken 3/3" or "flaky 1/3".
func (t *tries) String() string {
	word := "broken"
	if t.failed < t.runs {
		word = "flaky"
	}
	return fmt.Sprintf("%s %d/%d", word, t.failed, t.runs)
}

// attempts are what the report says of tests that were tried again.
func attempts(again []*tries) map[junit.Case][]junit.Property {
	notes := make(map[junit.Case][]junit.Property)
	for _, t := range again {
		c := junit.Case{Class: t.pkg, Name: t.name}
		notes[c] = append(notes[c], junit.Property{Name: testjson.Attempts, Value: t.String()})
	}
	return notes
}

// retry runs the tests that failed by no known defect n times again, each time
// in a fresh VM. This makes no test pass. progress is where it tells of it.
func (p *plan) retry(ctx context.Context, tmp string, n int, v *verdicts, progress io.Writer) ([]*tries, error) {
	again := *p
	again.VMs = nil
	var all []*tries
	for _, g := range p.VMs {
		tests := v.failures(g.Package)
		if len(tests) == 0 {
			continue
		}
		fmt.Fprintf(progress, "\nagain: the failures of %s (%d), each in %d virtual machines more\n", g.Package, len(tests), n)
		for _, name := range tests {
			all = append(all, &tries{test: test{g.Package, name}, runs: 1, failed: 1})
		}
		for k := range n {
			again.VMs = append(again.VMs, g.again(k+1, tests))
		}
	}
	if len(again.VMs) == 0 {
		return nil, nil
	}
	file, err := again.write(tmp)
	if err != nil {
		return nil, err
	}
	defects, err := loadKnown(p.Known)
	if err != nil {
		return nil, err
	}
	var results bytes.Buffer
	r := &runner{
		plan: &again, file: file, defects: defects, progress: progress, took: make(took),
		turns: turns{to: []io.Writer{io.Discard, &results}},
	}
	r.run(ctx, r.took.order(again.VMs, 1))
	return all, errors.Join(ctx.Err(), r.turns.err, count(all, &results))
}

// again is a VM that runs these tests for the k-th time after the first.
func (g *guest) again(k int, tests []string) guest {
	// A pattern that is too long for a command line would be for most tests
	// anyway.
	const most = 200
	h := *g
	h.Package += fmt.Sprintf("%s%d", triesMark, k)
	h.Options.Out = filepath.Join(g.Options.Out, fmt.Sprintf("%s%d", againPrefix, k))
	if len(tests) <= most {
		h.Argv = slices.Clone(g.Argv)
		for i, arg := range h.Argv {
			if strings.HasPrefix(arg, "-test.run=") {
				h.Argv[i] = "-test.run=" + pattern(tests)
			}
		}
	}
	return h
}

// againPrefix begins the name of the directory for such a VM.
const againPrefix = "again-"

// againDirs are those of an earlier run.
func againDirs(out string) (dirs []string) {
	entries, _ := os.ReadDir(out) // an earlier run need not have been
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), againPrefix)
		if _, err := strconv.Atoi(number); ok && err == nil && e.IsDir() {
			dirs = append(dirs, filepath.Join(out, e.Name()))
		}
	}
	return dirs
}

// triesMark is between the name of a package and the number of the try.
const triesMark = "#"

// pattern is for -test.run: just these tests.
func pattern(tests []string) string {
	var patterns []string
	for _, name := range tests {
		parts := strings.Split(name, "/")
		for i, part := range parts {
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
		patterns = append(patterns, strings.Join(parts, "/"))
	}
	return strings.Join(patterns, "|")
}

// count counts what the results say of the tests. A test that did not run to
// its end has failed, and one that did not begin is not counted.
func count(all []*tries, results io.Reader) error {
	verdict := make(map[test]string)
	for e, err := range testjson.Read(results) {
		switch {
		case err != nil:
			return err
		case e.Test != "" && (e.Action == "run" || e.Verdict()):
			verdict[test{e.Package, e.Test}] = e.Action
		}
	}
	for t, action := range verdict {
		pkg, _, _ := strings.Cut(t.pkg, triesMark)
		i := slices.IndexFunc(all, func(a *tries) bool { return a.test == test{pkg, t.name} })
		if i < 0 || action == "skip" {
			continue
		}
		all[i].runs++
		if action != "pass" {
			all[i].failed++
		}
	}
	return nil
}

// noteTries adds what came of the tests to the results, prints it, and writes
// entries for -known.
func (p *plan) noteTries(all []*tries, v *verdicts, out string, screen io.Writer) error {
	if len(all) == 0 {
		return nil
	}
	results, err := os.OpenFile(p.Results, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	fmt.Fprint(screen, "\n=== Tried again\n")
	var errs []error
	for _, t := range all {
		fmt.Fprintf(screen, "%v: %s %s\n", t, t.pkg, t.name)
		errs = append(errs, testjson.Write(results, testjson.Event{
			Time: time.Now(), Action: "attr", Package: t.pkg, Test: t.name, Key: testjson.Attempts, Value: t.String(),
		}))
	}
	errs = append(errs, results.Close())
	entries := p.suggest(all, v)
	if len(entries) > 0 {
		text, err := known.Format(entries)
		file := filepath.Join(out, suggestFile)
		errs = append(errs, err, os.WriteFile(file, text, 0o644))
		fmt.Fprintf(screen, "entries for -known, to be looked at (%d): %s\n", len(entries), file)
	}
	return errors.Join(errs...)
}

// suggest makes entries for -known. A failure that no narrow entry can know has
// none.
func (p *plan) suggest(all []*tries, v *verdicts) (entries []known.Entry) {
	for _, t := range all {
		i := slices.IndexFunc(p.VMs, func(g guest) bool { return g.Package == t.pkg })
		own, report := cutReport(v.output[t.test])
		f := known.Failure{
			Where: p.VMs[i].Where, Release: v.release[t.pkg], Test: t.name, Output: own, Report: report,
			Tries: fmt.Sprintf("%d of %d", t.failed, t.runs), Rare: t.failed < t.runs,
		}
		if m := linux.FindStringSubmatch(report); m != nil {
			f.Release = m[1]
		}
		e, err := known.Suggest(f, profile.Names(), time.Now().Add(knownFor))
		if err == nil {
			entries = addEntry(entries, e)
		}
	}
	return entries
}

// addEntry adds an entry, unless one of them knows the same. An ID that another
// entry has, of the same test on another kernel, gets the kernel's version.
func addEntry(entries []known.Entry, e known.Entry) []known.Entry {
	same := func(other known.Entry) bool {
		other.ID, other.Why, other.Rare = e.ID, e.Why, e.Rare
		return reflect.DeepEqual(other, e)
	}
	if i := slices.IndexFunc(entries, same); i >= 0 {
		entries[i].Rare = entries[i].Rare || e.Rare
		return entries
	}
	taken := func(other known.Entry) bool { return other.ID == e.ID }
	if slices.ContainsFunc(entries, taken) {
		e.ID += "-" + strings.ReplaceAll(e.Kernels[0].From, ".", "-")
	}
	for id, n := e.ID, 2; slices.ContainsFunc(entries, taken); n++ {
		e.ID = fmt.Sprintf("%s-%d", id, n)
	}
	return append(entries, e)
}
