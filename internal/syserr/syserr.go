// Package syserr has the form of this module's errors: the package, once; the
// operation; its object; the cause. An errno is named, since the kernel's
// documents and manual pages have its name, and not the text of strerror(3):
//
//	cpuset: write "+cpuset" to /sys/fs/cgroup/cgroup.subtree_control: EBUSY (device or resource busy)
//
// A sentinel of a package has the package's name in its text, and comes first.
package syserr

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// An Error says which operation failed, on what, and why. Packages have it as
// their Error, with what they set in it.
type Error struct {
	// Package is whose operation it was, such as "cpuset". It is empty if the
	// text around the error names the package.
	Package string

	// Op is the operation: "read" or "write" of a whole file, else the name of
	// the system call, such as "mkdir".
	Op string

	// Path is the file or directory, or empty if there is none.
	Path string

	// Value is what was written if Op is "write".
	Value string

	// Err is the cause, mostly a [unix.Errno].
	Err error
}

func (e *Error) Error() string {
	text := e.Op
	if e.Op == "write" {
		text += fmt.Sprintf(" %q to", e.Value)
	}
	if e.Path != "" {
		text += " " + e.Path
	}
	if e.Package != "" {
		text = e.Package + ": " + text
	}
	return text + ": " + Named(e.Err).Error()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// In returns err as an error of a package, and nil if it is nil. It becomes an
// [*Error] of the package if it is an [*Error] of none, or one of package os.
// With an empty name it is for a text that has the package's name already.
func In(name string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		switch e.Package {
		case name:
			return err
		case "":
			in := *e
			in.Package = name
			return &in
		}
	case *fs.PathError:
		return &Error{Package: name, Op: e.Op, Path: e.Path, Err: e.Err}
	case *os.SyscallError:
		return &Error{Package: name, Op: e.Syscall, Err: e.Err}
	}
	if name == "" {
		return Named(err)
	}
	return fmt.Errorf("%s: %w", name, Named(err))
}

// Named returns err, if that is an errno, as an error whose text has the name
// of the errno: "EBUSY (device or resource busy)".
func Named(err error) error {
	if errno, ok := err.(unix.Errno); ok {
		return named{errno}
	}
	return err
}

type named struct{ errno unix.Errno }

func (n named) Error() string {
	name := unix.ErrnoName(n.errno)
	if name == "" { // such as ENOTSUPP, which is the kernel's own
		name = fmt.Sprintf("errno %d", int(n.errno))
	}
	return fmt.Sprintf("%s (%v)", name, n.errno)
}

func (n named) Unwrap() error { return n.errno }

// Cause returns the errno that err wraps, or err.
func Cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
