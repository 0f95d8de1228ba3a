package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// Texts of the marks that a [Recorder] makes.
const (
	BeginMark  = "hotplugtest: begin"
	ReturnMark = "hotplugtest: return"
)

// bufferKB is the size of each CPU's buffer. All that an operation on 4 emulated
// CPUs records takes less. It is small because a machine may have hundreds of
// CPUs, and each CPU that is possible has a buffer.
const bufferKB = 512

// A Recorder records operations in an instance of tracefs. Make one with
// [NewRecorder], before the operation: it takes some tens of milliseconds.
type Recorder struct {
	// Missing are those of [Events] that this kernel does not have.
	Missing []string

	root     string
	instance *tracefs.Instance
}

// NewRecorder enables the events of the ledger in an instance of that name, on
// the machine whose file system is at root. The text of the trace is copied to
// text, if that is not nil.
//
// The error wraps [tracefs.ErrNotSupported] if the kernel lacks one of
// [Required].
func NewRecorder(fs *tracefs.FS, root, name string, text io.Writer) (*Recorder, error) {
	i, err := fs.Create(name, &tracefs.Options{BufferKB: bufferKB, Copy: text})
	if err != nil {
		return nil, err
	}
	r := &Recorder{root: root, instance: i}
	if err := r.enable(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return r, nil
}

// inTask is a filter for events outside of interrupts and softirqs: the bits are
// TRACE_FLAG_HARDIRQ and TRACE_FLAG_SOFTIRQ of include/linux/trace_events.h. Of
// the rest the ledger needs no stack.
const inTask = "!(common_flags & 0x18)"

// filters returns filters for what this process itself does: its threads sleep
// and wake all the time, on an idle CPU. Without the filters that makes nine in
// ten of all events, and to read them makes more.
func filters(root string) (map[string]string, error) {
	name, err := sysfs.ReadFile(filepath.Join(root, "proc/self/comm"))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if strings.ContainsAny(name, "\"*?[\\\n") {
		return map[string]string{waking: inTask}, nil
	}
	return map[string]string{
		waking: fmt.Sprintf(`%s && comm != "%s"`, inTask, name),
		// Of a switch from or to a kernel thread none may be missing.
		switching: fmt.Sprintf(`!(prev_pid == 0 && next_comm == "%[1]s") && !(next_pid == 0 && prev_comm == "%[1]s")`, name),
	}, nil
}

func (r *Recorder) enable() error {
	filters, err := filters(r.root)
	if err != nil {
		return err
	}
	for _, event := range Events {
		err := r.instance.Enable(event, filters[event])
		if err == nil && slices.Contains(Stacks, event) {
			err = r.instance.Stacks(event, cmp.Or(filters[event], inTask))
		}
		if errors.Is(err, tracefs.ErrNotSupported) && !slices.Contains(Required, event) {
			r.Missing = append(r.Missing, event)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Close ends the recording and removes the instance.
func (r *Recorder) Close() error { return r.instance.Close() }

// lookEvery is how often Record looks whether all is finished by now. It looks
// seldom, because a thread that looks takes a CPU from what it waits for.
const lookEvery = 20 * time.Millisecond

// Record runs an operation on a thread of its own and returns what it has put
// off. An operation is one or several write(2), and must end with the last of
// them: what comes between the write and its end hides what is unfinished.
// After that, Record waits until all is finished, but not longer than wait.
//
// The error is the operation's, or wraps [tracefs.ErrLost] if the buffers were
// too small.
func (r *Recorder) Record(operation func() error, wait time.Duration) (*Ledger, error) {
	op := Operation{Begin: BeginMark, Return: ReturnMark}
	var err error
	if op.Threads, err = Threads(r.root); err != nil {
		return nil, err
	}
	if err := errors.Join(r.instance.Clear(), r.instance.Start()); err != nil {
		return nil, err
	}
	err = affinity.Thread(func() error {
		return errors.Join(r.instance.Mark(BeginMark), operation(), r.instance.Mark(ReturnMark))
	})
	if err != nil {
		return nil, errors.Join(err, r.instance.Stop())
	}
	l, err := r.settle(&op, wait)
	return l, errors.Join(err, r.instance.Stop())
}

// settle reads the trace until all that was put off is finished.
func (r *Recorder) settle(op *Operation, wait time.Duration) (*Ledger, error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(lookEvery) {
		events, err := r.instance.Read()
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		op.Events = append(op.Events, events...)
		// Threads that were started meanwhile have their names by now.
		later, err := Threads(r.root)
		if err != nil {
			return nil, err
		}
		maps.Copy(op.Threads, later)
		l, err := Compute(*op)
		if err != nil {
			return nil, err
		}
		if l.Settled() || time.Now().After(deadline) {
			return l, nil
		}
	}
}
