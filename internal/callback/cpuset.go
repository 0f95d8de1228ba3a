package callback

import (
	"errors"

	"github.com/hotplugtest/hotplugtest/cpuset"
)

// MakeCpuset makes a child cpuset, without which the kernel has less to do when
// a CPU goes or comes. A kernel without cpusets gets none. It stays: this is for
// virtual machines.
func MakeCpuset(name string) error {
	h, err := cpuset.New("/")
	if errors.Is(err, cpuset.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := h.EnableController(); err != nil {
		return err
	}
	_, err = h.Root().Create(name)
	return err
}
