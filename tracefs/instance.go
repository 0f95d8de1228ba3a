package tracefs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// Clocks of an instance. [Mono] is the default: its times compare with those of
// CLOCK_MONOTONIC, and so with time.Now of Go, and order events of different
// CPUs. The kernel's own default, "local", does not.
const (
	// Mono stands still during a suspend.
	Mono = "mono"
	// Boot goes on during a suspend (v4.10).
	Boot = "boot"
	// Global orders events of all CPUs strictly, at the price of a lock
	// that all CPUs share: it makes what is traced slower.
	Global = "global"
)

// Options are how an instance records. The zero value is the default.
type Options struct {
	// Clock is the clock of the events' times; default: [Mono].
	Clock string
	// BufferKB is the size of each CPU's buffer, in KiB; default: 1024. The
	// buffers of CPUs that are offline are allocated when they first come
	// online.
	BufferKB int
	// Copy, if not nil, gets the text that Read reads, as the kernel printed it.
	Copy io.Writer
}

// An Instance is a directory below /sys/kernel/tracing/instances: buffers and
// events that nobody else uses. Make one with [FS.Create]. It is not for use by
// several goroutines at once, except for [Instance.Mark].
type Instance struct {
	dir    string
	marker int // trace_marker
	pipe   int // trace_pipe
	closed bool
	copy   io.Writer
	parser parser

	recording bool // Read may come between an event and its stack

	lostBefore map[statistic]uint64 // by the last Clear
}

// flags are the files in options/ on which the text of the trace depends. An
// instance begins with the flags of the top level, which are somebody else's.
var flags = map[string]string{
	"annotate":       "0",
	"bin":            "0",
	"block":          "0",
	"context-info":   "1",
	"event-fork":     "0",
	"fields":         "0", // v6.3
	"hash-ptr":       "1", // v5.12; with 0, v6.1 prints strings as empty
	"hex":            "0",
	"irq-info":       "1",
	"latency-format": "0",
	"markers":        "1",
	"pause-on-trace": "0", // v5.11
	"raw":            "0",
	"record-tgid":    "0",
	"stacktrace":     "0",
	"sym-addr":       "0",
	"sym-offset":     "0",
	"userstacktrace": "0",
	"verbose":        "0",
	// What is new is lost if there is no room: the beginning stays whole.
	"overwrite": "0",
}

// Create makes an instance in which no event is enabled and that does not
// record before [Instance.Start]. Its name must not have a slash; names of
// tests begin with [NamePrefix] and the process's id.
//
// The error wraps [unix.EEXIST] if there is an instance of that name,
// [unix.EINVAL] if the kernel has no such clock, and [unix.ENOMEM] if the
// buffers are too large. A kernel that is locked down is for [Open] to tell of.
func (f *FS) Create(name string, opts *Options) (*Instance, error) {
	if opts == nil {
		opts = &Options{}
	}
	clock, kb := opts.Clock, opts.BufferKB
	if clock == "" {
		clock = Mono
	}
	if kb == 0 {
		kb = 1024
	}
	i := &Instance{dir: filepath.Join(f.dir, "instances", name), marker: -1, pipe: -1, copy: opts.Copy}
	if err := unix.Mkdir(i.dir, 0o755); err != nil {
		return nil, failed("mkdir", i.dir, err)
	}
	err := i.set("tracing_on", "0")
	if err == nil {
		err = i.setUp(clock, kb)
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Instance) setUp(clock string, kb int) error {
	if err := i.set("trace_clock", clock); err != nil {
		return err
	}
	if err := i.Resize(kb); err != nil {
		return err
	}
	for name, value := range flags {
		err := i.set(filepath.Join("options", name), value)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var err error
	if i.marker, err = unix.Open(i.path("trace_marker"), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return failed("open", i.path("trace_marker"), err)
	}
	if i.pipe, err = unix.Open(i.path("trace_pipe"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return failed("open", i.path("trace_pipe"), err)
	}
	return nil
}

// Resize sets the size of each CPU's buffer, in KiB: buffer_size_kb. The error
// wraps [unix.ENOMEM] if the buffers are too large.
func (i *Instance) Resize(kb int) error { return i.set("buffer_size_kb", strconv.Itoa(kb)) }

func (i *Instance) path(name string) string { return filepath.Join(i.dir, name) }

// set writes a value to one of the instance's files.
func (i *Instance) set(name, value string) error {
	return syserr.In("tracefs", sysfs.WriteFile(i.path(name), value))
}

// Close turns the recording off, removes the instance, and what it recorded with
// it. The error wraps [unix.EBUSY] if somebody else has one of its files open:
// then it is off, and another Close removes it. After that, Close does nothing,
// and the other methods fail: the instance's files are gone.
func (i *Instance) Close() error {
	if i.closed {
		return nil
	}
	var errs []error
	for _, fd := range []*int{&i.marker, &i.pipe} {
		if *fd >= 0 {
			errs = append(errs, syserr.In("tracefs", os.NewSyscallError("close", unix.Close(*fd))))
			*fd = -1
		}
	}
	// The kernel disables the events of an instance that is removed.
	if err := unix.Rmdir(i.dir); err != nil {
		errs = append(errs, failed("rmdir", i.dir, err), i.Stop())
	} else {
		i.closed = true
	}
	return errors.Join(errs...)
}

// Enable enables an event, such as "sched:sched_switch". If filter is not empty,
// events that do not match are not recorded; Documentation/trace/events.rst has
// the syntax. Enabling changes the kernel's text, which takes tens of
// milliseconds: it must be done before what is to be measured.
//
// The error wraps [ErrNotSupported] if the kernel does not have the event, and
// [unix.EINVAL] if the filter is wrong.
func (i *Instance) Enable(event, filter string) error {
	dir, err := i.event(event)
	if err != nil {
		return err
	}
	if filter != "" {
		if err := i.set(filepath.Join(dir, "filter"), filter); err != nil {
			return err
		}
	}
	return i.set(filepath.Join(dir, "enable"), "1")
}

// InTask is a filter for events outside of interrupts and softirqs: the bits are
// TRACE_FLAG_HARDIRQ and TRACE_FLAG_SOFTIRQ of include/linux/trace_events.h.
const InTask = "!(common_flags & 0x18)"

// Stacks has the kernel's stack recorded with each event of a kind, if the event
// matches the filter or the filter is empty. The event must be enabled, too, and
// with no other filter that lets less through: the stack of an event that is not
// recorded would look like that of the one before it. Errors are those of
// [Instance.Enable].
//
// If the filter is [InTask], or that and more, Read need not wait for the stacks
// of other events.
func (i *Instance) Stacks(event, filter string) error {
	dir, err := i.event(event)
	if err != nil {
		return err
	}
	trigger := "stacktrace"
	if filter != "" {
		trigger += " if " + filter
	}
	if err := i.set(filepath.Join(dir, "trigger"), trigger); err != nil {
		return err
	}
	i.hasStacks(filepath.Base(dir), filter)
	return nil
}

func (i *Instance) hasStacks(name, filter string) {
	if i.parser.stacked == nil {
		i.parser.stacked = make(map[string]bool)
	}
	i.parser.stacked[name] = filter == InTask || strings.HasPrefix(filter, InTask+" && ")
}

// event returns the directory of an event that the kernel has.
func (i *Instance) event(event string) (string, error) {
	system, name, ok := strings.Cut(event, ":")
	if !ok {
		return "", fmt.Errorf("tracefs: event %q is not SYSTEM:EVENT", event)
	}
	dir := filepath.Join("events", system, name)
	if _, err := os.Stat(i.path(dir)); err != nil {
		return "", fmt.Errorf("%w: the kernel has no event %s: %w", ErrNotSupported, event, syserr.In("", err))
	}
	return dir, nil
}

// SetPIDs writes set_event_pid: from now on only events of these threads are
// recorded. sched_switch and sched_waking are recorded if either thread is one
// of them. No thread means all. The error is an [*Error].
func (i *Instance) SetPIDs(tids ...int) error {
	words := make([]string, len(tids))
	for n, tid := range tids {
		words[n] = strconv.Itoa(tid)
	}
	fd, err := unix.Open(i.path("set_event_pid"), unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", i.path("set_event_pid"), err)
	}
	defer unix.Close(fd)
	if len(tids) == 0 {
		return nil
	}
	return i.write(fd, "set_event_pid", strings.Join(words, " "))
}

// write writes a value to one of the instance's files, which is open. It fails
// if the kernel takes a part only.
func (i *Instance) write(fd int, name, value string) error {
	n, err := unix.Write(fd, []byte(value))
	if err == nil && n < len(value) {
		err = fmt.Errorf("%w: %d of %d bytes", io.ErrShortWrite, n, len(value))
	}
	if err != nil {
		return &Error{Package: "tracefs", Op: "write", Path: i.path(name), Value: value, Err: err}
	}
	return nil
}

// Start writes 1 to tracing_on: the instance begins to record, or goes on. The
// error is an [*Error].
func (i *Instance) Start() error { return i.record(true) }

// Stop writes 0 to tracing_on: the recording ends. What was recorded can still
// be read. The error is an [*Error].
func (i *Instance) Stop() error { return i.record(false) }

func (i *Instance) record(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	err := i.set("tracing_on", value)
	if err == nil {
		i.recording = on
	}
	return err
}

// Mark records an event named [Marker] whose Args are the text, in the name of
// the calling thread. Nothing is recorded, and the error is [unix.EBADF], while
// the recording is off. The error wraps [io.ErrShortWrite] if the text is longer
// than what the kernel records of one, about 1000 bytes.
func (i *Instance) Mark(text string) error { return i.write(i.marker, "trace_marker", text) }
