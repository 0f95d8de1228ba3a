package main

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/vm"
)

// forReports passes the lines of one VM on, as test2json makes them, without
// what gotestsum would take amiss: it shows the line that an attribute was made
// from beside the attribute, and takes an artifacts event for the end of a
// test. And with what it would not know how to name: a VM that fails, though no
// test does, is a failure of TestMain's, with what the VM's runner said.
type forReports struct {
	w        io.Writer
	progress io.Writer // where lines that tell of the progress of a soak go too
	lines    lines
	failed   bool     // a test has
	said     []string // outside of tests, of what is wrong
	died     bool     // the runner of the VM said some of it
}

func (f *forReports) Write(p []byte) (int, error) { return f.lines.write(p, f.pass) }

func (f *forReports) pass(line []byte) error {
	e, err := testjson.Parse(line)
	if err == nil {
		pass, err := f.take(e)
		if err != nil || !pass {
			return err
		}
	}
	_, err = f.w.Write(line)
	return err
}

// take tells whether the event is to be passed on.
func (f *forReports) take(e testjson.Event) (pass bool, err error) {
	const most = 100
	runner := strings.HasPrefix(e.Output, vm.Prefix) && !strings.HasPrefix(e.Output, vm.KVMPrefix)
	switch {
	case e.Action == "artifacts", strings.HasPrefix(e.Output, "=== ATTR "):
		return false, nil
	case strings.HasPrefix(e.Output, suite.SoakPrefix):
		_, err := io.WriteString(f.progress, e.Output)
		return true, err
	case runner && e.Test == "" && len(f.said) < most:
		f.said, f.died = append(f.said, e.Output), true
		return false, nil // it will be TestMain's
	case strings.HasPrefix(e.Output, "FAIL: ") && e.Test == "" && len(f.said) < most:
		f.said = append(f.said, e.Output)
	case e.Action == "fail" && e.Test != "":
		f.failed = true
	case e.Action == "fail" && (!f.failed || f.died):
		return true, f.failWhole(e)
	}
	return true, nil
}

// failWhole writes the failure of the run as a whole.
func (f *forReports) failWhole(e testjson.Event) error {
	write := func(action, output string) error {
		return testjson.Write(f.w, testjson.Event{Time: e.Time, Action: action, Package: e.Package, Test: testjson.Main, Output: output})
	}
	err := write("run", "")
	for _, line := range f.said {
		err = errors.Join(err, write("output", line))
	}
	return errors.Join(err, write("fail", ""))
}

// screen passes on what gotestsum prints. That is all output of a test that
// fails twice: when it does, and in a list at the end. The part that is the
// kernel's console is shown in the list alone.
type screen struct {
	w     io.Writer
	lines lines
	list  bool // it has begun
}

func (s *screen) Write(p []byte) (int, error) { return s.lines.write(p, s.pass) }

func (s *screen) pass(line []byte) error {
	s.list = s.list || bytes.Contains(line, []byte("=== Failed"))
	if !s.list && bytes.HasPrefix(line, []byte(vm.ConsolePrefix)) {
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
