// Package uevent listens to the uevents that the kernel itself sends on
// NETLINK_KOBJECT_UEVENT.
//
// It believes the kernel only: what another process sends to the socket, root
// included, is counted and ignored. (Root can still have the kernel send one:
// by a write to a device's uevent file, which is marked by SYNTH_UUID, or, as
// containers need it, through the kernel's end of the socket, which nothing
// marks.) It loses nothing unnoticed: when the kernel had to drop messages, the
// receiver is told, and how many.
//
// A netlink broadcast is synchronous. When the write(2) that caused a uevent
// has returned, the uevent is in the receive queue already, and
// [Conn.TryReceiveInto] finds it without waiting.
package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
)

// ErrMalformed is wrapped by the error for a message that is not a uevent as
// the kernel writes them.
var ErrMalformed = errors.New("uevent: malformed message")

// An Event is one uevent. The zero Event is empty; [Conn.Receive] and
// [Event.UnmarshalBinary] fill it.
//
// The strings its methods return are copies and stay valid. The Event itself
// refers to memory that [Conn.ReceiveInto] and [Event.UnmarshalBinary] use
// again, so a copy of the struct is good only until then.
type Event struct {
	msg []byte
	// what follows the header in msg; devpath and subsystem lie in it
	props     []byte
	action    string
	devpath   []byte
	subsystem []byte
	seqnum    uint64
}

// Action returns what happened to the device: one of the actions in
// Documentation/ABI/testing/sysfs-uevent, such as "online".
func (e *Event) Action() string { return e.action }

// DevPath returns the device's path below the mount point of sysfs, such as
// "/devices/system/cpu/cpu1".
func (e *Event) DevPath() string { return string(e.devpath) }

// Subsystem returns the subsystem that the device belongs to, such as "cpu".
func (e *Event) Subsystem() string { return string(e.subsystem) }

// Seqnum returns the number of the uevent. The kernel counts all its uevents,
// also those that go to other network namespaces only. Since Linux 6.9
// (5c0941c55e5f) two that were sent at the same time may arrive in the other
// order.
func (e *Event) Seqnum() uint64 { return e.seqnum }

// CPU returns the number of the CPU that the event is about. ok is false if it
// is about something else, a device below a CPU included.
func (e *Event) CPU() (cpu int, ok bool) {
	if string(e.subsystem) != "cpu" {
		return 0, false
	}
	number, ok := bytes.CutPrefix(e.devpath, []byte("/devices/system/cpu/cpu"))
	if !ok || len(number) > 1 && number[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(number), 10, 31)
	return int(n), err == nil
}

// Lookup returns the value of a property, ACTION, DEVPATH, SUBSYSTEM and
// SEQNUM included, and whether the event has it. If it has it more than once,
// the first counts.
func (e *Event) Lookup(key string) (value string, ok bool) {
	for line := range properties(e.props) {
		k, v, _ := bytes.Cut(line, []byte{'='})
		if string(k) == key {
			return string(v), true
		}
	}
	return "", false
}

// All returns the properties in the order in which the kernel wrote them.
func (e *Event) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for line := range properties(e.props) {
			k, v, _ := bytes.Cut(line, []byte{'='})
			if !yield(string(k), string(v)) {
				return
			}
		}
	}
}

// String returns the event in one line, such as
// "online@/devices/system/cpu/cpu1 SEQNUM=1234". Unlike the other
// methods it is one of the value, which is what [Conn.Receive] returns and
// people print.
func (e Event) String() string {
	return fmt.Sprintf("%s@%s SEQNUM=%d", e.action, e.devpath, e.seqnum)
}

// UnmarshalBinary makes e the uevent in msg, one datagram of the kernel's: a
// header ACTION@DEVPATH, then properties KEY=VALUE, each with a NUL at its
// end. It copies msg, into the memory of the event that was in e before if
// that suffices.
//
// The error wraps [ErrMalformed], and e is then empty. The header must agree
// with the properties ACTION and DEVPATH, SEQNUM must be a number, and these
// and SUBSYSTEM must be there exactly once.
func (e *Event) UnmarshalBinary(msg []byte) error {
	*e = Event{msg: append(e.msg[:0], msg...)}
	if err := e.parse(); err != nil {
		*e = Event{msg: e.msg[:0]}
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func (e *Event) parse() error {
	if len(e.msg) == 0 || e.msg[len(e.msg)-1] != 0 {
		return fmt.Errorf("%d bytes without a NUL at the end", len(e.msg))
	}
	var header []byte
	header, e.props, _ = bytes.Cut(e.msg, []byte{0})

	var action, seqnum []byte
	for line := range properties(e.props) {
		key, value, ok := bytes.Cut(line, []byte{'='})
		if !ok || len(key) == 0 {
			return fmt.Errorf("property %q is not KEY=VALUE", line)
		}
		var field *[]byte
		switch string(key) {
		case "ACTION":
			field = &action
		case "DEVPATH":
			field = &e.devpath
		case "SUBSYSTEM":
			field = &e.subsystem
		case "SEQNUM":
			field = &seqnum
		default:
			continue
		}
		if *field != nil {
			return fmt.Errorf("property %s twice: %q and %q", key, *field, value)
		}
		*field = value
	}

	// The action ends at the first @; a path such as soc@0 has more of them.
	a, d, ok := bytes.Cut(header, []byte{'@'})
	if !ok || len(a) == 0 || len(d) == 0 {
		return fmt.Errorf("header %q is not ACTION@DEVPATH", header)
	}
	if !bytes.Equal(a, action) || !bytes.Equal(d, e.devpath) {
		return fmt.Errorf("header %q, but ACTION=%q and DEVPATH=%q", header, action, e.devpath)
	}
	if len(e.subsystem) == 0 {
		return errors.New("no SUBSYSTEM")
	}
	n, err := strconv.ParseUint(string(seqnum), 10, 64)
	if err != nil {
		return fmt.Errorf("SEQNUM=%q is not a number", seqnum)
	}
	e.action, e.seqnum = intern(action), n
	return nil
}

// properties returns the strings in b, each of which has a NUL at its end.
func properties(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			var line []byte
			if line, b, _ = bytes.Cut(b, []byte{0}); !yield(line) {
				return
			}
		}
	}
}

// intern returns action as a string, without allocating for those in the
// kernel's lib/kobject_uevent.c.
func intern(action []byte) string {
	for _, known := range [...]string{"add", "remove", "change", "move", "online", "offline", "bind", "unbind"} {
		if string(action) == known {
			return known
		}
	}
	return string(action)
}
