package hotplugtest

import (
	"errors"
	"fmt"
	"os"

	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// traceScenarios are about what is recorded on a CPU that goes offline.
var traceScenarios = []Scenario{
	{
		Name:    "trace-marker",
		Promise: "what a thread on the CPU has written to trace_marker is in the trace when the CPU has gone offline, and what it writes when the CPU is back",
		Source:  "Documentation/trace/ftrace.rst: trace_marker; kernel/trace/ring_buffer.c: the buffer of a CPU that goes offline stays",
		Needs:   needsTracing,
		Cycle:   marksStay,
	},
}

// needsTracing is for rows that record events.
func needsTracing(*Machine) error {
	f, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		return suite.Unsupportedf("%v", err)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// marks is how many marks a thread makes on a CPU at a time.
const marks = 50

// marksStay makes marks on the CPU and reads them when it is offline, and makes
// others when it is back. What was read is no longer in the trace.
func marksStay(x *Scene, cpu int) (err error) {
	f, err := tracefs.Open("/")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	i, err := f.Create(fmt.Sprintf("%s%d-marks", tracefs.NamePrefix, os.Getpid()), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	if err := i.Start(); err != nil {
		return err
	}
	if err := mark(x, i, cpu); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = marked(i, cpu, fmt.Sprintf("when cpu%d is offline", cpu))
	if err = errors.Join(err, x.Set(cpu, Online)); err != nil {
		return err
	}
	if err := mark(x, i, cpu); err != nil {
		return err
	}
	return marked(i, cpu, fmt.Sprintf("when cpu%d is back", cpu))
}

// mark makes the marks from a thread that is pinned to the CPU.
func mark(x *Scene, i *tracefs.Instance, cpu int) error {
	return x.Do("writing to trace_marker", func() error {
		if err := suite.Pin(cpu); err != nil {
			return err
		}
		for n := range marks {
			if err := i.Mark(fmt.Sprintf("mark %d", n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// marked checks that the trace has all marks that were made on the CPU.
func marked(i *tracefs.Instance, cpu int, when string) error {
	events, err := i.Read()
	if err != nil {
		return err
	}
	found := 0
	for _, e := range events {
		if e.Name == tracefs.Marker && e.CPU == cpu && e.Args == fmt.Sprintf("mark %d", found) {
			found++
		}
	}
	if found != marks {
		return fmt.Errorf("%s, the trace has the first %d of the %d marks that a thread made on it, among %d events", when, found, marks, len(events))
	}
	return nil
}
