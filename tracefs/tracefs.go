// Package tracefs records trace events of the kernel in an instance of its own,
// below /sys/kernel/tracing/instances.
//
// Other people may trace at the same time. Their instances and the top-level
// buffer are never touched, and neither is the top-level clock: an instance has
// a clock, events, options and buffers of its own.
//
// See Documentation/trace/ftrace.rst and Documentation/trace/events.rst of the
// kernel.
package tracefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// ErrNotSupported is wrapped by the error of a function if the kernel has no
// tracefs, was built without an event, or is locked down. The error's text says
// which.
var ErrNotSupported = errors.New("tracefs: not supported")

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	tracefs: write "1" to /sys/kernel/tracing/instances/mine/tracing_on: EACCES (permission denied)
//
// Op is "read", "write", or a system call; Value is what was written if Op is
// "write"; Err is a [unix.Errno], or says what of the file's text could not be
// parsed.
type Error = syserr.Error

// failed returns an error about a file or directory.
func failed(op, path string, err error) error {
	return &Error{Package: "tracefs", Op: op, Path: path, Err: err}
}

// NamePrefix begins the names of the instances that tests make, and the source
// of the mounts that this package makes. A process's id follows. Package machine
// removes by these names what a killed process has left.
const NamePrefix = "hotplugtest-"

// Where tracefs is found, below the root directory.
const (
	mountPoint  = "sys/kernel/tracing"       // since v4.1
	debugFSPath = "sys/kernel/debug/tracing" // in debugfs
)

// An FS is a mounted tracefs. Make one with [Open].
type FS struct {
	root, dir string
	mounted   bool // by Open
}

// Open returns the tracefs of the machine whose file system is at root, "/"
// except in tests. If it is not mounted at /sys/kernel/tracing, Open mounts it
// there, and Close unmounts it. If that is refused, /sys/kernel/debug/tracing
// serves, on which debugfs mounts tracefs by itself.
//
// The error wraps [ErrNotSupported] if the kernel is built without
// CONFIG_TRACING, or if it is locked down (mode "confidentiality" of
// kernel_lockdown(7), v5.4). It wraps [unix.EPERM] or [unix.EACCES] without the
// privilege.
func Open(root string) (*FS, error) {
	f := &FS{root: root, dir: filepath.Join(root, mountPoint)}
	if !isMounted(f.dir) {
		if _, err := os.Stat(f.dir); err != nil {
			return nil, fmt.Errorf("%w: the kernel has no tracefs (CONFIG_TRACING): %w", ErrNotSupported, syserr.In("", err))
		}
		source := fmt.Sprintf("%s%d", NamePrefix, os.Getpid())
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		err := unix.Mount(source, f.dir, "tracefs", flags, "")
		f.mounted = err == nil
		if debug := filepath.Join(root, debugFSPath); err != nil && isMounted(debug) {
			f.dir, err = debug, nil
		}
		if err != nil {
			return nil, failed("mount", f.dir, err)
		}
	}
	if err := f.check(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// isMounted reports whether tracefs is at a directory, or in tests a directory
// that looks like it.
func isMounted(dir string) bool {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) == nil && stat.Type == unix.TRACEFS_MAGIC {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "instances"))
	return err == nil
}

// check returns why nobody can trace, or nil.
func (f *FS) check() error {
	if _, err := os.Stat(filepath.Join(f.dir, "instances")); err != nil {
		// A kernel that is locked down when it boots leaves tracefs empty.
		if mode := f.lockdown(); mode != "" {
			return fmt.Errorf("%w: the kernel is locked down (mode %s)", ErrNotSupported, mode)
		}
		return fmt.Errorf("%w: %s is empty, as it is if the kernel is locked down (mode confidentiality): %w", ErrNotSupported, f.dir, syserr.In("", err))
	}
	path := filepath.Join(f.dir, "current_tracer")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		return syserr.In("tracefs", os.NewSyscallError("close", unix.Close(fd)))
	}
	if mode := f.lockdown(); mode != "" && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the kernel is locked down (mode %s)", ErrNotSupported, mode)
	}
	if os.Geteuid() == 0 && errors.Is(err, unix.EPERM) {
		// securityfs, which has the mode, need not be mounted.
		return fmt.Errorf("%w: the kernel denies root to open %s, as it does when it is locked down (mode confidentiality)",
			ErrNotSupported, path)
	}
	return failed("open", path, err)
}

// lockdown returns the mode in brackets in /sys/kernel/security/lockdown, as in
// "none integrity [confidentiality]", or "" if it is "none" or unknown.
func (f *FS) lockdown() string {
	text, _ := os.ReadFile(filepath.Join(f.root, "sys/kernel/security/lockdown"))
	_, rest, _ := strings.Cut(string(text), "[")
	mode, _, _ := strings.Cut(rest, "]")
	if mode == "none" {
		return ""
	}
	return mode
}

// Dir returns the directory of the tracefs, such as "/sys/kernel/tracing".
func (f *FS) Dir() string { return f.dir }

// Close unmounts the tracefs if Open mounted it. Instances stay. A program that
// has begun to use the mount meanwhile keeps the files that it has open.
func (f *FS) Close() error {
	if !f.mounted {
		return nil
	}
	f.mounted = false
	if err := unix.Unmount(f.dir, unix.MNT_DETACH); err != nil {
		return failed("umount", f.dir, err)
	}
	return nil
}
