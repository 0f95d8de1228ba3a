package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/lab"
)

// stateFile is what was found so far, in the directory of a kernel's reports.
const stateFile = "widen.json"

// state is what was found so far.
type state struct {
	Key      string // what it depends on
	CPU      int    // that was traced
	Suspects []suspect.Suspect
	Baseline *lab.Outcome    // without a delay
	Runs     map[string]*run // by function

	file string
}

// openState reads what was found so far, if it is of the same kernel,
// sources and flags.
func openState(file, key string) (*state, error) {
	fresh := &state{Key: key, Runs: make(map[string]*run), file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return fresh, os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err != nil {
		return nil, err
	}
	s := &state{file: file}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it to start anew", file, err)
	}
	if s.Key != key {
		fmt.Printf("%s is of another kernel, other sources of the suite or other flags: starting anew\n", file)
		return fresh, nil
	}
	if s.Runs == nil {
		s.Runs = fresh.Runs
	}
	return s, nil
}

// save writes the state, all of it or nothing.
func (s *state) save() error {
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// table returns what was found: a Markdown table of the functions whose delay a
// test notices, how to see that again, and what is left.
func (s *state) table(w *widen) string {
	var rows, again, impossible strings.Builder
	done, left := 0, 0
	for _, f := range s.Suspects {
		r := s.Runs[f.Function]
		switch {
		case r == nil:
			left++
		case r.Impossible != "":
			fmt.Fprintf(&impossible, "cannot be delayed: %s\n", r.Impossible)
		default:
			done++
		}
		if r == nil || !r.noticed() {
			continue
		}
		fmt.Fprintf(&rows, "| `%s` | %v, %s | %s | %d of %d | %s |\n", f.Function, f.Kind, f.By,
			strings.Join(append(lab.Compact(r.Failed), died(r.Died)...), "<br>"), len(r.Failed), r.Tests,
			strings.Join(append([]string{strconv.Itoa(len(r.Again))}, died(r.DiedAgain)...), "<br>"))
		fmt.Fprintf(&again, "    %s\n", w.reproducer(f, r))
	}
	var b strings.Builder
	if rows.Len() > 0 {
		fmt.Fprintf(&b, "| delayed by %v | why | rows that failed | tests | again |\n|---|---|---|---|---|\n%s\n%s\n", w.delay, rows.String(), again.String())
	}
	b.WriteString(impossible.String())
	fmt.Fprintf(&b, "%d functions delayed, %d noticed", done, strings.Count(rows.String(), "\n"))
	if left > 0 {
		fmt.Fprintf(&b, ", %d left: call it again to go on", left)
	}
	return b.String() + "\n"
}

// died is the VM's end as a row, if it did not end with the suite.
func died(how string) []string {
	if how == "" {
		return nil
	}
	return []string{"the VM: " + how}
}

// reproducer is a command line that shows a failure again.
func (w *widen) reproducer(f suspect.Suspect, r *run) string {
	pattern := r.Pattern
	if len(r.Again) > 0 {
		pattern = r.patternOf(r.Again[:1])
	} else if len(r.Failed) > 0 {
		pattern = r.patternOf(r.Failed[:1])
	}
	words := append(w.flags(), "-delay", fmt.Sprintf("%s=%v", f.Function, w.delay), "-run", pattern, "--")
	return "ci/selftest " + cli.Quoted(append(words, w.testArgs()...)...)
}

// verdict returns what the exit status is for.
func (s *state) verdict() error {
	told := false
	for _, r := range s.Runs {
		if r.noticed() {
			return &cli.Told{What: "tests failed", Status: cli.Failed}
		}
		told = told || r.Impossible == ""
	}
	switch {
	case !told && len(s.Runs) > 0 && len(s.Runs) == len(s.Suspects):
		return errors.New("no function could be delayed: see above why")
	case !told:
		return errors.New("no function was delayed: give it more time by -for")
	}
	return nil
}
