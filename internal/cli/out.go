package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// lockFile is the file in a directory of reports that is locked while a command
// writes there. It stays: if it were removed, two commands could each have a
// lock on a file of that name.
const lockFile = ".hotplugtest.lock"

// InUse says that another command writes into a directory of reports. The exit
// status is [Untold] then.
type InUse struct{ Dir string }

func (e *InUse) Error() string {
	return fmt.Sprintf("another run writes its reports to %s: wait for its end, or give another -out", e.Dir)
}

// LockOut creates directories of reports, and keeps other commands from writing
// into them until unlock is called or the process ends. The error is an
// [*InUse] if one does already; it is not waited for. Directories below them
// are not locked. On a file system without locks there is none.
func LockOut(dirs ...string) (unlock func(), err error) {
	var locked []*os.File
	unlock = func() {
		for _, f := range locked {
			f.Close()
		}
	}
	for _, dir := range slices.Compact(slices.Sorted(slices.Values(dirs))) {
		f, err := lockOne(dir)
		if err != nil {
			unlock()
			return nil, err
		}
		locked = append(locked, f)
	}
	return unlock, nil
}

func lockOne(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil, errors.Is(err, errors.ErrUnsupported), errors.Is(err, unix.ENOLCK):
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = &InUse{dir}
	default:
		err = &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	f.Close()
	return nil, err
}
