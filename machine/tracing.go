package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tracing are the instances of tracefs that a test has made and not removed,
// and its mounts of tracefs: package tracefs gives both a name that begins with
// [leftoverPrefix] and the process's id. What others trace is not in a
// snapshot.
type tracing struct{}

func (tracing) take(s *Snapshot) error {
	s.Tracing = append(s.traceInstances(), s.traceMounts()...)
	return nil
}

func (tracing) diff(was, now *Snapshot) []Difference {
	var diffs []Difference
	for _, path := range now.Tracing {
		if slices.Contains(was.Tracing, path) {
			continue
		}
		mend := func() error { return was.removeInstance(path) }
		if mount, ok := strings.CutPrefix(path, mountedPrefix); ok {
			mend = func() error { return unmount(was.path(mount)) }
		}
		diffs = append(diffs, Difference{path, "absent", "left over", mend, false})
	}
	return diffs
}

// mountedPrefix comes before the directory of a mount in a snapshot.
const mountedPrefix = "tracefs mounted by a test on "

// A traceMount is a mount of tracefs. All of them show the same instances.
type traceMount struct{ source, dir string }

// mountsOfTracefs reads them from /proc/self/mounts. It does not look for
// /sys/kernel/debug/tracing otherwise: to look there mounts it.
func (s *Snapshot) mountsOfTracefs() []traceMount {
	text, _ := read(s.path("proc/self/mounts"))
	var mounts []traceMount
	for line := range strings.Lines(text) {
		// SOURCE DIR TYPE OPTIONS 0 0
		if f := strings.Fields(line); len(f) > 2 && f[2] == "tracefs" {
			mounts = append(mounts, traceMount{source: f[0], dir: f[1]})
		}
	}
	return mounts
}

func (s *Snapshot) traceInstances() []string {
	mounts := s.mountsOfTracefs()
	if len(mounts) == 0 {
		return nil
	}
	var found []string
	// The error is one of the pattern.
	dirs, _ := filepath.Glob(s.path(filepath.Join(mounts[0].dir, "instances", leftoverPrefix+"*")))
	for _, dir := range dirs {
		found = append(found, s.name(dir))
	}
	return found
}

func (s *Snapshot) traceMounts() []string {
	var found []string
	for _, mount := range s.mountsOfTracefs() {
		if isLeftover(mount.source) {
			found = append(found, mountedPrefix+mount.dir)
		}
	}
	return found
}

// removeInstance removes an instance of tracefs. The kernel disables its
// events. It is busy while a process has one of its files open: one that was
// killed has them until its last thread has ended.
func (s *Snapshot) removeInstance(path string) error {
	dir := s.path(path)
	return s.untilFree(dir, func() error {
		if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
			return failed("rmdir", dir, err)
		}
		return nil
	}, nil)
}

// unmount is replaced in tests, where nothing is mounted. Whoever has begun to
// use the mount keeps the files that are open.
var unmount = func(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return failed("umount", dir, err)
	}
	return nil
}

// ownTracing are the instances and mounts that this process has not removed.
func ownTracing() map[string]string {
	s := &Snapshot{Root: "/"}
	found := make(map[string]string)
	for _, dir := range s.traceInstances() {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), leftoverPrefix), "-")
		if owner == strconv.Itoa(os.Getpid()) {
			found["trace instance "+dir] = "not removed"
		}
	}
	for _, mount := range s.mountsOfTracefs() {
		if mount.source == leftoverPrefix+strconv.Itoa(os.Getpid()) {
			found["mount "+mount.dir] = "not unmounted"
		}
	}
	return found
}
