package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// softTimerScenarios are about hrtimers that expire in a softirq. Programs have
// none of their own, so this is one of the kernel's CAN broadcast manager, with
// no CAN interface: it tells of a message that has not come for a time.
var softTimerScenarios = []Scenario{
	{
		Name:    "soft-timers",
		Promise: "a timer that expires in a softirq does so though the CPU that it was started on goes offline, and so does one of the CPU when that is back",
		Known:   []Defect{softTimersLost},
		Source: `Documentation/networking/can.rst: RX_TIMEOUT; e895f8e29119 ("hrtimers: Unconditionally update target CPU base after offline timer migration", v6.17); ` +
			`2f8dea1692ee ("hrtimers: Handle CPU state correctly on hotplug", v6.13)`,
		Needs: needsBroadcastManager,
		Cycle: softTimersExpire,
	},
}

// needsBroadcastManager is for a kernel that has it by now: to open a socket of
// its loads modules, which would stay.
func needsBroadcastManager(*Machine) error {
	if !exists("/proc/net/can-bcm") {
		return suite.Unsupportedf("the kernel's CAN broadcast manager is not there (modprobe can-bcm)")
	}
	c, err := openCyclic()
	if err != nil {
		return suite.Unsupportedf("%v: no use can be made of the CAN broadcast manager", err)
	}
	return c.close()
}

// cyclic is a socket of the CAN broadcast manager, which waits for messages with
// one ID from any interface.
type cyclic struct{ fd int }

func openCyclic() (*cyclic, error) {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_BCM)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &cyclic{fd}
	if err := unix.Connect(fd, &unix.SockaddrCAN{}); err != nil {
		return nil, errors.Join(os.NewSyscallError("connect", err), c.close())
	}
	return c, nil
}

func (c *cyclic) close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// cyclicHead is struct bcm_msg_head of <linux/can/bcm.h>, without the frames.
type cyclicHead struct {
	opcode, flags, count uint32
	ival1, ival2         struct{ sec, usec int }
	id, frames           uint32
}

// cyclicSize is that of a message without frames: these would be at a multiple
// of 8.
const cyclicSize = (unsafe.Sizeof(cyclicHead{}) + 7) &^ 7

// Values of <linux/can/bcm.h>.
const (
	rxSetup   = 5
	rxTimeout = 11

	setTimer   = 0x1
	startTimer = 0x2
	filterID   = 0x20

	unusedID = 1<<31 | 0x1fffffff // the last one, in the extended format
)

// startOn starts the timer on a CPU.
func (c *cyclic) startOn(cpu int, after time.Duration) (due time.Time, err error) {
	head := cyclicHead{opcode: rxSetup, flags: setTimer | startTimer | filterID, id: unusedID}
	head.ival1.sec, head.ival1.usec = int(after/time.Second), int(after%time.Second/time.Microsecond)
	message := make([]byte, cyclicSize)
	*(*cyclicHead)(unsafe.Pointer(&message[0])) = head
	err = affinity.Run(affinity.Of(cpu), func() error {
		due = time.Now().Add(after)
		_, err := unix.Write(c.fd, message)
		return os.NewSyscallError("write of RX_SETUP", err)
	})
	return due, err
}

// expired reports whether the timer has expired since it was last asked.
func (c *cyclic) expired() (bool, error) {
	message := make([]byte, cyclicSize)
	switch _, err := unix.Read(c.fd, message); {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("read", err)
	}
	if (*cyclicHead)(unsafe.Pointer(&message[0])).opcode != rxTimeout {
		return false, suite.Unsupportedf("a CAN interface gets messages with the ID %#x", unusedID&^(1<<31))
	}
	return true, nil
}

// late waits for a timer, and returns by how much it is late: [suite.TaskTimeout]
// if it has not expired by then.
func (c *cyclic) late(due time.Time) (time.Duration, error) {
	var expired bool
	var err error
	ended := suite.WaitAsleep(max(0, time.Until(due))+suite.TaskTimeout, func() bool {
		expired, err = c.expired()
		return expired || err != nil
	})
	if !ended {
		return suite.TaskTimeout, nil
	}
	return time.Since(due), err
}

// lateGone starts a timer on a CPU, which goes before the timer is due, and
// returns by how much it is late. If the CPU takes longer than that, the next
// timer has more time.
func (c *cyclic) lateGone(x *Scene, cpu int) (time.Duration, error) {
	for after := 250 * time.Millisecond; after < suite.TaskTimeout; after *= 2 {
		due, err := c.startOn(cpu, after)
		if err != nil {
			return 0, err
		}
		if err := x.Set(cpu, Offline); err != nil {
			return 0, err
		}
		gone := time.Now()
		late, err := c.late(due)
		if err := errors.Join(err, x.Set(cpu, Online)); err != nil || gone.Before(due) {
			return late, err
		}
	}
	return 0, suite.Unsupportedf("cpu%d takes more than %v to go offline", cpu, suite.TaskTimeout/2)
}

// lateBack starts a timer on a CPU that is back.
func (c *cyclic) lateBack(cpu int) (time.Duration, error) {
	due, err := c.startOn(cpu, 100*time.Millisecond)
	if err != nil {
		return 0, err
	}
	return c.late(due)
}

// softTimersExpire has a timer expire that a CPU had when it went offline, and
// one that it has when it is back.
func softTimersExpire(x *Scene, cpu int) (err error) {
	c, err := openCyclic()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return errors.Join(
		inTime(fmt.Sprintf("that cpu%d had when it went offline", cpu), func() (time.Duration, error) { return c.lateGone(x, cpu) }),
		inTime(fmt.Sprintf("of cpu%d, which was offline,", cpu), func() (time.Duration, error) { return c.lateBack(cpu) }),
	)
}

// inTime says if a timer is late. A busy machine may be, so the least of several
// counts, unless one does not come at all.
func inTime(which string, late func() (time.Duration, error)) error {
	const tries, limit = 3, time.Second
	least := suite.TaskTimeout
	for range tries {
		by, err := late()
		if err != nil {
			return err
		}
		if least = min(least, by); least <= limit {
			return nil
		}
		if by == suite.TaskTimeout {
			break
		}
	}
	return fmt.Errorf("a softirq's timer %s is late by %v or more: RX_TIMEOUT of the CAN broadcast manager", which, least.Round(time.Millisecond))
}
