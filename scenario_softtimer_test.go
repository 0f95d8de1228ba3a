//go:build !selftest

package hotplugtest

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// TestCyclic has the test answer in place of the CAN broadcast manager.
func TestCyclic(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	defer unix.Close(pair[1])
	c := &cyclic{pair[0]}
	before := time.Now()
	due, err := c.startOn(firstCPU(t), 1500*time.Millisecond)
	require.NoError(t, err)
	assert.False(t, due.Before(before.Add(1500*time.Millisecond)))
	message := make([]byte, 128)
	n, err := unix.Read(pair[1], message)
	require.NoError(t, err)
	if unsafe.Sizeof(uintptr(0)) == 8 {
		assert.Equal(t, 56, n, "sizeof(struct bcm_msg_head)")
	}
	head := *(*cyclicHead)(unsafe.Pointer(&message[0]))
	assert.Equal(t, uint32(rxSetup), head.opcode)
	assert.Equal(t, uint32(setTimer|startTimer|filterID), head.flags)
	assert.Equal(t, struct{ sec, usec int }{1, 500000}, head.ival1)

	expired, err := c.expired()
	require.NoError(t, err)
	assert.False(t, expired, "nothing was answered")
	answer := func(opcode uint32) {
		message := make([]byte, cyclicSize)
		(*cyclicHead)(unsafe.Pointer(&message[0])).opcode = opcode
		_, err := unix.Write(pair[1], message)
		require.NoError(t, err)
	}
	answer(rxTimeout)
	late, err := c.late(time.Now())
	require.NoError(t, err)
	assert.Less(t, late, suite.TaskTimeout)
	answer(12) // RX_CHANGED
	_, err = c.late(time.Now())
	assert.True(t, suite.IsUnsupported(err), "%v", err)
	require.NoError(t, c.close())
	_, err = c.late(time.Now())
	assert.ErrorIs(t, err, unix.EBADF)
}
