package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hotplugtest/hotplugtest/internal/record"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// cutShort reports whether a signal ended gotestsum, which then has written no
// report, or a part of one. It catches SIGINT only, and that once: Jenkins,
// systemd and timeout(1) send SIGTERM to all processes, and a lost terminal
// SIGHUP.
func cutShort(gotestsum *os.ProcessState) bool {
	status, ok := gotestsum.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// rewriteJUnit makes the JUnit report that gotestsum would have made, from the
// results.
func (p *plan) rewriteJUnit(tmp, xmlFile string) error {
	results, err := os.Open(p.Results)
	if err != nil {
		return err
	}
	defer results.Close()
	var events bytes.Buffer
	var told retold
	for e, err := range testjson.Read(results) {
		if err != nil {
			return err
		}
		if e, ok := told.event(e); ok {
			if err := testjson.Write(&events, e); err != nil {
				return err
			}
		}
	}
	file := filepath.Join(tmp, testjson.ResultsFile)
	if err := os.WriteFile(file, events.Bytes(), 0o644); err != nil {
		return err
	}
	return record.WriteJUnit(xmlFile, file)
}

// retold makes events for gotestsum of the results, which differ as
// [forReports] says.
type retold struct {
	known map[test]bool   // failures of known defects
	fresh map[string]bool // packages in which a test has failed that is not known
	some  map[string]bool // and those in which one has that is
}

// event returns the event for gotestsum, if there is one.
func (r *retold) event(e testjson.Event) (testjson.Event, bool) {
	if r.known == nil {
		r.known, r.fresh, r.some = make(map[test]bool), make(map[string]bool), make(map[string]bool)
	}
	t := test{e.Package, e.Test}
	switch {
	case e.Action == "attr" && e.Test == "":
		return e, false // a fact: junit.Mark adds it
	case e.Action == "attr" && e.Key == testjson.Known:
		r.known[t], r.some[e.Package] = true, true
	case e.Action == "fail" && r.known[t]:
		e.Action = "skip"
	case e.Action == "fail" && e.Test != "":
		r.fresh[e.Package] = true
	case e.Action == "fail" && r.some[e.Package] && !r.fresh[e.Package]:
		e.Action = "pass"
	}
	return e, true
}
