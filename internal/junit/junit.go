// Package junit corrects JUnit reports that gotestsum has written: known
// defects, attempts and facts about the kernel are in no test event that
// gotestsum would know.
package junit

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// File is the name of the report for CI systems.
const File = "junit.xml"

// Property is a property of a test suite or of a test case.
type Property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// Case names a test case.
type Case struct{ Class, Name string }

// Notes are what a report must say more.
type Notes struct {
	Suites map[string][]Property // by name
	Cases  map[Case][]Property
}

// report is a report as gotestsum writes it, and the output of a test beside
// it.
type report struct {
	XMLName xml.Name   `xml:"testsuites"`
	Attrs   []xml.Attr `xml:",any,attr"`
	Suites  []struct {
		Attrs      []xml.Attr  `xml:",any,attr"`
		Properties []Property  `xml:"properties>property"`
		Cases      []*testcase `xml:"testcase"`
	} `xml:"testsuite"`
}

type testcase struct {
	Attrs      []xml.Attr  `xml:",any,attr"`
	Properties *properties `xml:"properties"`
	Skipped    *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *struct {
		Attrs []xml.Attr `xml:",any,attr"`
		Text  string     `xml:",chardata"`
	} `xml:"failure"`
	Output string `xml:"system-out,omitempty"`
}

type properties struct {
	List []Property `xml:"property"`
}

// Mark corrects a report. A skipped test case whose property
// [testjson.Known] names a defect gets the message "known: ID", and the text of
// the failure as output. Of all others the text is the reason alone, without
// the lines that package testing prints of each test, and the message of a
// failure is its first line. There is nothing to do if
// gotestsum did not get as far as to write a report.
func Mark(file string, notes Notes) error {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var r report
	if err := xml.Unmarshal(data, &r); err != nil {
		return &os.PathError{Op: "parse", Path: file, Err: err}
	}
	for i := range r.Suites {
		s := &r.Suites[i]
		s.Properties = append(s.Properties, notes.Suites[attr(s.Attrs, "name")]...)
		for _, c := range s.Cases {
			c.mark()
			c.note(notes.Cases[Case{attr(c.Attrs, "classname"), attr(c.Attrs, "name")}])
		}
	}
	data, err = xml.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(xml.Header), data...), 0o644)
}

func attr(attrs []xml.Attr, name string) string {
	for _, a := range attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (c *testcase) note(more []Property) {
	if len(more) == 0 {
		return
	}
	if c.Properties == nil {
		c.Properties = &properties{}
	}
	c.Properties.List = append(c.Properties.List, more...)
}

// mark leaves of the text why the test case failed, or is skipped.
func (c *testcase) mark() {
	if c.Failure != nil {
		c.Failure.Text = WithoutFrames(c.Failure.Text)
		c.explain()
	}
	if c.Skipped == nil {
		return
	}
	text := WithoutFrames(c.Skipped.Message)
	i := -1
	if c.Properties != nil {
		i = slices.IndexFunc(c.Properties.List, func(p Property) bool { return p.Name == testjson.Known })
	}
	if i < 0 {
		c.Skipped.Message = strings.TrimSpace(text)
		return
	}
	c.Output = strings.TrimLeft(text, "\n")
	c.Skipped.Message = testjson.KnownPrefix + c.Properties.List[i].Value
}

// explain makes the message of a failure what the test reported first:
// gotestsum's is the same for all. A test that reported nothing fails because
// one below it did, and keeps it.
func (c *testcase) explain() {
	reason := known.Reason(c.Failure.Text)
	if reason == "" {
		return
	}
	for i := range c.Failure.Attrs {
		if c.Failure.Attrs[i].Name.Local == "message" {
			c.Failure.Attrs[i].Value = strings.TrimSpace(reason)
		}
	}
}

// WithoutFrames returns the output of a test without the lines that package
// testing prints of it and of the tests below it.
func WithoutFrames(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if !testjson.Frame.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}
