package uevent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

var (
	// ErrOverrun is wrapped by the error that reports that the kernel had to
	// drop messages because the receive buffer was full. The Conn goes on
	// working. See [Stats] for how many were lost.
	ErrOverrun = errors.New("uevent: receive buffer overrun")

	// ErrTruncated is wrapped by the error for a message that was longer than
	// the kernel's messages can be. The message is lost.
	ErrTruncated = errors.New("uevent: message truncated")

	// ErrClosed is returned by a receive on a closed Conn.
	ErrClosed = errors.New("uevent: connection closed")
)

// An Error says which system call failed, and why. Its text is such as
//
//	uevent: socket: EMFILE (too many open files)
//
// Op is the system call, and Err the [unix.Errno].
type Error = syserr.Error

func failed(call string, errno error) error { return &Error{Package: "uevent", Op: call, Err: errno} }

const (
	// kernelGroup is the bit of multicast group 1, on which the kernel sends.
	// udevd sends on group 2.
	kernelGroup = 1

	// maxMessage exceeds what the kernel can send: a header with a path that
	// must fit the properties too, and UEVENT_BUFFER_SIZE (2048) bytes of
	// those.
	maxMessage = 8192

	defaultBuffer = 128 << 20
)

// Options are the options of a [Conn]. The zero value, and nil, mean defaults.
type Options struct {
	// Buffer is the size in bytes of the socket's receive buffer (SO_RCVBUF,
	// see socket(7)). The kernel doubles it, and allocates only what is
	// queued; a queued uevent takes about 1 KiB. 0 means 128 MiB, as udevd
	// has it; less than 0 is an error. Without CAP_NET_ADMIN the kernel
	// silently limits it to /proc/sys/net/core/rmem_max.
	Buffer int
}

// Stats are a [Conn]'s counts since [Open].
type Stats struct {
	Received uint64 // events returned
	Foreign  uint64 // messages ignored because the kernel did not send them
	Overruns uint64 // times ErrOverrun was returned

	// Lost counts the messages that did not fit in the receive buffer, as
	// counted by the kernel for this socket (SO_MEMINFO). Gaps in SEQNUM
	// could not tell: uevents of other network namespaces leave them too.
	Lost uint64
}

// A Conn receives the uevents of the network namespace it was opened in. The
// kernel sends the uevents of all devices but network ones to each network
// namespace that belongs to the initial user namespace.
//
// Its methods may be called by several goroutines at once; each event goes to
// one of them.
type Conn struct {
	fd, wake int           // the socket; an eventfd that ends a wait
	done     chan struct{} // closed by Close
	closing  sync.Once

	// turn is held by the one goroutine that waits on the descriptors. It
	// keeps them open, and makes clear whose it is to clear wake.
	turn chan struct{}

	mu    sync.Mutex // guards the rest, and keeps fd open
	buf   []byte
	from  unix.RawSockaddrNetlink
	stats Stats
}

// Open opens a socket and subscribes it to the kernel's uevents. What the
// kernel sends from here on is received, or reported as lost.
//
// It needs no privilege, but see [Options]. The error wraps the errno of
// socket(2), setsockopt(2), bind(2) or eventfd(2).
func Open(opts *Options) (*Conn, error) {
	size := defaultBuffer
	if opts != nil && opts.Buffer != 0 {
		size = opts.Buffer
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, failed("socket", err)
	}
	wake, err := subscribe(fd, size)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Conn{
		fd:   fd,
		wake: wake,
		done: make(chan struct{}),
		turn: make(chan struct{}, 1),
		buf:  make([]byte, maxMessage),
	}, nil
}

// subscribe prepares the socket fd, and returns a new eventfd.
func subscribe(fd, size int) (wake int, err error) {
	if size < 0 { // the kernel would take the smallest that it has, or the largest
		err = unix.EINVAL
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	}
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	if err != nil {
		return -1, &Error{Package: "uevent", Op: fmt.Sprintf("setsockopt of a receive buffer of %d bytes", size), Err: err}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return -1, failed("bind", err)
	}
	if wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return -1, failed("eventfd", err)
	}
	return wake, nil
}

// Receive waits for the next uevent. It blocks the calling goroutine's thread:
// that reacts sooner than Go's network poller.
//
// The error wraps
//   - ctx.Err() when ctx is done, also when an event is queued, which then
//     stays queued;
//   - [ErrOverrun], once, when messages were lost since the last overrun. What
//     the kernel had queued before can still be received, what follows gets
//     lost until the queue was empty once;
//   - [ErrMalformed] or [ErrTruncated] for a message of the kernel's that is
//     no uevent, which is dropped;
//   - [ErrClosed] after Close.
func (c *Conn) Receive(ctx context.Context) (Event, error) {
	var ev Event
	err := c.ReceiveInto(ctx, &ev)
	return ev, err
}

// ReceiveInto is [Conn.Receive] into ev. It reuses ev's memory, and does not
// allocate when an event is queued already and ev held one as long.
func (c *Conn) ReceiveInto(ctx context.Context, ev *Event) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("uevent: receive: %w", err)
		}
		if ok, err := c.TryReceiveInto(ev); ok || err != nil {
			return err
		}
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
}

// TryReceiveInto is [Conn.ReceiveInto] for an event that is queued already. It
// never blocks; it returns false when the queue is empty.
func (c *Conn) TryReceiveInto(ev *Event) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.fd < 0 {
			return false, ErrClosed
		}
		n, errno := c.recvfrom()
		switch {
		case errno == unix.EAGAIN:
			return false, nil
		case errno == unix.EINTR:
			continue
		case errno == unix.ENOBUFS:
			c.stats.Overruns++
			return false, fmt.Errorf("%w: %d messages lost so far", ErrOverrun, c.lost())
		case errno != 0:
			return false, failed("recvfrom", errno)
		}
		// Only the kernel's port id is 0, and a unicast says no group.
		if c.from.Pid != 0 || c.from.Groups != kernelGroup {
			c.stats.Foreign++
			continue
		}
		if n > len(c.buf) {
			return false, fmt.Errorf("%w: %d bytes, and room for %d", ErrTruncated, n, len(c.buf))
		}
		if err := ev.UnmarshalBinary(c.buf[:n]); err != nil {
			return false, err
		}
		c.stats.Received++
		return true, nil
	}
}

// Stats returns c's counts, the last ones if c is closed.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	if c.fd >= 0 {
		s.Lost = c.lost()
	}
	return s
}

// Close closes the socket. It makes other goroutines' Receive return
// [ErrClosed]. Closing again does nothing.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		close(c.done)
		c.interrupt()
		c.turn <- struct{}{} // for good: nobody is to wait again
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats.Lost = c.lost()
		// close(2) of either cannot fail, and frees the descriptor anyway.
		_ = unix.Close(c.fd)
		_ = unix.Close(c.wake)
		c.fd = -1
	})
	return nil
}

// wait blocks until a message may be queued, ctx is done, or c is closed.
func (c *Conn) wait(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil // the caller sees it
	case <-c.done:
		return ErrClosed
	}
	select {
	case <-c.done:
		return ErrClosed
	default:
	}

	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			c.interrupt()
			close(interrupted)
		})
		defer func() {
			if !stop() {
				// Leave wake as it was for the next to wait. If Close has
				// set it too, done is closed, and that comes first.
				<-interrupted
				_, _ = unix.Read(c.wake, make([]byte, 8))
			}
		}()
	}
	fds := [...]unix.PollFd{
		{Fd: int32(c.fd), Events: unix.POLLIN},
		{Fd: int32(c.wake), Events: unix.POLLIN},
	}
	if _, err := unix.Ppoll(fds[:], nil, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return failed("ppoll", err)
	}
	return nil
}

// interrupt ends the wait of the goroutine that has the turn.
func (c *Conn) interrupt() {
	_, _ = unix.Write(c.wake, binary.NativeEndian.AppendUint64(nil, 1))
}

// recvfrom takes a message off the queue into c.buf and its sender into
// c.from. n is the message's length, also when it exceeds that of c.buf.
//
// [unix.Recvfrom] would allocate the address, and hide the length. The call
// cannot block, so the scheduler need not be told.
func (c *Conn) recvfrom() (n int, errno unix.Errno) {
	size := uint32(unsafe.Sizeof(c.from))
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(c.buf))), uintptr(len(c.buf)),
		unix.MSG_DONTWAIT|unix.MSG_TRUNC,
		uintptr(unsafe.Pointer(&c.from)), uintptr(unsafe.Pointer(&size)))
	return int(r), errno
}

// lost returns the kernel's count of messages dropped for this socket.
func (c *Conn) lost() uint64 {
	const drops = 8 // SK_MEMINFO_DROPS in linux/sock_diag.h
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	// It cannot fail: the socket is open, and Linux 4.12 has the option.
	_, _, _ = unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(c.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return uint64(info[drops])
}
