package main

import (
	"bytes"
	"errors"
	"os"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// errUntested is that of a run in which all tests are skipped, or none matches.
var errUntested = errors.New("no test ran and passed: does -run match any, and are they all skipped?")

// failUntested makes the results of such a run those of a failure of TestMain's
// in each VM, and so the reports: nobody must take a kernel for good by them.
func (p *plan) failUntested(tmp, xmlFile string) error {
	results, err := os.ReadFile(p.Results)
	if err != nil {
		return err
	}
	var changed bytes.Buffer
	for e, err := range testjson.Read(bytes.NewReader(results)) {
		if err != nil {
			return err
		}
		events := []testjson.Event{e}
		if e.Verdict() && e.Test == "" {
			events = nil
			for _, action := range []string{"run", "output", "fail"} {
				main := testjson.Event{Time: e.Time, Action: action, Package: e.Package, Test: testjson.Main}
				if action == "output" {
					main.Output = errUntested.Error() + "\n"
				}
				events = append(events, main)
			}
			e.Action = "fail"
			events = append(events, e)
		}
		for _, e := range events {
			if err := testjson.Write(&changed, e); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(p.Results, changed.Bytes(), 0o644); err != nil {
		return err
	}
	return p.rewriteJUnit(tmp, xmlFile)
}
