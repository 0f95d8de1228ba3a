package machine

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// exitLimit bounds the wait for threads that were killed. One that has the
// kernel bring a CPU up ends when that is done. Tests have less patience.
var exitLimit = 30 * time.Second

// ownLimit bounds the wait for threads of this process, which nobody kills.
const ownLimit = 2 * time.Second

// The pauses between two tries to remove what is busy: a thread that has ended
// holds its cgroup for microseconds, and one that the kernel cannot end does so
// for ever.
const (
	firstPause = 50 * time.Microsecond
	lastPause  = 50 * time.Millisecond
)

// untilFree calls remove, for a directory, until the error is not EBUSY, and
// calls free, which may be nil, after each time that it is. An error of free
// ends that. In all calls for the directory together it goes on for exitLimit:
// a restore tries several times, and each would take as long again.
func (s *Snapshot) untilFree(dir string, remove func() error, free func(deadline time.Time) error) error {
	first, ok := s.busySince[dir]
	if !ok {
		first = time.Now()
	}
	deadline := first.Add(exitLimit)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := remove()
		if !errors.Is(err, unix.EBUSY) {
			delete(s.busySince, dir)
			return err
		}
		if s.busySince == nil {
			s.busySince = make(map[string]time.Time)
		}
		s.busySince[dir] = first
		if !time.Now().Before(deadline) {
			return err
		}
		if free != nil {
			if err := free(deadline); err != nil {
				return err
			}
		}
		time.Sleep(pause)
	}
}
