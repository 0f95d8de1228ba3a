package callback

import (
	"errors"
	"fmt"
	"os"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// Record returns the [Events] of what operate does. The error wraps
// [tracefs.ErrNotSupported] if nothing can be recorded here, and then operate was
// not called; it wraps [tracefs.ErrLost] if events are missing.
func Record(operate func() error) (events []tracefs.Event, err error) {
	fs, err := tracefs.Open("/")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	i, err := fs.Create(fmt.Sprintf("%s%d-callbacks", tracefs.NamePrefix, os.Getpid()), nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	for _, event := range Events {
		if err := i.Enable(event, ""); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(i.Start(), operate(), i.Stop()); err != nil {
		return nil, err
	}
	return i.Read()
}
