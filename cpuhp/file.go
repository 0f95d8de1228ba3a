package cpuhp

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	cpuhp: write "0" to /sys/devices/system/cpu/cpu1/online: EBUSY (device or resource busy)
//
// Op is "read", "write", or the system call, such as "stat"; Value is what was
// written if Op is "write"; Err is a [unix.Errno], or says what of the file's
// text could not be parsed.
type Error = syserr.Error

// read parses what is in the file.
func read[T any](path string, parse func(string) (T, error)) (T, error) {
	v, err := sysfs.Read(path, parse)
	return v, syserr.In("cpuhp", err)
}

func write(path, value string) error { return syserr.In("cpuhp", sysfs.WriteFile(path, value)) }

// writeThen is [write] of a file that wrote is told of.
func writeThen(path, value string, wrote func()) error {
	return syserr.In("cpuhp", sysfs.WriteFileThen(path, value, wrote))
}

// readSupported is [read] of a file that a kernel may be built without.
func readSupported[T any](path string, parse func(string) (T, error)) (T, error) {
	v, err := sysfs.Read(path, parse)
	return v, supported(err)
}

// supported returns the error of a file that a kernel may be built without.
func supported(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return syserr.In("cpuhp", err)
}

func asIs(text string) (string, error) { return text, nil }
