package cpuset

import (
	"errors"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// ErrNotFound says that the machine has no cpuset hierarchy: no cgroup v1 mount
// with the cpuset controller, and no cgroup v2 mount that has it in
// cgroup.controllers.
var ErrNotFound = errors.New("cpuset: no cpuset controller")

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	cpuset: write "+cpuset" to /sys/fs/cgroup/cgroup.subtree_control: EBUSY (device or resource busy)
//
// Op is "read", "write", "mkdir" or "rmdir"; Value is what was written if Op is
// "write"; Err is a [unix.Errno], or says what of the file's text could not be
// parsed.
type Error = syserr.Error

// failed returns an error about a file or directory.
func failed(op, path string, err error) error {
	return &Error{Package: "cpuset", Op: op, Path: path, Err: syserr.Cause(err)}
}

// readFile returns what is in a file, without the newline at its end.
func readFile(path string) (string, error) {
	text, err := sysfs.ReadFile(path)
	return text, syserr.In("cpuset", err)
}

// writeFile writes value, and a newline, with one write(2).
func writeFile(path, value string) error { return syserr.In("cpuset", sysfs.WriteLine(path, value)) }
