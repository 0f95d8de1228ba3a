package main

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// junitFile is the report for CI systems.
const junitFile = "junit.xml"

// suites is a report as gotestsum writes it, and the output of a test beside
// it.
type suites struct {
	XMLName xml.Name   `xml:"testsuites"`
	Attrs   []xml.Attr `xml:",any,attr"`
	Suites  []struct {
		Attrs      []xml.Attr   `xml:",any,attr"`
		Properties []property   `xml:"properties>property"`
		Cases      []*junitCase `xml:"testcase"`
	} `xml:"testsuite"`
}

type junitCase struct {
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
	List []property `xml:"property"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// markJUnit makes the report say of skipped test cases which are failures of a
// known defect: "known: ID" is the message, and the text of the failure is the
// output. Test cases that were tried again have a property that says what came
// of it. facts are properties of the suites, by their names. There is no report
// if gotestsum did not get as far.
func markJUnit(file string, again []*tries, facts map[string][]property) error {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var report suites
	if err := xml.Unmarshal(data, &report); err != nil {
		return &os.PathError{Op: "parse", Path: file, Err: err}
	}
	for i := range report.Suites {
		s := &report.Suites[i]
		s.Properties = append(s.Properties, facts[attr(s.Attrs, "name")]...)
		for _, c := range s.Cases {
			c.mark()
			for _, t := range again {
				c.noteTries(t)
			}
		}
	}
	data, err = xml.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(xml.Header), data...), 0o644)
}

// noteTries notes what came of a test that was tried again, if it is this one.
func (c *junitCase) noteTries(t *tries) {
	if attr(c.Attrs, "classname") != t.pkg || attr(c.Attrs, "name") != t.name {
		return
	}
	if c.Properties == nil {
		c.Properties = &properties{}
	}
	c.Properties.List = append(c.Properties.List, property{testjson.Attempts, t.String()})
}

func attr(attrs []xml.Attr, name string) string {
	for _, a := range attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// mark says so if the test case is a known failure.
func (c *junitCase) mark() {
	if c.Skipped == nil || c.Properties == nil {
		return
	}
	i := slices.IndexFunc(c.Properties.List, func(p property) bool { return p.Name == testjson.Known })
	if i < 0 {
		return
	}
	c.Output = strings.TrimLeft(withoutFrames(c.Skipped.Message), "\n")
	c.Skipped.Message = knownPrefix + c.Properties.List[i].Value
}
