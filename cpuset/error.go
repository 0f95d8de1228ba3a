package cpuset

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNotFound says that the machine has no cpuset hierarchy: no cgroup v1 mount
// with the cpuset controller, and no cgroup v2 mount that has it in
// cgroup.controllers.
var ErrNotFound = errors.New("no cpuset controller")

// An Error says which operation on which file failed.
type Error struct {
	Op    string // "read", "write", "mkdir" or "rmdir"
	Path  string // of the file or directory
	Value string // what was written, when Op is "write"
	Err   error  // mostly a [unix.Errno]
}

// Error returns a text such as
//
//	cpuset: write "+cpuset" to /sys/fs/cgroup/cgroup.subtree_control: EBUSY (device or resource busy)
func (e *Error) Error() string {
	object := e.Path
	if e.Op == "write" {
		object = fmt.Sprintf("%q to %s", e.Value, e.Path)
	}
	return fmt.Sprintf("cpuset: %s %s: %s", e.Op, object, describe(e.Err))
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// describe returns the text of err, which for an errno begins with its name.
func describe(err error) string {
	if errno, ok := err.(unix.Errno); ok {
		return fmt.Sprintf("%s (%v)", unix.ErrnoName(errno), errno)
	}
	return err.Error()
}
