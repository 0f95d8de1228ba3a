package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// A timer that expires while the CPU is still online shows nothing. So several
// timers of each kind are armed, each for longer than the one before. The first
// that is due after the moment of the probe counts.

// muchLater are the last of them, for an operation that takes longer than most:
// one that takes more than all does not pass.
var muchLater = []time.Duration{4 * time.Second, 15 * time.Second, suite.OpTimeout}

// armTimerfds arms high-resolution timers on the CPU, by a thread that is
// there.
func armTimerfds(p *Probe) (Check, error) {
	all, err := affinity.Get(0)
	if err != nil {
		return nil, err
	}
	if err := suite.Pin(p.CPU); err != nil {
		return nil, err
	}
	var dues []time.Duration
	for due := 25 * time.Millisecond; due <= 2*time.Second; due += 25 * time.Millisecond {
		dues = append(dues, due)
	}
	var timers []armed
	for _, due := range append(dues, muchLater...) {
		fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		if err != nil {
			return nil, os.NewSyscallError("timerfd_create", err)
		}
		p.Cleanup(func() { unix.Close(fd) })
		t := armed{time.Now().Add(due), func(limit time.Duration) (bool, error) { return timerfdExpires(fd, limit) }}
		if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(due.Nanoseconds())}, nil); err != nil {
			return nil, os.NewSyscallError("timerfd_settime", err)
		}
		timers = append(timers, t)
	}
	return expire(timers), affinity.Set(0, all)
}

// timerfdExpires waits for a timerfd's expiry, which it does not take.
func timerfdExpires(fd int, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; {
		left := unix.NsecToTimespec(max(0, time.Until(end)).Nanoseconds())
		n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &left, nil)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, os.NewSyscallError("ppoll", err)
		}
	}
}

// armTimeouts arms timers of the timer wheel on the CPU, by tasks there that
// wait for a message for a limited time.
func armTimeouts(p *Probe) (Check, error) {
	var dues []time.Duration
	for due := 50 * time.Millisecond; due < 2*time.Second; due *= 2 {
		dues = append(dues, due)
	}
	var timers []armed
	for _, due := range append(dues, muchLater...) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socketpair", err)
		}
		at := time.Now().Add(due)
		over := make(chan struct{})
		err = p.Spawn(func() error {
			defer unix.Close(pair[0])
			expired, err := timeOut(pair[0], at)
			if expired {
				close(over)
			}
			return err
		}, func() { unix.Close(pair[1]) })
		if err != nil {
			unix.Close(pair[0])
			return nil, err
		}
		timers = append(timers, armed{at, func(limit time.Duration) (bool, error) {
			select {
			case <-over:
				return true, nil
			case <-time.After(limit):
				return false, nil
			}
		}})
	}
	return expire(timers), nil
}

// timeOut waits for a message to a socket until a time, by a timer of the timer
// wheel, and reports whether none has come.
func timeOut(socket int, due time.Time) (expired bool, err error) {
	for {
		left := unix.NsecToTimeval(max(time.Microsecond, time.Until(due)).Nanoseconds())
		if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left); err != nil {
			return false, os.NewSyscallError("setsockopt", err)
		}
		switch _, err := unix.Read(socket, make([]byte, 1)); {
		case errors.Is(err, unix.EAGAIN):
			return true, nil
		case !errors.Is(err, unix.EINTR):
			return false, err
		}
	}
}

// armed is a timer that was armed on the CPU.
type armed struct {
	due     time.Time
	expires func(limit time.Duration) (bool, error) // waits for it
}

// expire makes the check that timers expire, in the order of when they are due.
func expire(timers []armed) Check {
	return func() error {
		now := time.Now()
		for _, t := range timers {
			ok, err := t.expires(time.Until(t.due) + suite.TaskTimeout)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("a timer that was due %v after the moment has not expired for %v", t.due.Sub(now).Round(time.Millisecond), suite.TaskTimeout)
			}
			if t.due.After(now) {
				break
			}
		}
		return nil
	}
}
