package suite

import (
	"errors"
	"fmt"
	"io"
)

// An Instrument is something that rows measure with and that is costly to make:
// one serves a whole run. Close is called when the run ends. If it has a method
// Notes() []string, the lines that this returns are printed before that.
type Instrument = io.Closer

// NotePrefix begins each line that [Runner.Notes] returns, for programs that
// pick it from the output of go test.
const NotePrefix = "note: "

// instrument is an Instrument that was asked for, or the error.
type instrument struct {
	is  Instrument
	err error
}

// Instrument returns the instrument of a name. When it is first asked for in a
// run, open makes it. The error of open is returned each time. Checks of several
// probes may be armed at once, so a row must ask first in [Invariant.Needs].
func (m *Machine) Instrument(name string, open func() (Instrument, error)) (Instrument, error) {
	made, ok := m.instruments[name]
	if !ok {
		made.is, made.err = open()
		if m.instruments == nil {
			m.instruments = make(map[string]instrument)
		}
		m.instruments[name] = made
	}
	return made.is, made.err
}

// closeInstruments closes those that were made.
func (m *Machine) closeInstruments() error {
	var errs []error
	for _, made := range m.instruments {
		if made.err == nil {
			errs = append(errs, made.is.Close())
		}
	}
	m.instruments = nil
	return errors.Join(errs...)
}

// Notes returns what the instruments of the run have to say at its end: lines
// that fail nothing.
func (r *Runner) Notes() []string {
	var notes []string
	for _, made := range r.machine.instruments {
		if noting, ok := made.is.(interface{ Notes() []string }); ok && made.err == nil {
			notes = append(notes, noting.Notes()...)
		}
	}
	if m := r.machine; !m.Away.Empty() {
		notes = append(notes, fmt.Sprintf(NotePrefix+"CPUs %v were offline, and were left so", m.Away))
	}
	return append(notes, r.machine.known.notes()...)
}
