package record

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// junit collects test events for a JUnit report, as ci/selftest writes it.
type junit struct {
	suite suite
	cases map[string]*testcase
}

type suite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Stamp    string      `xml:"timestamp,attr"`
	Cases    []*testcase `xml:"testcase"`
}

type testcase struct {
	Class      string      `xml:"classname,attr"`
	Name       string      `xml:"name,attr"`
	Time       string      `xml:"time,attr"`
	Properties *properties `xml:"properties"`
	Skipped    *message    `xml:"skipped"`
	Failure    *message    `xml:"failure"`

	output strings.Builder
	ended  bool
}

type properties struct {
	List []property `xml:"property"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type message struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// take takes an event.
func (j *junit) take(e testjson.Event) {
	if e.Test == "" {
		if e.Verdict() {
			j.suite.Name, j.suite.Time = e.Package, seconds(e.Elapsed)
		}
		return
	}
	c := j.cases[e.Test]
	if c == nil {
		if j.cases == nil {
			j.cases = make(map[string]*testcase)
			j.suite.Stamp = e.Time.UTC().Format(time.RFC3339)
		}
		c = &testcase{Class: e.Package, Name: e.Test}
		j.cases[e.Test] = c
	}
	switch {
	case e.Action == "output" && !frame(e.Output):
		c.output.WriteString(e.Output)
	case e.Action == "attr":
		if c.Properties == nil {
			c.Properties = &properties{}
		}
		c.Properties.List = append(c.Properties.List, property{e.Key, e.Value})
	case e.Verdict() && !c.ended:
		c.ended, c.Time = true, seconds(e.Elapsed)
		j.suite.Tests++
		j.suite.Cases = append(j.suite.Cases, c)
		switch e.Action {
		case "fail":
			j.suite.Failures++
			c.Failure = &message{"Failed", c.output.String()}
		case "skip":
			j.suite.Skipped++
			c.Skipped = &message{Message: strings.TrimSpace(c.output.String())}
		}
	}
}

// frame reports whether a line is package testing's own.
func frame(line string) bool {
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimLeft(line, " "), "--- ")
}

func seconds(s float64) string { return fmt.Sprintf("%.6f", s) }

// write writes the report.
func (j *junit) write(w io.Writer) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "\t")
	return e.Encode(struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Time     string   `xml:"time,attr"`
		Suites   []*suite `xml:"testsuite"`
	}{Tests: j.suite.Tests, Failures: j.suite.Failures, Time: j.suite.Time, Suites: []*suite{&j.suite}})
}
