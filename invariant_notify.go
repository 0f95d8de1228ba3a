package hotplugtest

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// notifyInvariants are about who waits to be told.
var notifyInvariants = []Invariant{
	{
		Name:    "partition-notified",
		Promise: "poll(2) of cpuset.cpus.partition tells of a partition that loses its last CPU, or gets it back",
		Source: docCgroup + ": poll and inotify events are triggered whenever the state of cpuset.cpus.partition changes; " +
			"kernel/cgroup/cgroup.c: cgroup_file_notify(), which puts off an event that comes less than 10 ms after another one",
		Lag:       suite.TaskTimeout,
		Partition: true,
		Placed:    true,
		Needs: func(v View) error {
			if !v.From.Partition.Single {
				return suite.Unsupportedf("the partition has another CPU, and stays one")
			}
			return nil
		},
		Arm: armPartitionNotified,
	},
}

// armPartitionNotified waits for events of the partition.
func armPartitionNotified(p *Probe) (Check, error) {
	path := filepath.Join(p.From.Group.Path(), "cpuset.cpus.partition")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	p.Cleanup(func() { _ = unix.Close(fd) })
	// The event of the operation before this one may have been put off. What
	// was read, nobody has to be told of.
	time.Sleep(20 * time.Millisecond)
	if _, err := read(fd, make([]byte, 4096)); err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return func() error {
		told, err := pollPriority(fd)
		if err == nil && !told {
			err = fmt.Errorf("poll of %s tells of no change", path)
		}
		return err
	}, nil
}

// pollPriority reports whether a file has POLLPRI, without waiting for it.
func pollPriority(fd int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return fds[0].Revents&unix.POLLPRI != 0, os.NewSyscallError("poll", err)
		}
	}
}
