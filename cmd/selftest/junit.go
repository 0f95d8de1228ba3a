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
// of it. A report without any stays as it is. There is none if gotestsum did
// not get as far.
func markJUnit(file string, again []*tries) error {
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
	marked := false
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			marked = c.mark() || marked
			for _, t := range again {
				marked = c.noteTries(t) || marked
			}
		}
	}
	if !marked {
		return nil
	}
	data, err = xml.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(xml.Header), data...), 0o644)
}

// noteTries reports whether the test case is the one that was tried again.
func (c *junitCase) noteTries(t *tries) bool {
	if c.attr("classname") != t.pkg || c.attr("name") != t.name {
		return false
	}
	if c.Properties == nil {
		c.Properties = &properties{}
	}
	c.Properties.List = append(c.Properties.List, property{testjson.Attempts, t.String()})
	return true
}

func (c *junitCase) attr(name string) string {
	for _, a := range c.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// mark reports whether the test case is a known failure.
func (c *junitCase) mark() bool {
	if c.Skipped == nil || c.Properties == nil {
		return false
	}
	i := slices.IndexFunc(c.Properties.List, func(p property) bool { return p.Name == testjson.Known })
	if i < 0 {
		return false
	}
	c.Output = strings.TrimLeft(withoutFrames(c.Skipped.Message), "\n")
	c.Skipped.Message = knownPrefix + c.Properties.List[i].Value
	return true
}
