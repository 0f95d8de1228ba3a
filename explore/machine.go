package explore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// MachineOptions say how the running machine is explored.
type MachineOptions struct {
	// For is the time to explore. It must be more than 0.
	For time.Duration

	// CPUs are those that may be used. Empty: all.
	CPUs affinity.CPUSet

	// Seed decides what is drawn.
	Seed uint64

	// Tables are what is done and checked. Actions that are [Action.Alone] are
	// left out. nil: those of [Default].
	Tables *Tables

	// Journal is the file for the sequence that is under way, for the time after
	// a crash: see [Journal]. "": there is none.
	Journal string
}

// Machine explores the machine that it runs on. It returns the findings, also
// beside an error, which says why the machine cannot go on; it wraps
// [ErrCannot] if the machine cannot be explored at all, and [ErrSpoiled] if a
// finding left it in another state, which takes a reboot.
//
// The machine must be guarded by the caller: see package machine.
func Machine(ctx context.Context, o MachineOptions) (found []*Finding, err error) {
	if o.For <= 0 {
		return nil, fmt.Errorf("no time to explore: For is %v", o.For)
	}
	tables := Default()
	if o.Tables != nil {
		tables = *o.Tables
	}
	tables.Actions = slices.DeleteFunc(slices.Clone(tables.Actions), func(a Action) bool { return a.Alone })
	r, done, err := Ready(fmt.Sprintf("hotplugtest-%d-", os.Getpid()), o.CPUs, tables)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	j := &Journal{}
	if o.Journal != "" {
		if j, err = OpenJournal(o.Journal); err != nil {
			return nil, err
		}
	}
	defer j.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, o.For, nil)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	note := func(err error) {
		if err != nil {
			stop(err)
		}
	}
	r.Begin = func(n int) { note(j.Step(n)) }
	e := &Explorer{Runner: r, Tables: tables, Seed: o.Seed, Kernel: release(), Known: KnownIn(r.Facts.Version)}
	e.Report = func(event Event) {
		switch {
		case event.Begin != nil:
			note(j.Begin(*event.Begin))
		case event.Finding != nil:
			found = append(found, event.Finding)
		case event.Spoiler != nil:
			found = append(found, event.Spoiler)
		}
	}
	if err := e.Run(ctx); err != nil {
		return found, err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		return found, cause
	}
	return found, nil
}

// release returns the release of the running kernel.
func release() string {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uname.Release[:])
}
