package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/vm"
)

// forReports passes the lines of one VM on, as test2json makes them: to
// gotestsum, and to the file of results.
//
// It leaves out what gotestsum would take amiss: gotestsum shows the line that
// an attribute was made from beside the attribute, and takes an artifacts event
// for the end of a test. It adds what gotestsum would not know how to name: a
// VM that fails, though no test does, is a failure of TestMain's, with what the
// VM's runner said. A known failure is a skip for gotestsum; the results keep
// it as a failure that is marked.
type forReports struct {
	w        io.Writer
	results  io.Writer
	progress io.Writer // where lines that tell of the progress of a soak go too
	label    string    // before each of these lines
	lines    lines
	pkg      string
	verdicts knownVerdicts
	said     []string // outside of tests, of what is wrong
	died     bool     // the runner of the VM said some of it
	ended    bool     // the event that ends the package has come
	told     []string // known defects that the results have told of
	tests    int      // that came to their end
	status   *progress
	number   int // of the VM
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
	return f.both(line)
}

func (f *forReports) both(line []byte) error {
	_, err := f.w.Write(line)
	_, resultsErr := f.results.Write(line)
	return errors.Join(err, resultsErr)
}

// take tells whether the event is to be passed on.
func (f *forReports) take(e testjson.Event) (pass bool, err error) {
	const most = 100
	f.pkg = e.Package
	f.count(e)
	runner := vm.Ends(e.Output)
	switch {
	case e.Action == "artifacts", strings.HasPrefix(e.Output, "=== ATTR "):
		return false, nil
	case strings.HasPrefix(e.Output, suite.SoakPrefix):
		_, err := io.WriteString(f.progress, f.label+e.Output)
		return true, err
	case runner && e.Test == "" && len(f.said) < most:
		f.said, f.died = append(f.said, e.Output), true
		return false, nil // it will be TestMain's
	case strings.HasPrefix(e.Output, "FAIL: ") && e.Test == "" && len(f.said) < most:
		f.said = append(f.said, e.Output)
	case e.Action == "fail" && e.Test != "":
		return f.fail(e)
	case e.Verdict() && e.Test == "":
		return f.end(e)
	}
	f.verdicts.take(e)
	return true, nil
}

// count notes how far the VM is.
func (f *forReports) count(e testjson.Event) {
	switch {
	case e.Action == "run":
		f.status.running(f.number, e.Package, e.Test)
	case e.Verdict():
		f.status.ended(f.number, e.Test)
		if e.Test != "" {
			f.tests++
		}
	}
}

// end takes the event that ends the package.
func (f *forReports) end(e testjson.Event) (pass bool, err error) {
	f.ended = true
	if e.Action == "fail" && (!f.verdicts.failed() || f.died || !f.verdicts.fresh && len(f.said) > 0) {
		if err := f.failWhole(e); err != nil {
			return false, err
		}
	}
	if e.Action != "fail" || f.verdicts.fresh {
		return true, nil
	}
	return false, f.differ(e, "pass")
}

// fail takes the failure of a test.
func (f *forReports) fail(e testjson.Event) (pass bool, err error) {
	group := f.verdicts.new[e.Test] // it fails as one below it did
	defect := f.verdicts.fail(e.Test)
	if defect == nil {
		if !group {
			f.status.fail()
		}
		return true, nil
	}
	return false, f.markKnown(e, defect)
}

// markKnown writes the failure of a test that is known.
func (f *forReports) markKnown(e testjson.Event, defect *known.Entry) error {
	for _, attr := range [][2]string{{testjson.Known, defect.ID}, {testjson.OriginalResult, e.Action}} {
		line, err := marshal(testjson.Event{Time: e.Time, Action: "attr", Package: e.Package, Test: e.Test, Key: attr[0], Value: attr[1]})
		if err = errors.Join(err, f.both(line)); err != nil {
			return err
		}
	}
	if err := f.tellDefect(e.Package, defect); err != nil {
		return err
	}
	text := testjson.KnownPrefix + defect.ID + ": " + defect.Why + "\n"
	if defect.Crash {
		text += "       What comes after it in this virtual machine did not run.\n"
	}
	why := testjson.Event{Time: e.Time, Action: "output", Package: e.Package, Test: e.Test, Output: text}
	return errors.Join(testjson.Write(f.w, why), f.differ(e, "skip"))
}

// tellDefect adds to the results what a known defect is, once.
func (f *forReports) tellDefect(pkg string, defect *known.Entry) error {
	if slices.Contains(f.told, defect.ID) {
		return nil
	}
	f.told = append(f.told, defect.ID)
	text := defect.ID + ": " + defect.Why
	if defect.Link != "" {
		text += " (" + defect.Link + ")"
	}
	return testjson.Write(f.results, testjson.Event{Time: f.verdicts.last, Action: "attr", Package: pkg, Key: testjson.Defect, Value: text})
}

// differ writes an event to the results as it is, and with another action to
// gotestsum.
func (f *forReports) differ(e testjson.Event, action string) error {
	err := testjson.Write(f.results, e)
	e.Action = action
	return errors.Join(err, testjson.Write(f.w, e))
}

// failWhole writes the failure of the run as a whole.
func (f *forReports) failWhole(e testjson.Event) error {
	write := func(action, output string) error {
		line, err := marshal(testjson.Event{Time: e.Time, Action: action, Package: e.Package, Test: testjson.Main, Output: output})
		return errors.Join(err, f.both(line))
	}
	err := write("run", "")
	for _, line := range f.said {
		err = errors.Join(err, write("output", line))
		f.verdicts.take(testjson.Event{Action: "output", Test: testjson.Main, Output: line})
	}
	e.Test = testjson.Main
	pass, failErr := f.fail(e)
	if pass {
		failErr = write("fail", "")
	}
	return errors.Join(err, failErr)
}

// close ends what a known crash has left open, and notes which known defects
// did not show. A test that is left open for another reason is a failure for
// gotestsum.
func (f *forReports) close() error {
	switch {
	case !f.ended && f.verdicts.crashed != nil:
		return f.closeCrashed()
	case !f.ended:
		return nil
	}
	for _, id := range f.verdicts.matcher.Gone() {
		gone := testjson.Event{Time: f.verdicts.last, Action: "attr", Package: f.pkg, Key: testjson.NoLonger, Value: id}
		if err := testjson.Write(f.results, gone); err != nil {
			return err
		}
	}
	return nil
}

// closeCrashed ends the tests that a known crash has left open.
func (f *forReports) closeCrashed() error {
	f.ended = true
	end := testjson.Event{Time: f.verdicts.last, Action: "fail", Package: f.pkg}
	for _, test := range f.verdicts.unended() {
		end.Test = test
		defect := f.verdicts.crashed
		if f.verdicts.new[test] || !known.Silent(f.verdicts.output[test]) {
			defect = f.verdicts.fail(test) // it had failed before the crash
		}
		var err error
		if defect == nil {
			err = f.differ(end, "fail")
		} else {
			err = f.markKnown(end, defect)
		}
		if err != nil {
			return err
		}
	}
	end.Test = ""
	if f.verdicts.fresh {
		return f.differ(end, "fail")
	}
	return f.differ(end, "pass")
}

// onlyKnown reports whether the VM came to its end, and known defects are all
// that was wrong.
func (f *forReports) onlyKnown() bool {
	return f.ended && f.verdicts.failed() && !f.verdicts.fresh
}

func marshal(e testjson.Event) ([]byte, error) {
	var b bytes.Buffer
	err := testjson.Write(&b, e)
	return b.Bytes(), err
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
