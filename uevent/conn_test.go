package uevent_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// patience is how long a test waits for what is to happen at once.
const patience = time.Minute

// A network is a network namespace of the test's own. Who has CAP_SYS_ADMIN
// there may ask its kernel side for a uevent, which then is one of the
// kernel's in every way, but reaches that namespace only.
type network struct {
	*uevent.Conn
	tb   testing.TB
	user int // a socket whose messages are not the kernel's
}

// newNetwork returns a fresh network namespace with a Conn in it.
func newNetwork(tb testing.TB, opts *uevent.Options) *network {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root, for a network namespace")
	}
	n := &network{tb: tb}
	var err error
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		// Never unlocked: the thread ends, and its namespace with the sockets.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if n.user, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT); err != nil {
			return
		}
		if err = unix.Bind(n.user, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return
		}
		n.Conn, err = uevent.Open(opts)
	}()
	<-ready
	require.NoError(tb, err)
	tb.Cleanup(func() {
		assert.NoError(tb, n.Close())
		assert.NoError(tb, unix.Close(n.user))
	})
	return n
}

// kernelSends makes the kernel send a uevent of the given text, to which it
// adds SEQNUM.
func (n *network) kernelSends(text string) {
	n.tb.Helper()
	require.NoError(n.tb, unix.Sendto(n.user, request(message(text)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// request is what asks the kernel to send a uevent.
func request(payload []byte) []byte {
	// struct nlmsghdr; the type is any that is not a control message.
	msg := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(payload)))
	msg = binary.NativeEndian.AppendUint16(msg, unix.NLMSG_MIN_TYPE)
	msg = binary.NativeEndian.AppendUint16(msg, unix.NLM_F_REQUEST)
	return append(append(msg, make([]byte, 8)...), payload...)
}

// change makes the kernel send a uevent with NUMBER=number.
func (n *network) change(number int) {
	n.tb.Helper()
	n.kernelSends(fmt.Sprintf("change@/test\nACTION=change\nDEVPATH=/test\nSUBSYSTEM=test\nNUMBER=%d\n", number))
}

// forge sends a message that another process made up.
func (n *network) forge(to unix.SockaddrNetlink) {
	n.tb.Helper()
	to.Family = unix.AF_NETLINK
	require.NoError(n.tb, unix.Sendto(n.user, fixture(n.tb, "cpu-online.uevent"), 0, &to))
}

// number returns the NUMBER of an event that change caused. ok is false for
// one that the machine had of itself.
func number(tb testing.TB, ev *uevent.Event) (number int, ok bool) {
	tb.Helper()
	if ev.Subsystem() != "test" {
		return 0, false
	}
	value, _ := ev.Lookup("NUMBER")
	number, err := strconv.Atoi(value)
	require.NoError(tb, err)
	return number, true
}

// drain returns the NUMBERs of the queued events, and their errors.
func (n *network) drain() (numbers []int, errs []error) {
	n.tb.Helper()
	var ev uevent.Event
	for {
		ok, err := n.TryReceiveInto(&ev)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			return numbers, errs
		default:
			if number, ok := number(n.tb, &ev); ok {
				numbers = append(numbers, number)
			}
		}
	}
}

func TestReceive(t *testing.T) {
	n := newNetwork(t, nil)
	n.change(0)
	n.change(1)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last uint64
	for want, receive := range []func(*uevent.Event) error{
		func(ev *uevent.Event) (err error) { *ev, err = n.Receive(ctx); return err },
		func(ev *uevent.Event) error { return n.ReceiveInto(ctx, ev) },
	} {
		var ev uevent.Event
		for own := false; !own; _, own = number(t, &ev) {
			require.NoError(t, receive(&ev))
		}
		got, _ := number(t, &ev)
		assert.Equal(t, want, got)
		assert.Greater(t, ev.Seqnum(), last)
		last = ev.Seqnum()
	}
}

// A receiver that waits already gets the event.
func TestReceiveWaits(t *testing.T) {
	n := newNetwork(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for want := range 100 {
		received := make(chan uevent.Event)
		go func() {
			defer close(received)
			for {
				ev, err := n.Receive(ctx)
				if !assert.NoError(t, err) {
					return
				}
				if _, ok := number(t, &ev); ok {
					received <- ev
					return
				}
			}
		}()
		waitUntil(t, n.Waiting)
		n.change(want)
		ev := <-received
		got, _ := number(t, &ev)
		require.Equal(t, want, got)
	}
}

// waitUntil returns when f is true.
func waitUntil(tb testing.TB, f func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !f(); runtime.Gosched() {
		require.True(tb, time.Now().Before(deadline), "not within %v", patience)
	}
}

func TestTryReceiveInto(t *testing.T) {
	n := newNetwork(t, nil)
	numbers, errs := n.drain()
	assert.Empty(t, numbers)
	assert.Empty(t, errs)
	for i := range 5 {
		n.change(i)
		numbers, errs = n.drain()
		require.Equal(t, []int{i}, numbers, "the event is queued when the call that caused it returns")
		assert.Empty(t, errs)
	}
}

// Only the kernel is believed, not even root.
func TestReceiveForeign(t *testing.T) {
	n := newNetwork(t, nil)
	port, err := n.PortID()
	require.NoError(t, err)

	n.forge(unix.SockaddrNetlink{Pid: port})
	n.forge(unix.SockaddrNetlink{Groups: 1})
	n.forge(unix.SockaddrNetlink{Groups: 2}) // as udevd: not subscribed to
	n.change(1)
	n.forge(unix.SockaddrNetlink{Pid: port, Groups: 1})

	var ev uevent.Event
	for {
		ok, err := n.TryReceiveInto(&ev)
		require.NoError(t, err)
		if !ok {
			break
		}
		_, isCPU := ev.CPU()
		assert.False(t, isCPU, "believed a forged %s", &ev)
	}
	s := n.Stats()
	assert.EqualValues(t, 3, s.Foreign)
	assert.NotZero(t, s.Received)
}

// A receiver that is too slow is told so once, is told how much it lost, and
// goes on.
func TestReceiveOverrun(t *testing.T) {
	n := newNetwork(t, &uevent.Options{Buffer: 4096})
	for round := 1; round <= 3; round++ {
		before := n.Stats()
		const sent = 100
		for i := range sent {
			n.change(i)
		}
		numbers, errs := n.drain()
		require.Len(t, errs, 1)
		assert.ErrorIs(t, errs[0], uevent.ErrOverrun)

		s := n.Stats()
		assert.EqualValues(t, round, s.Overruns)
		assert.EqualValues(t, sent, s.Received-before.Received+s.Lost-before.Lost, "received and lost")
		assert.ErrorContains(t, errs[0], fmt.Sprintf(": %d messages lost so far", s.Lost))
		for i, number := range numbers {
			assert.Equal(t, i, number, "those queued before the overrun are still there")
		}

		n.change(4711)
		numbers, errs = n.drain()
		assert.Equal(t, []int{4711}, numbers, "the Conn survives")
		assert.Empty(t, errs)
	}
	last := n.Stats()
	require.NoError(t, n.Close())
	assert.Equal(t, last, n.Stats(), "after Close")
}

// The default buffer holds a storm.
func TestReceiveStorm(t *testing.T) {
	n := newNetwork(t, nil)
	const sent = 20_000
	for i := range sent {
		n.change(i)
	}
	numbers, errs := n.drain()
	assert.Empty(t, errs)
	assert.Len(t, numbers, sent)
	assert.Zero(t, n.Stats().Lost)
}

func TestReceiveMalformed(t *testing.T) {
	n := newNetwork(t, nil)
	n.kernelSends("not a uevent\n")
	n.change(1)
	numbers, errs := n.drain()
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], uevent.ErrMalformed)
	assert.Equal(t, []int{1}, numbers)
}

func TestReceiveTruncated(t *testing.T) {
	n := newNetwork(t, nil)
	n.SetMaxMessage(200)
	n.kernelSends("change@/test\nACTION=change\nDEVPATH=/test\nSUBSYSTEM=test\nNUMBER=" + strings.Repeat("1", 200) + "\n")
	n.change(2)
	numbers, errs := n.drain()
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], uevent.ErrTruncated)
	assert.ErrorContains(t, errs[0], "and room for 200")
	assert.Equal(t, []int{2}, numbers)
}

// open returns a Conn in the namespace of the test process.
func open(tb testing.TB) *uevent.Conn {
	tb.Helper()
	c, err := uevent.Open(nil)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, c.Close()) })
	return c
}

// Each event goes to one of the receivers, whatever others' contexts do.
func TestReceiveConcurrent(t *testing.T) {
	n := newNetwork(t, nil)
	const receivers, sent = 4, 2000
	var mu sync.Mutex
	got := map[int]int{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for range receivers {
		wg.Go(func() {
			for {
				once, cancelOnce := context.WithTimeout(ctx, 100*time.Microsecond)
				ev, err := n.Receive(once)
				cancelOnce()
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					continue
				}
				number, ok := number(t, &ev)
				if !ok {
					continue
				}
				mu.Lock()
				got[number]++
				if len(got) == sent {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for i := range sent {
		n.change(i)
	}
	wg.Wait()
	assert.Len(t, got, sent)
	for number, times := range got {
		assert.Equal(t, 1, times, "event %d", number)
	}
	assertNotInterrupted(t, n.Conn)
}
