package uevent_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/uevent"
)

func TestMain(m *testing.M) {
	if os.Getenv(forgeEnv) != "" {
		os.Exit(forge())
	}
	os.Exit(machine.Main(m.Run))
}

// The tests in this file need the machine for themselves: root, sysfs on /sys,
// and a second CPU that can be taken offline.

const uuid = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed"

// synthesise makes the kernel send n synthetic uevents of cpu0, which carry
// uuid and SYNTH_ARG_N, counting from 0.
// See Documentation/ABI/testing/sysfs-uevent.
func synthesise(t *testing.T, n int) {
	t.Helper()
	fd, err := unix.Open("/sys/devices/system/cpu/cpu0/uevent", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Close(fd)) }()
	for i := range n {
		_, err := unix.Write(fd, fmt.Appendf(nil, "change %s N=%d", uuid, i))
		require.NoError(t, err)
	}
}

// synthesised returns the SYNTH_ARG_N of the queued synthetic uevents.
func synthesised(t *testing.T, c *uevent.Conn) (args []string, errs []error) {
	t.Helper()
	var ev uevent.Event
	for {
		ok, err := c.TryReceiveInto(&ev)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !ok {
			return args, errs
		}
		if got, _ := ev.Lookup("SYNTH_UUID"); got != uuid {
			continue
		}
		assert.Equal(t, "change", ev.Action())
		cpu, ok := ev.CPU()
		assert.True(t, ok && cpu == 0, ev.String())
		arg, _ := ev.Lookup("SYNTH_ARG_N")
		args = append(args, arg)
	}
}

func TestKernelSynthetic(t *testing.T) {
	machine.Claim(t)
	c := open(t)
	synthesise(t, 3)
	args, errs := synthesised(t, c)
	assert.Empty(t, errs)
	assert.Equal(t, []string{"0", "1", "2"}, args)
}

func TestKernelStorm(t *testing.T) {
	machine.Claim(t)
	t.Run("default buffer", func(t *testing.T) {
		const storm = 5_000
		c := open(t)
		synthesise(t, storm)
		args, errs := synthesised(t, c)
		assert.Empty(t, errs)
		assert.Len(t, args, storm)
		assert.Zero(t, c.Stats().Lost)
	})
	t.Run("small buffer", func(t *testing.T) {
		const storm = 5_000
		c, err := uevent.Open(&uevent.Options{Buffer: 64 << 10})
		require.NoError(t, err)
		defer func() { assert.NoError(t, c.Close()) }()
		synthesise(t, storm)
		args, errs := synthesised(t, c)
		require.Len(t, errs, 1)
		assert.ErrorIs(t, errs[0], uevent.ErrOverrun)
		assert.NotEmpty(t, args)
		s := c.Stats()
		assert.GreaterOrEqual(t, s.Received+s.Lost, uint64(storm), "a loss went unnoticed")

		synthesise(t, 1)
		args, errs = synthesised(t, c)
		assert.Empty(t, errs)
		assert.Equal(t, []string{"0"}, args, "the Conn survives")
	})
}

func TestKernelForeign(t *testing.T) {
	machine.Claim(t)
	c := open(t)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Close(fd)) }()
	forged := message("change@/devices/system/cpu/cpu0\nACTION=change\nDEVPATH=/devices/system/cpu/cpu0\nSUBSYSTEM=cpu\n" +
		"SYNTH_UUID=" + uuid + "\nSYNTH_ARG_N=forged\nSEQNUM=1\n")
	require.NoError(t, unix.Sendto(fd, forged, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}))

	synthesise(t, 1)
	args, errs := synthesised(t, c)
	assert.Empty(t, errs)
	assert.Equal(t, []string{"0"}, args)
	assert.EqualValues(t, 1, c.Stats().Foreign)
}

// A CPU that goes offline and online again sends one uevent each time, which
// is queued when the write has returned.
func TestKernelHotplug(t *testing.T) {
	machine.Claim(t)
	sys, err := cpuhp.New("/")
	require.NoError(t, err)
	cpus, _, err := sys.Hotpluggable()
	require.NoError(t, err)
	online, err := sys.Online()
	require.NoError(t, err)
	victim, ok := cpus.Intersect(online).Last()
	require.True(t, ok && online.Count() > 1, "no CPU to spare among %s", online)
	t.Cleanup(func() { assert.NoError(t, sys.SetOnline(victim, true)) })

	c := open(t)
	var last uint64
	for _, tt := range []struct {
		online bool
		action string
	}{{false, "offline"}, {true, "online"}} {
		require.NoError(t, sys.SetOnline(victim, tt.online))
		var actions []string
		var ev uevent.Event
		for {
			ok, err := c.TryReceiveInto(&ev)
			require.NoError(t, err)
			if !ok {
				break
			}
			if cpu, ok := ev.CPU(); ok && cpu == victim {
				actions = append(actions, ev.Action())
				assert.Greater(t, ev.Seqnum(), last)
				last = ev.Seqnum()
			}
		}
		assert.Equal(t, []string{tt.action}, actions)
	}
}
