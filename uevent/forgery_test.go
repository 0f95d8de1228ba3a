package uevent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// forgeEnv in the environment has the test binary forge uevents: its value is a
// forgery as JSON.
const forgeEnv = "UEVENT_TEST_FORGE"

// A forgery is a number of messages that are sent by a process other than the
// kernel.
type forgery struct {
	Count  int
	Port   uint32 // the socket that they are sent to; 0: none
	Groups uint32 // the multicast groups
	Ask    bool   // the kernel's end of the socket is asked to send them
}

// forged is how often the forger could send, and why it could not at other
// times.
type forged struct {
	Sent  int
	Errno unix.Errno
}

// forge is the process that sends. What became of it is on its standard output,
// as JSON.
func forge() int {
	var f forgery
	err := json.Unmarshal([]byte(os.Getenv(forgeEnv)), &f)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var result forged
	for i := range f.Count {
		text := fmt.Sprintf("offline@/devices/system/cpu/cpu0\nACTION=offline\nDEVPATH=/devices/system/cpu/cpu0\nSUBSYSTEM=cpu\nFORGED=%d\n", i)
		msg := message(text + fmt.Sprintf("SEQNUM=%d\n", uint64(1)<<32+uint64(i)))
		switch {
		case f.Ask:
			msg = request(message(text))
		case i%3 == 1:
			msg = msg[:len(msg)/2] // no uevent at all
		case i%3 == 2:
			msg = append(msg, bytes.Repeat([]byte("x"), 16<<10)...) // longer than any
		}
		err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: f.Port, Groups: f.Groups})
		if err == nil {
			result.Sent++
		} else if !errors.As(err, &result.Errno) {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// send has another process, in new namespaces as clone(2)'s flags say, send a
// forgery.
func (f forgery) send(t *testing.T, namespaces uintptr) (result forged) {
	t.Helper()
	order, err := json.Marshal(f)
	require.NoError(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), forgeEnv+"="+string(order))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if namespaces&unix.CLONE_NEWUSER != 0 {
		// Its root is nobody out here.
		nobody := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = nobody, nobody
		cmd.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
	}
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(said, &result), "%s", said)
	return result
}

// Ten thousand messages that are not the kernel's, from all who can send one:
// none is believed, or mistaken for a broken one of the kernel's, and all that
// arrive are counted.
func TestKernelForgeries(t *testing.T) {
	machine.Claim(t)
	const (
		userns = unix.CLONE_NEWUSER
		netns  = unix.CLONE_NEWNET
	)
	total := 0
	c := open(t)
	port, err := c.PortID()
	require.NoError(t, err)
	for _, tt := range []struct {
		name       string
		namespaces uintptr
		forgery    forgery
		arrive     bool
		errno      unix.Errno // 0: the kernel lets it be sent
	}{
		{"root's multicast", 0, forgery{Count: 2000, Groups: 1}, true, 0},
		{"root's unicast", 0, forgery{Count: 2000, Port: port}, true, 0},
		{"root's multicast on udev's group", 0, forgery{Count: 500, Groups: 2}, false, 0},
		{"another network's multicast", netns, forgery{Count: 1000, Groups: 1}, false, 0},
		{"another network's unicast", netns, forgery{Count: 500, Port: port}, false, unix.ECONNREFUSED},
		{"another network's kernel", netns, forgery{Count: 500, Ask: true}, false, 0},
		{"another user's multicast", userns, forgery{Count: 1000, Groups: 1}, false, unix.EPERM},
		{"another user's unicast", userns, forgery{Count: 1000, Port: port}, false, unix.EPERM},
		{"another user's multicast in a network of theirs", userns | netns, forgery{Count: 500, Groups: 1}, false, 0},
		{"another user's unicast in a network of theirs", userns | netns, forgery{Count: 500, Port: port}, false, unix.ECONNREFUSED},
		{"another user's kernel in a network of theirs", userns | netns, forgery{Count: 500, Ask: true}, false, 0},
	} {
		total += tt.forgery.Count
		t.Run(tt.name, func(t *testing.T) {
			before := c.Stats()
			synthesise(t, 1) // the kernel's own word, between the forged
			got := tt.forgery.send(t, tt.namespaces)
			synthesise(t, 1)

			assert.Equal(t, tt.errno, got.Errno, "%v", got.Errno)
			arrived, sent := 0, 0
			if tt.errno == 0 {
				sent = tt.forgery.Count
			}
			if tt.arrive {
				arrived = tt.forgery.Count
			}
			assert.Equal(t, sent, got.Sent, "sent")
			believed, genuine := 0, 0
			for {
				var ev uevent.Event
				queued, err := c.TryReceiveInto(&ev)
				require.NoError(t, err)
				if !queued {
					break
				}
				if _, forged := ev.Lookup("FORGED"); forged {
					believed++
				}
				if got, _ := ev.Lookup("SYNTH_UUID"); got == uuid {
					genuine++
				}
			}
			assert.Zero(t, believed, "forged events believed")
			assert.Equal(t, 2, genuine, "genuine events")
			after := c.Stats()
			assert.EqualValues(t, arrived, after.Foreign-before.Foreign, "counted")
			assert.Equal(t, before.Lost, after.Lost, "lost")
		})
	}
	assert.Equal(t, 10_000, total)
}
