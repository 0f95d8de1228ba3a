package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// forReports passes the lines of one VM on, as test2json makes them, without what gotestsum would take amiss: it shows the
// line that an attribute was made from beside the attribute, and takes an artifacts event for the end of a test. And with
// what it would not know how to name: a VM that fails, though no test does, is a failure of wholeRun's, with what the VM's
// runner said.
type forReports struct {
	w        io.Writer
	progress io.Writer // where lines that tell of the progress of a soak go too
	lines    lines
	failed   bool     // a test has
	said     []string // outside of tests, of what is wrong
	died     bool     // the runner of the VM said some of it
}

// wholeRun is the test that a failure outside of all tests goes under: go test's function for that.
const wholeRun = "TestMain"

// What the lines begin with that the runner of the VM prints, those of them with the kernel's console, and the one that says
// how it goes on.
const (
	runnerSays  = "vm: "
	consoleSays = "vm: | "
	kvmSays     = "vm: by /dev/kvm"
)

// event is a line of test2json's.
type event struct {
	Time    string `json:",omitempty"`
	Action  string
	Package string `json:",omitempty"`
	Test    string `json:",omitempty"`
	Output  string `json:",omitempty"`
}

func (f *forReports) Write(p []byte) (int, error) { return f.lines.write(p, f.pass) }

func (f *forReports) pass(line []byte) error {
	var e event
	if json.Unmarshal(line, &e) == nil {
		const most = 100
		switch {
		case e.Action == "artifacts", e.Action == "output" && strings.HasPrefix(e.Output, "=== ATTR "):
			return nil
		case e.Action == "output" && strings.HasPrefix(e.Output, "soak: "):
			if _, err := io.WriteString(f.progress, e.Output); err != nil {
				return err
			}
		case e.Action == "output" && e.Test == "" && len(f.said) < most && strings.HasPrefix(e.Output, runnerSays) && !strings.HasPrefix(e.Output, kvmSays):
			f.said, f.died = append(f.said, e.Output), true
			return nil // it will be wholeRun's
		case e.Action == "output" && e.Test == "" && len(f.said) < most && strings.HasPrefix(e.Output, "FAIL: "):
			f.said = append(f.said, e.Output)
		case e.Action == "fail" && e.Test != "":
			f.failed = true
		case e.Action == "fail" && (!f.failed || f.died):
			if err := f.failWhole(e); err != nil {
				return err
			}
		}
	}
	_, err := f.w.Write(line)
	return err
}

// failWhole writes the failure of the run as a whole.
func (f *forReports) failWhole(e event) error {
	e.Test = wholeRun
	write := func(action, output string) error {
		e.Action, e.Output = action, output
		return json.NewEncoder(f.w).Encode(e)
	}
	err := write("run", "")
	for _, line := range f.said {
		err = errors.Join(err, write("output", line))
	}
	return errors.Join(err, write("fail", ""))
}

// screen passes on what gotestsum prints. That is all output of a test that fails twice: when it does, and in a list at the
// end. The part that is the kernel's console is shown in the list alone.
type screen struct {
	w     io.Writer
	lines lines
	list  bool // it has begun
}

func (s *screen) Write(p []byte) (int, error) { return s.lines.write(p, s.pass) }

func (s *screen) pass(line []byte) error {
	s.list = s.list || bytes.Contains(line, []byte("=== Failed"))
	if !s.list && bytes.HasPrefix(line, []byte(consoleSays)) {
		return nil
	}
	_, err := s.w.Write(line)
	return err
}

// flush writes what has no newline at its end.
func (s *screen) flush() error {
	_, err := s.w.Write(s.lines.rest)
	return err
}

// lines makes lines of what is written in pieces.
type lines struct{ rest []byte }

// write calls pass with each line that p completes, its newline included.
func (l *lines) write(p []byte, pass func(line []byte) error) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		line := l.rest[:end+1]
		l.rest = l.rest[end+1:]
		if err := pass(line); err != nil {
			return 0, err
		}
	}
}
