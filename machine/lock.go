package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// LockPath is the file that is locked by whoever changes the machine. Just root
// can make or lock it.
const LockPath = "/run/hotplugtest.lock"

// held is the file that this process has locked, or nil. A supervisor inherits
// it.
var held struct {
	sync.Mutex
	file *os.File
}

// Lock waits until no other process changes the machine, and returns what lets
// the next one. Whom it waits for is written to log, if that is not nil. The lock is flock(2)'s, so
// it ends with the process that holds it, however that ends; with a
// [Supervisor], when that has put the machine back. Within a process it does
// not nest: who locks twice waits for ever. A second call of unlock does nothing
// more. Without root the error wraps [fs.ErrPermission]; if /run is read-only,
// [ErrUnwritable].
func Lock(log io.Writer) (unlock func() error, err error) { return lock(LockPath, log) }

func lock(path string, log io.Writer) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, syserr.In("machine", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("%w: %w", ErrUnwritable, syserr.In("", err))
	}
	if err != nil {
		return nil, syserr.In("machine", err)
	}
	fd := int(f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		text, _ := os.ReadFile(path)
		holder := strings.TrimSpace(string(text))
		if holder == strconv.Itoa(os.Getpid()) {
			holder += " (this one)"
		}
		fmt.Fprintf(orDiscard(log), "waiting for process %s, which has locked %s\n", holder, path)
		for {
			if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		f.Close()
		return nil, failed("lock", path, err)
	}
	held.Lock()
	held.file = f
	held.Unlock()
	// Once: later it may be another's lock that would be forgotten.
	return sync.OnceValue(func() error {
		held.Lock()
		defer held.Unlock()
		held.file = nil
		return f.Close()
	}), nil
}

// orDiscard returns log, which may be nil: nobody reads it then. A panic for
// that would come when there is something to say, in the midst of a restoration.
func orDiscard(log io.Writer) io.Writer {
	if log == nil {
		return io.Discard
	}
	return log
}

// sign writes this process's id to the lock file, for those who wait.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return err
}
