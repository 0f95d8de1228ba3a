package uevent

import "golang.org/x/sys/unix"

// PortID returns the netlink port id of c's socket.
func (c *Conn) PortID() (uint32, error) {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0, err
	}
	return sa.(*unix.SockaddrNetlink).Pid, nil
}

// SetMaxMessage makes c take messages of more than n bytes for truncated.
func (c *Conn) SetMaxMessage(n int) { c.buf = c.buf[:n] }

// Waiting reports whether a goroutine waits for a message, or is about to.
func (c *Conn) Waiting() bool { return len(c.turn) > 0 }

// Interrupted reports whether the next wait would end at once.
func (c *Conn) Interrupted() (bool, error) {
	for {
		// One of the runtime's signals may end it.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.wake), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}
