// Package record runs a test binary, and leaves what ci/selftest leaves of a
// virtual machine: test events, a JUnit report, a page and a summary. It needs
// no go command.
package record

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// marker is before each line that package testing prints of a test, with
// -test.v=test2json. A test cannot print it by accident.
const marker = 0x16

// events makes test events of the output of a test binary that runs with
// -test.v=test2json, as test2json does.
type events struct {
	pkg     string
	emit    func(testjson.Event) error
	rest    []byte // of a line
	test    string // whose output it is
	running []string
	began   time.Time
	failed  bool     // a test has
	said    []string // outside of tests, of what is wrong
}

var (
	about   = regexp.MustCompile(`^=== (RUN|PAUSE|CONT|NAME)  +(\S*)`)
	attr    = regexp.MustCompile(`^=== ATTR  (\S+) (\S+) (.*)`)
	verdict = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP|BENCH): (\S+) \(([\d.]+)s\)`)
)

// wrong matches what is said outside of tests of what makes a run fail.
var wrong = regexp.MustCompile(`^(FAIL: |panic: |hotplugtest: NOTHING WAS TESTED)`)

// Write takes output.
func (e *events) Write(p []byte) (int, error) {
	e.rest = append(e.rest, p...)
	for {
		end := bytes.IndexByte(e.rest, '\n') + 1
		// What a test printed without a newline ends where a line of package
		// testing begins.
		if mark := bytes.IndexByte(e.rest, marker); mark > 0 && (end == 0 || mark < end) {
			end = mark
		}
		if end == 0 {
			return len(p), nil
		}
		line := e.rest[:end]
		e.rest = e.rest[end:]
		if err := e.line(string(line)); err != nil {
			return 0, err
		}
	}
}

func (e *events) line(line string) error {
	framed, ok := strings.CutPrefix(line, string(rune(marker)))
	if !ok {
		if e.test == "" && wrong.MatchString(line) {
			e.said = append(e.said, line)
		}
		return e.put(testjson.Event{Action: "output", Test: e.test, Output: line})
	}
	if m := attr.FindStringSubmatch(framed); m != nil {
		return e.put(testjson.Event{Action: "attr", Test: m[1], Key: m[2], Value: m[3]})
	}
	if m := about.FindStringSubmatch(framed); m != nil {
		e.test = m[2]
		if m[1] == "RUN" {
			e.running = append(e.running, e.test)
			if err := e.put(testjson.Event{Action: "run", Test: e.test}); err != nil {
				return err
			}
		}
		if m[1] == "NAME" {
			return nil
		}
		return e.put(testjson.Event{Action: "output", Test: e.test, Output: framed})
	}
	m := verdict.FindStringSubmatch(framed)
	if m == nil || m[1] == "BENCH" {
		e.test = "" // PASS or FAIL: what comes now is no test's
		return e.put(testjson.Event{Action: "output", Output: framed})
	}
	e.test = ""
	e.running = slices.DeleteFunc(e.running, func(test string) bool { return test == m[2] })
	e.failed = e.failed || m[1] == "FAIL"
	elapsed, _ := strconv.ParseFloat(m[3], 64)
	if err := e.put(testjson.Event{Action: "output", Test: m[2], Output: framed}); err != nil {
		return err
	}
	return e.put(testjson.Event{Action: strings.ToLower(m[1]), Test: m[2], Elapsed: elapsed})
}

// end takes the end of the output. A test that has not ended has failed, as
// test2json has it, unless a signal was sent: then the run has.
func (e *events) end(code int, sent os.Signal) error {
	if len(e.rest) > 0 {
		if err := e.line(string(e.rest)); err != nil {
			return err
		}
		e.rest = nil
	}
	action := "pass"
	if code != 0 {
		action = "fail"
		if err := e.blame(sent); err != nil {
			return err
		}
	}
	return e.put(testjson.Event{Action: action, Elapsed: time.Since(e.began).Seconds()})
}

// blame makes the tests fail that have not ended, or if there is none, and none
// has failed, the run as a whole. If a signal was sent it is the run in any case:
// the tests that it has ended are skipped.
func (e *events) blame(sent os.Signal) error {
	verdict, whole, said := "fail", len(e.running) == 0 && !e.failed, e.said
	if sent != nil {
		verdict, whole = "skip", true
		said = append([]string{fmt.Sprintf("the run was ended by a signal: %v\n", sent)}, said...)
	}
	for _, test := range slices.Backward(e.running) {
		if err := e.put(testjson.Event{Action: verdict, Test: test}); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	all := []testjson.Event{{Action: "run", Test: testjson.Main}}
	for _, line := range said {
		all = append(all, testjson.Event{Action: "output", Test: testjson.Main, Output: line})
	}
	for _, event := range append(all, testjson.Event{Action: "fail", Test: testjson.Main}) {
		if err := e.put(event); err != nil {
			return err
		}
	}
	return nil
}

func (e *events) put(event testjson.Event) error {
	event.Time, event.Package = time.Now(), e.pkg
	return e.emit(event)
}
