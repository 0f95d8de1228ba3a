package machine

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
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

// eject removes a CPU, and waits until the machine does not have it any more.
func (s *Snapshot) eject(name string, cpu int) error {
	cpus, err := cpuhp.New(s.Root)
	if err != nil {
		return err
	}
	if err := cpus.Eject(cpu); err != nil {
		return err
	}
	err = s.untilFree(name, func() error {
		present, err := cpus.Present()
		if err == nil && present.Has(cpu) {
			return unix.EBUSY
		}
		return err
	}, nil)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("machine: %s is still present %v after it was ejected", name, exitLimit)
	}
	return err
}
