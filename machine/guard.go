package machine

import (
	"errors"
	"fmt"
	"io"
)

// Guard takes the [Lock] and a [Snapshot] of the machine, and starts a [Supervisor]. What it returns restores the snapshot,
// ends the supervisor, and unlocks. Its error names what is different after that.
//
// Whom it waits for is written to log. It takes root: the error is that of [Lock].
func Guard(log io.Writer) (release func() error, err error) {
	unlock, err := Lock(log)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func() error, error) { return nil, errors.Join(err, unlock()) }
	s, err := Take("/")
	if err != nil {
		return fail(err)
	}
	supervisor, err := Supervise(s)
	if err != nil {
		return fail(err)
	}
	return func() error {
		diffs, err := s.mendAll()
		errs := []error{err}
		for _, d := range diffs {
			errs = append(errs, fmt.Errorf("machine: %v", d))
		}
		return errors.Join(append(errs, supervisor.Close(), unlock())...)
	}, nil
}
