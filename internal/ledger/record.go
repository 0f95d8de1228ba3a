package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// Texts of the marks that a [Recorder] makes.
const (
	BeginMark  = "hotplugtest: begin"
	ReturnMark = "hotplugtest: return"
)

// Sizes of the buffers. A CPU has one as soon as it is online, and keeps it, so
// allKB is for all CPUs that are possible. An operation on one of 4 emulated
// CPUs records less than leastKB, and one on several CPUs at once ten times as
// much. A machine with hundreds of CPUs gets leastKB.
const (
	leastKB = 512
	mostKB  = 8 << 10
	allKB   = 32 << 10
)

// bufferKB returns the size of each buffer on a machine with so many CPUs that
// are possible.
func bufferKB(cpus int) int { return min(max(allKB/cpus, leastKB), mostKB) }

// largerKB returns the size that comes after kb on a machine with so many CPUs
// and so much memory, of which all buffers take a small part, or 0 if there is
// none.
func largerKB(kb, cpus int, memory uint64) int {
	const part = 32
	larger := min(2*kb, mostKB)
	if larger <= kb || uint64(larger)<<10*uint64(cpus) > memory/part {
		return 0
	}
	return larger
}

// possibleCPUs is how many CPUs the machine can have whose file system is at
// root.
func possibleCPUs(root string) (int, error) {
	possible, err := sysfs.Read(filepath.Join(root, "sys/devices/system/cpu/possible"), affinity.ParseList)
	if err != nil {
		return 0, syserr.In("ledger", err)
	}
	return max(possible.Count(), 1), nil
}

// A Recorder records operations in an instance of tracefs. Make one with
// [NewRecorder], before the operation: it takes some tens of milliseconds.
type Recorder struct {
	// Missing are those of [Events] that this kernel does not have.
	Missing []string

	root     string
	threads  ThreadTable
	instance *tracefs.Instance
	cpus     int // that are possible
	kb       int // the size of each buffer
	op       Operation
	dirty    bool                  // the buffers may have events of an operation that was not read to its end
	returned atomic.Pointer[error] // of the mark; nil: none was made
	returns  atomic.Int32          // marks that were made
}

// NewRecorder enables the events of the ledger in an instance of that name, on
// the machine whose file system is at root. The text of the trace is copied to
// text, if that is not nil.
//
// The error wraps [tracefs.ErrNotSupported] if the kernel lacks one of
// [Required].
func NewRecorder(fs *tracefs.FS, root, name string, text io.Writer) (*Recorder, error) {
	cpus, err := possibleCPUs(root)
	if err != nil {
		return nil, err
	}
	size := bufferKB(cpus)
	i, err := fs.Create(name, &tracefs.Options{BufferKB: size, Copy: text})
	if err != nil {
		return nil, err
	}
	r := &Recorder{root: root, threads: ThreadTable{Root: root}, instance: i, cpus: cpus, kb: size}
	if err := r.enable(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return r, nil
}

// inTask is a filter for events of which the ledger needs the stack.
const inTask = tracefs.InTask

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

// Begin begins to record an operation. Within says which functions put off what
// the operation did: see [Operation].
//
// After Begin, the thread that does the operation must call [Recorder.Returned]
// and then any thread [Recorder.End].
func (r *Recorder) Begin(within []string) error {
	if err := r.threads.Scan(); err != nil {
		return err
	}
	r.op = Operation{Begin: BeginMark, Return: ReturnMark, Within: within, Threads: r.threads.Names()}
	r.returned.Store(nil)
	r.returns.Store(0)
	if err := r.empty(); err != nil {
		return err
	}
	r.dirty = true
	return errors.Join(r.instance.Start(), r.instance.Mark(BeginMark))
}

// empty throws away what the buffers have. To clear them the kernel waits for
// some grace periods of RCU, so what the last operation left is read instead if
// none of it was lost.
func (r *Recorder) empty() error {
	if !r.dirty {
		if _, err := r.instance.Read(); err == nil {
			return nil
		}
	}
	if err := r.instance.Clear(); err != nil {
		return err
	}
	// The buffers of CPUs that are offline are not cleared.
	if _, err := r.instance.Read(); err != nil && !errors.Is(err, tracefs.ErrLost) {
		return err
	}
	return nil
}

// Returned marks the return of the operation. The thread that has written must
// call it right after write(2): what comes in between hides what is unfinished.
// If the operation is several writes, the last call counts.
func (r *Recorder) Returned() {
	err := r.instance.Mark(ReturnMark)
	if err == nil {
		r.returns.Add(1)
	}
	r.returned.Store(&err)
}

// hasReturned reports whether the marks of all returns were read.
func (r *Recorder) hasReturned() bool {
	read := int32(0)
	for _, e := range r.op.Events {
		if e.Name == tracefs.Marker && e.Args == ReturnMark {
			read++
		}
	}
	return read >= r.returns.Load()
}

// ErrNotReturned is returned by [Recorder.End] if [Recorder.Returned] was not
// called.
var ErrNotReturned = errors.New("ledger: the return of the operation was not marked")

// End returns what the operation has put off. It waits until all of this is
// finished, but not longer than wait, and ends the recording. The error wraps
// [tracefs.ErrLost] if the buffers were too small.
func (r *Recorder) End(wait time.Duration) (*Ledger, error) {
	l, err := r.settle(wait)
	r.dirty = err != nil
	if stopErr := r.instance.Stop(); stopErr != nil {
		return l, fmt.Errorf("%w (and before that: %v)", stopErr, err)
	}
	return l, err
}

// Grow makes the buffers larger, between two operations, and returns their size
// in KiB, or 0 if they are as large as this machine may have them. The error
// wraps [unix.ENOMEM] if there is no such memory.
func (r *Recorder) Grow() (kb int, err error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, os.NewSyscallError("sysinfo", err)
	}
	kb = largerKB(r.kb, r.cpus, uint64(info.Totalram)*uint64(info.Unit))
	if kb == 0 {
		return 0, nil
	}
	if err := r.instance.Resize(kb); err != nil {
		return 0, err
	}
	r.kb = kb
	return kb, nil
}

// Cancel ends a recording that nobody wants to know of.
func (r *Recorder) Cancel() error { return r.instance.Stop() }

// Record runs an operation on a thread of its own and returns what it has put
// off. The operation must end with its last write(2): see [Recorder.Returned].
// The error is the operation's, or that of [Recorder.End], to which wait is
// passed.
func (r *Recorder) Record(operation func() error, wait time.Duration) (*Ledger, error) {
	if err := r.Begin(nil); err != nil {
		return nil, err
	}
	err := affinity.Thread(func() error {
		err := operation()
		r.Returned()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, r.Cancel())
	}
	return r.End(wait)
}

// lookEvery is how often End looks whether all is finished by now. It looks
// seldom, because a thread that looks takes a CPU from what it waits for.
const lookEvery = 20 * time.Millisecond

// settle reads the trace until all that was put off is finished.
func (r *Recorder) settle(wait time.Duration) (*Ledger, error) {
	switch err := r.returned.Load(); {
	case err == nil:
		return nil, ErrNotReturned
	case errors.Is(*err, unix.EBADF): // as tracing_mark_write() says of a full buffer
		return nil, fmt.Errorf("ledger: %w: there was no room for the mark of the return", tracefs.ErrLost)
	case *err != nil:
		return nil, *err
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(lookEvery) {
		over := time.Now().After(deadline)
		if over {
			// Then a read leaves nothing to the next.
			if err := r.instance.Stop(); err != nil {
				return nil, err
			}
		}
		if err := r.read(); err != nil {
			return nil, err
		}
		if !over && !r.hasReturned() {
			continue
		}
		l, err := Compute(r.op)
		if err != nil {
			return nil, err
		}
		if l.Settled() || over {
			return l, nil
		}
	}
}

// read reads what was recorded since the last read.
func (r *Recorder) read() error {
	events, err := r.instance.Read()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if slices.ContainsFunc(events, func(e tracefs.Event) bool { return e.Name == "sched_process_fork" }) {
		// Threads that were started meanwhile have their names by now.
		if err := r.threads.Scan(); err != nil {
			return err
		}
		maps.Copy(r.op.Threads, r.threads.Names())
	}
	r.op.Events = append(r.op.Events, events...)
	return nil
}
