package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/uring"
	"github.com/hotplugtest/hotplugtest/suite"
)

// uringScenarios are about threads that the kernel makes for a process.
var uringScenarios = []Scenario{
	{
		Name: "io-workers",
		Promise: "the workers of an io_uring run on the CPUs that were registered for them and no others, " +
			"also those that are made after a CPU which is not one of these was offline",
		Source: `io_uring_register(2): IORING_REGISTER_IOWQ_AFF; "io_uring/io-wq: do not allow pinning outside of cpuset" (v6.12)`,
		Known:  []Defect{workersGetCPU},
		Needs:  allOf(needsStaying, needsUring),
		Cycle:  ioWorkers,
	},
}

// needsUring is for a kernel in which workers of an io_uring can be bound.
func needsUring(*Machine) error {
	return affinity.Thread(func() error {
		ring, err := uring.Open()
		if err != nil {
			return suite.Unsupportedf("no io_uring: %v (is there no CONFIG_IO_URING, or is kernel.io_uring_disabled set?)", err)
		}
		cpu, _, err := affinity.Current()
		if err == nil {
			if err = ring.SetAffinity(affinity.Of(cpu)); errors.Is(err, unix.EINVAL) {
				err = suite.Unsupportedf("workers of an io_uring cannot be bound: %v, before v5.14", err)
			}
		}
		if closeErr := ring.Close(); closeErr != nil {
			return errors.Join(err, closeErr)
		}
		return err
	})
}

// ioWorkers has a ring make one worker before the CPU goes offline, and one
// when it is back. Each blocks, so that the next request needs another one.
func ioWorkers(x *Scene, cpu int) error {
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	only := affinity.Of(stays)
	return affinity.Thread(func() (err error) {
		ring, err := uring.Open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ring.Close()) }()
		if err := ring.SetAffinity(only); err != nil {
			return err
		}
		let, err := block(ring, 1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, let()) }()
		if err := boundWorkers(ring, only, "before"); err != nil {
			return err
		}
		if err := x.OffAndOn(cpu); err != nil {
			return err
		}
		letAgain, err := block(ring, 2)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, letAgain()) }()
		return boundWorkers(ring, only, fmt.Sprintf("when cpu%d was offline and is back", cpu))
	})
}

// block has a worker open a FIFO, and waits until the ring has so many of them.
// let makes the worker go on.
func block(ring *uring.Ring, workers int) (let func() error, err error) {
	held, err := namelessFIFO()
	if err != nil {
		return nil, err
	}
	fifo := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), held)
	if err := ring.OpenFIFO(fifo); err != nil {
		return nil, errors.Join(err, unix.Close(held))
	}
	let = func() (err error) {
		defer func() { err = errors.Join(err, unix.Close(held)) }()
		// ENXIO: the worker has not got so far.
		ok := suite.WaitFor(suite.TaskTimeout, func() bool {
			var fd int
			if fd, err = unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
				err = unix.Close(fd)
			}
			return err == nil
		})
		if !ok {
			return fmt.Errorf("a worker of the io_uring has not opened a FIFO for %v: %w", suite.TaskTimeout, err)
		}
		ended := 0
		ok = suite.WaitFor(suite.TaskTimeout, func() bool {
			ended, err = ring.Reap()
			return err != nil || ended > 0
		})
		if err == nil && !ok {
			err = fmt.Errorf("a worker of the io_uring has opened a FIFO, and the ring does not tell for %v", suite.TaskTimeout)
		}
		return err
	}
	n := 0
	ok := suite.WaitFor(suite.TaskTimeout, func() bool {
		found, listErr := ring.Workers()
		n, err = len(found), listErr
		return err != nil || n >= workers
	})
	if err == nil && !ok {
		err = fmt.Errorf("the io_uring has %d workers for %d requests that block, %v after the last one", n, workers, suite.TaskTimeout)
	}
	if err != nil {
		return nil, errors.Join(err, let())
	}
	return let, nil
}

// namelessFIFO returns a FIFO that has no path by now, and so goes with the
// process. It is opened by /proc/PID/fd.
func namelessFIFO() (fd int, err error) {
	dir, err := os.MkdirTemp("", "hotplugtest-")
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return -1, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// boundWorkers checks where the workers may run.
func boundWorkers(ring *uring.Ring, want affinity.CPUSet, when string) error {
	workers, err := ring.Workers()
	for id, cpus := range workers {
		if !cpus.Equal(want) {
			err = errors.Join(err, fmt.Errorf("%s, the worker %s of an io_uring may run on CPUs %v, and CPUs %v are registered", when, strconv.Itoa(id), cpus, want))
		}
	}
	return err
}
