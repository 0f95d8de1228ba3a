package machine

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// ErrUnwritable is wrapped by the error of [Guard] if a file that has to be
// written to restore the machine cannot be written: in a unit of systemd with
// ProtectKernelTunables= or ProtectControlGroups=, say. Nothing was changed.
var ErrUnwritable = errors.New("machine: what has to be restored cannot be written")

// unwritable returns an error for the first file that restoring the snapshot
// may have to write and cannot, or nil.
func (s *Snapshot) unwritable() error {
	for _, path := range s.written() {
		if err := access(s.path(path)); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnwritable, path, syserr.Named(err))
		}
	}
	// The snapshot itself has to be kept somewhere.
	var last error
	for _, path := range storePaths {
		if last = access(existing(s.path(filepath.Dir(path)))); last == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnwritable, strings.Join(storePaths, ", "), syserr.Named(last))
}

// access returns an error if a file or directory is there and must not be
// written.
func access(path string) error {
	err := unix.Access(path, unix.W_OK)
	if err == unix.EROFS || err == unix.EACCES || err == unix.EPERM {
		return err
	}
	return nil
}

// existing returns the directory, or what of its parents is there.
func existing(dir string) string {
	for unix.Access(dir, unix.F_OK) == unix.ENOENT && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

// written returns the files that restoring the snapshot may write, and the
// directories that it removes cgroups from.
func (s *Snapshot) written() []string {
	var files []string
	online, _ := filepath.Glob(s.path(onlinePattern))
	for _, file := range online {
		files = append(files, s.name(file))
	}
	for _, irq := range s.IRQs {
		files = append(files, maskFile(irq.Number))
	}
	if h, err := cpuset.New(s.Root); err == nil {
		mount := s.name(h.Mount())
		files = append(files, mount, filepath.Join(mount, "cgroup.procs"))
	}
	for _, p := range parts {
		if f, ok := p.(setting); ok && !f.fixed {
			files = slices.AppendSeq(files, maps.Keys(s.Settings[f.name]))
		}
	}
	slices.Sort(files)
	return files
}
