package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// settledOperations is how often each CPU goes offline, and online, for the row
// settled. One operation of a kernel that does not wait may return late enough
// by chance.
const settledOperations = 3

// idleHogs compute at the lowest of all priorities, so that they take no time
// from anybody else, on half of the CPUs. An operation that does not wait for
// its work then returns before it in most cases: a worker has to be switched to,
// and a CPU that does so comes later than one that is idle.
var idleHogs = suite.Actor{
	Name:  "idle hog",
	Count: func(x *Scene) int { return min(max(perCPU(x)/2, 1), 16) },
	Begin: func(*suite.Act) (func() error, error) {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
		return func() error { spin(100 * time.Microsecond); return nil }, os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
	},
}

// settleTimeout is for how long unfinished work is watched after the return.
const settleTimeout = suite.PollTimeout

// duringSuspend are the functions in which a suspend takes CPUs offline and
// online. All else that a suspend puts off, such as the resume of devices, is no
// part of CPU hotplug.
var duringSuspend = []string{"freeze_secondary_cpus", "thaw_secondary_cpus"}

// A tracer is what the row settled measures with in a run.
type tracer struct {
	fs       *tracefs.FS
	recorder *ledger.Recorder
	deferrals
}

func needsTracer(v View) error {
	_, err := tracerOf(v.Machine)
	return err
}

// tracerOf returns the tracer of the run, or an [*Unsupported].
func tracerOf(m *Machine) (*tracer, error) {
	is, err := m.Instrument("ledger", func() (suite.Instrument, error) { return openTracer(m) })
	if err != nil {
		return nil, err
	}
	return is.(*tracer), nil
}

func openTracer(m *Machine) (suite.Instrument, error) {
	fs, err := tracefs.Open("/")
	if err != nil {
		return nil, cannotTrace(err)
	}
	r, err := ledger.NewRecorder(fs, "/", fmt.Sprintf("%s%d", tracefs.NamePrefix, os.Getpid()), reading{m})
	if err != nil {
		if closeErr := fs.Close(); closeErr != nil {
			return nil, errors.Join(err, closeErr)
		}
		return nil, cannotTrace(err)
	}
	tracers, err := availableTracers(fs)
	if err != nil {
		return nil, errors.Join(err, r.Close(), fs.Close())
	}
	return &tracer{fs, r, newDeferrals(m.Kernel, tracers)}, nil
}

// reading tells a run that the trace of an operation is still being read.
type reading struct{ *Machine }

func (r reading) Write(text []byte) (int, error) {
	r.Progress()
	return len(text), nil
}

// cannotTrace makes an error an [*Unsupported] if this machine does not let the
// process trace.
func cannotTrace(err error) error {
	for _, is := range []error{tracefs.ErrNotSupported, unix.EPERM, unix.EACCES, unix.ENOMEM} {
		if errors.Is(err, is) {
			return suite.Unsupportedf("%v", err)
		}
	}
	return err
}

// Close ends the tracing and removes its instance.
func (t *tracer) Close() error { return errors.Join(t.recorder.Close(), t.fs.Close()) }

// armSettled begins to record.
func armSettled(p *Probe) (Check, error) {
	t, err := tracerOf(p.Machine)
	if err != nil {
		return nil, err
	}
	var within []string
	if p.Transition.Sleep {
		within = duringSuspend
	}
	if err := t.recorder.Begin(within); err != nil {
		return nil, err
	}
	p.AfterWrite(t.recorder.Returned)
	busy := p.Machine.NewScene()
	ended := false
	p.Cleanup(func() {
		if !ended {
			_ = errors.Join(busy.Stop(), t.recorder.Cancel())
		}
	})
	if err := busy.Start([]Actor{idleHogs}); err != nil {
		return nil, err
	}
	return func() error {
		ended = true
		if err := busy.Stop(); err != nil {
			return &suite.UncheckedError{Err: err}
		}
		l, err := t.recorder.End(settleTimeout)
		if errors.Is(err, tracefs.ErrLost) {
			err = t.tooBusy(err)
		}
		if err != nil {
			return &suite.UncheckedError{Err: err}
		}
		left := t.judge(l, p.Transition.After)
		if len(left) == 0 {
			return nil
		}
		return unfinished(left)
	}, nil
}

// tooBusy makes the error that events were lost an [*Unsupported]: what else runs
// on the machine is recorded, too. The next operation has larger buffers.
func (t *tracer) tooBusy(lost error) error {
	larger := "the buffers are as large as they may be"
	switch kb, err := t.recorder.Grow(); {
	case errors.Is(err, unix.ENOMEM):
		larger = "there is no memory for larger buffers"
	case err != nil:
		return errors.Join(lost, err)
	case kb > 0:
		larger = fmt.Sprintf("each buffer has %d KiB from now on", kb)
	}
	return suite.Unsupportedf("this machine is too busy to be traced: %v; %s", lost, larger)
}

// unfinished returns the error of deferrals that nobody knows of.
func unfinished(left []ledger.Deferral) error {
	var lines []string
	var longest time.Duration
	for _, d := range left {
		lines = append(lines, d.String(), "from "+d.Where(), "rows that could see it: "+rowsFor(d))
		if longest >= 0 && (d.Lasted < 0 || d.Lasted > longest) {
			longest = d.Lasted
		}
	}
	return &suite.LastingError{Err: errors.New(strings.Join(lines, "\n")), Window: longest}
}

// observers are the rows about parts of the kernel, by the functions that
// belong to the part.
var observers = []struct {
	functions *regexp.Regexp
	rows      string
}{
	{regexp.MustCompile(`cpuset`), "affinity, runs, getaffinity, effective, partition"},
	{regexp.MustCompile(`sched_domains|sched_topology`), "sched-domains, TestScenario/load"},
	{regexp.MustCompile(`^cacheinfo_`), "cache"},
	{regexp.MustCompile(`^topology_`), "topology"},
	{regexp.MustCompile(`^perf_`), "perf-event, TestScenario/perf-counts"},
	{regexp.MustCompile(`^hrtimers_|^timers_(dead|prepare)_cpu`), "hrtimer, timeout"},
	{regexp.MustCompile(`^irq_migrate|^fixup_irqs`), "proc-interrupts, TestScenario/irqs"},
	{regexp.MustCompile(`uevent`), "uevent"},
	{regexp.MustCompile(`_node$|^numa_`), "node"},
}

// rowsFor returns the rows that are about what a deferral is part of.
func rowsFor(d ledger.Deferral) string {
	for _, o := range observers {
		for _, function := range append([]string{d.Function}, d.Stack...) {
			if o.functions.MatchString(function) {
				return o.rows
			}
		}
	}
	return "none yet: is there a promise that it breaks?"
}
