package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// added are the CPUs that the machine has got since, if that was the run's
// doing.
type added struct{}

func (added) take(*Snapshot) error { return nil } // online does

func (added) diff(was, now *Snapshot) []Difference {
	if !was.HotAdd {
		return nil
	}
	var diffs []Difference
	for cpu := range cpuList(now.Present).Difference(cpuList(was.Present)).All() {
		name := "cpu" + strconv.Itoa(cpu)
		diffs = append(diffs, Difference{name, "absent", "present", func() error { return was.eject(name, cpu) }, false})
	}
	return diffs
}

// ejectAgain is after what time a CPU that is still there is ejected again.
const ejectAgain = 2 * time.Second

// eject removes a CPU, and waits until the machine does not have it any more.
// The kernel gives up, and tells the log alone, if CPUs cannot go offline just
// then, as in a suspend.
func (s *Snapshot) eject(name string, cpu int) error {
	cpus, err := cpuhp.New(s.Root)
	if err != nil {
		return err
	}
	var asked time.Time
	err = s.untilFree(name, func() error {
		present, err := cpus.Present()
		if err != nil || !present.Has(cpu) {
			return err
		}
		if time.Since(asked) > ejectAgain {
			// It may go just now, if it was asked to before.
			if err := cpus.Eject(cpu); err != nil && (asked.IsZero() || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
			asked = time.Now()
		}
		return unix.EBUSY
	}, nil)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("machine: %s is still present %v after it was ejected", name, exitLimit)
	}
	return err
}

// addingPath is a file that is there while a CPU is on its way. It has the
// cpulist of those that were present before.
const addingPath = "/run/hotplugtest.adding"

// Adding notes that a CPU is on its way, from before it is asked for until
// arrived is called. If this process is killed in between, whoever restores the
// machine waits for the CPU to come, and removes it. See [GuardHotAdd].
func Adding() (arrived func() error, err error) {
	s := &Snapshot{Root: "/"}
	if err := (online{}).take(s); err != nil {
		return nil, err
	}
	return s.adding()
}

func (s *Snapshot) adding() (arrived func() error, err error) {
	path := s.path(addingPath)
	if err := os.WriteFile(path, []byte(s.Present), 0o644); err != nil {
		return nil, syserr.In("machine", err)
	}
	return func() error { return syserr.In("machine", os.Remove(path)) }, nil
}

// awaitAdded waits for the CPU that is on its way, if one is.
func (s *Snapshot) awaitAdded() error {
	if !s.HotAdd {
		return nil
	}
	before, err := os.ReadFile(s.path(addingPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return syserr.In("machine", err)
	}
	err = s.untilFree(addingPath, func() error {
		now := &Snapshot{Root: s.Root}
		if err := (online{}).take(now); err != nil {
			return err
		}
		if now.Present == string(before) {
			return unix.EBUSY
		}
		return nil
	}, nil)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("machine: a CPU was asked for, and has not come within %v: if it does, remove it", exitLimit)
	}
	return errors.Join(err, syserr.In("machine", os.Remove(s.path(addingPath))))
}
