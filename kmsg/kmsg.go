// Package kmsg reads the kernel's log from /dev/kmsg, record by record and
// without waiting, and tells the records by which the kernel complains of
// itself from the others.
//
// See Documentation/ABI/testing/dev-kmsg of the kernel.
package kmsg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// A Record is what the kernel, or whoever wrote to /dev/kmsg, has logged by one
// call.
type Record struct {
	// as in syslog(3): 0 is the kernel's own, which nobody else can use
	Facility int
	// as in syslog(3): 0 is an emergency, 7 is for debugging
	Level int
	Seq   uint64 // rises by one from record to record
	// since the boot, by the kernel's local clock, which does not go on in a
	// suspend
	Time time.Duration
	Text string // without the newline at its end
}

func (r Record) String() string {
	return fmt.Sprintf("[%12.6f] %s", r.Time.Seconds(), r.Text)
}

// A Log is an open /dev/kmsg. Make one with [Open]. It is not for use by
// several goroutines at once.
type Log struct {
	fd   int
	path string
	buf  []byte
	// of a record whose end has not been read; only regular files have that
	rest string
	next uint64 // number of the record that is to come, if known
}

// recordMax is CONSOLE_EXT_LOG_MAX, PRINTK_MESSAGE_MAX since v6.4, which is
// less: no record is longer.
const recordMax = 8192

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	kmsg: open /dev/kmsg: EPERM (operation not permitted)
//
// Op is a system call, and Err is a [unix.Errno], or says which record could
// not be parsed.
type Error = syserr.Error

// Open opens the log at path, "/dev/kmsg" except in tests, to be read from the
// start, or from the end, for what is logged from now on. The error is an
// [*Error]. It wraps [unix.EPERM] without CAP_SYSLOG if kernel.dmesg_restrict
// is set.
func Open(path string, whence Whence) (*Log, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{Package: "kmsg", Op: "open", Path: path, Err: err}
	}
	if _, err := unix.Seek(fd, 0, int(whence)); err != nil {
		unix.Close(fd)
		return nil, &Error{Package: "kmsg", Op: "seek", Path: path, Err: err}
	}
	return &Log{fd: fd, path: path, buf: make([]byte, recordMax)}, nil
}

// Whence is where in the log to begin.
type Whence int

// Where in the log to begin.
const (
	// with the oldest record that the kernel still has
	FromStart Whence = unix.SEEK_SET
	FromEnd   Whence = unix.SEEK_END // with the next record
)

// Close closes the log. Closing again does nothing.
func (l *Log) Close() error {
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	l.fd = -1
	if err := unix.Close(fd); err != nil {
		return &Error{Package: "kmsg", Op: "close", Path: l.path, Err: err}
	}
	return nil
}

// An Overrun is the error that says that the kernel has overwritten records
// before they were read. Reading goes on behind them.
type Overrun struct {
	Lost uint64 // how many; 0: unknown
}

func (o *Overrun) Error() string {
	if o.Lost == 0 {
		return "kmsg: records were overwritten before they were read"
	}
	return fmt.Sprintf("kmsg: %d records were overwritten before they were read", o.Lost)
}

// Read returns the records that were logged since the last Read, and does not
// wait for more. The error is an [*Overrun] beside the records that are left,
// or an [*Error].
func (l *Log) Read() ([]Record, error) {
	var records []Record
	var overrun *Overrun
	for {
		n, err := unix.Read(l.fd, l.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EPIPE:
			// The next read returns the oldest record that there is.
			if overrun == nil {
				overrun = &Overrun{}
			}
			continue
		case err == unix.EAGAIN, err == nil && n == 0:
			if overrun != nil {
				return records, overrun
			}
			return records, nil
		case err != nil:
			return records, &Error{Package: "kmsg", Op: "read", Path: l.path, Err: err}
		}
		text := l.rest + string(l.buf[:n])
		end := strings.LastIndexByte(text, '\n') + 1
		text, l.rest = text[:end], text[end:]
		for line := range strings.Lines(text) {
			// The device and the subsystem that a record is about: "
			// SUBSYSTEM=cpu".
			if strings.HasPrefix(line, " ") {
				continue
			}
			record, err := parse(strings.TrimSuffix(line, "\n"))
			if err != nil {
				return records, &Error{Package: "kmsg", Op: "read", Path: l.path, Err: err}
			}
			if overrun != nil && l.next > 0 && record.Seq > l.next {
				overrun.Lost += record.Seq - l.next
			}
			l.next = record.Seq + 1
			records = append(records, record)
		}
	}
}

// parse parses the first line of a record, as in "6,1042,52318431,-;smpboot:
// CPU 3 is now offline": facility times 8 plus level, number, microseconds,
// flags, and fields of the future.
func parse(line string) (r Record, err error) {
	prefix, text, ok := strings.Cut(line, ";")
	fields := strings.Split(prefix, ",")
	if !ok || len(fields) < 4 {
		return r, fmt.Errorf("record %q is not PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT", line)
	}
	priority, err1 := strconv.ParseUint(fields[0], 10, 31)
	seq, err2 := strconv.ParseUint(fields[1], 10, 64)
	us, err3 := strconv.ParseUint(fields[2], 10, 53)
	if err := errors.Join(err1, err2, err3); err != nil {
		return r, fmt.Errorf("record %q: %w", line, err)
	}
	return Record{
		Facility: int(priority >> 3), Level: int(priority & 7), Seq: seq,
		Time: time.Duration(us) * time.Microsecond, Text: unescape(text),
	}, nil
}

// unescape replaces the \xNN that the kernel writes for what cannot be printed,
// and for the backslash.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\x`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if len(after) >= 2 {
			if c, err := strconv.ParseUint(after[:2], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[2:]
				continue
			}
		}
		b.WriteString(`\x`)
		s = after
	}
}
