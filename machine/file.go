package machine

import (
	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	machine: write "none" to /sys/power/pm_test: EBUSY (device or resource busy)
//
// Op is "read", "write", or a system call; Value is what was written if Op is
// "write"; Err is a [unix.Errno], or says what of the file's text could not be
// parsed. What is still different after [Guard] is an error of another kind.
type Error = syserr.Error

// read returns what is in the file.
func read(path string) (string, error) {
	text, err := sysfs.ReadFile(path)
	return text, syserr.In("machine", err)
}

// write writes value, and a newline, with one write(2).
func write(path, value string) error { return syserr.In("machine", sysfs.ReplaceLine(path, value)) }

// failed returns an error about a file, directory or process.
func failed(op, path string, err error) error {
	return &Error{Package: "machine", Op: op, Path: path, Err: err}
}
