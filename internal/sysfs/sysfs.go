// Package sysfs reads and writes the one-value files of sysfs, and of the file
// systems that are like it: cgroups, tracefs, /proc.
//
// They can be polled. An os.File would hand them to Go's network poller, and
// wait for ever when the kernel answers a write with EAGAIN. So this package
// makes the system calls itself.
package sysfs

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// retry calls f until it is not interrupted by a signal.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// ReadFile returns what is in the file, without the newline at its end. The
// error is a [*syserr.Error].
func ReadFile(path string) (string, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", &syserr.Error{Op: "read", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var text []byte
	buf := make([]byte, 4096)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil {
			return "", &syserr.Error{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return strings.TrimSuffix(string(text), "\n"), nil
		}
		text = append(text, buf[:n]...)
	}
}

// Read parses what is in the file. The error is a [*syserr.Error], which wraps
// that of parse.
func Read[T any](path string, parse func(string) (T, error)) (T, error) {
	var zero T
	text, err := ReadFile(path)
	if err != nil {
		return zero, err
	}
	v, err := parse(text)
	if err != nil {
		return zero, &syserr.Error{Op: "read", Path: path, Err: err}
	}
	return v, nil
}

// ParseBool parses the 0 or 1 that the kernel prints for a flag.
func ParseBool(text string) (bool, error) {
	switch text {
	case "0":
		return false, nil
	case "1":
		return true, nil
	}
	return false, fmt.Errorf("%q is neither 0 nor 1", text)
}

// WriteFile writes value to the file, in one write(2), which ends when the
// kernel is done with it. The error is a [*syserr.Error]. It wraps
// [io.ErrShortWrite] if the kernel has taken a part of the value only.
func WriteFile(path, value string) error { return write(path, value, value, 0, nil) }

// WriteFileThen is [WriteFile]. If wrote is not nil, it is called on the same
// thread as soon as write(2) has returned, before the file is closed.
func WriteFileThen(path, value string, wrote func()) error {
	return write(path, value, value, 0, wrote)
}

// WriteLine is [WriteFile] of value and a newline. Files of cgroups need the
// newline if the value is empty: write(2) of nothing does nothing.
func WriteLine(path, value string) error { return write(path, value, value+"\n", 0, nil) }

// ReplaceLine is [WriteLine] of what is then all that the file has, in a tree
// of ordinary files too. Most files of the kernel's take no notice of O_TRUNC,
// but some of tracefs do.
func ReplaceLine(path, value string) error { return write(path, value, value+"\n", unix.O_TRUNC, nil) }

// write writes text, which the error calls value, with more flags of open(2). If
// wrote is not nil, it is called after write(2).
func write(path, value, text string, flags int, wrote func()) error {
	failed := func(err error) error {
		return &syserr.Error{Op: "write", Path: path, Value: value, Err: err}
	}
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0) })
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	// A signal may have come before it began. But the kernel may also mean it,
	// and would do the same thing for ever.
	n := 0
	for range 10 {
		if n, err = unix.Write(fd, []byte(text)); err != unix.EINTR {
			break
		}
	}
	if wrote != nil {
		wrote()
	}
	if err == nil && n < len(text) {
		// What is left would be a value of its own.
		err = fmt.Errorf("%w: %d of %d bytes", io.ErrShortWrite, n, len(text))
	}
	if err != nil {
		return failed(err)
	}
	return nil
}
