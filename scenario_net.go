package hotplugtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// netScenarios are about packets.
var netScenarios = []Scenario{
	{
		Name:    "loopback",
		Promise: "datagrams over the loopback device arrive, all of them, though the CPU that receives them for others (RPS) comes and goes",
		Source:  "Documentation/networking/scaling.rst: Receive Packet Steering; net/core/dev.c: dev_cpu_dead()",
		Setup:   func(x *Scene) error { return makeNet(x, affinity.Of(x.Targets()...)) },
		Actors:  []Actor{datagrams},
	},
	{
		Name:    "paced-stream",
		Promise: "a TCP stream that is paced goes on, though the CPU on which its pacing timer is armed goes offline",
		Source:  `socket(7): SO_MAX_PACING_RATE; e895f8e29119 ("hrtimers: Unconditionally update target CPU base after offline timer migration", v6.17)`,
		Setup:   func(x *Scene) error { return makeNet(x, affinity.CPUSet{}) },
		Actors:  []Actor{pacedSender, pacedReceiver},
		Cycle:   streamGoesOn,
	},
}

// onTarget pins the calling thread to a CPU, if that is online.
func onTarget(cpu int) (on bool, err error) {
	err = affinity.Set(0, affinity.Of(cpu))
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

// waits are how often a task has begun to wait, and has gone on.
type waits struct{ begun, ended atomic.Uint64 }

// network is a network namespace with nothing but its loopback device. It ends
// with its sockets.
type network struct {
	udp    [][2]int // from, to: one for each CPU that comes and goes
	stream stream
}

// stream is a TCP connection. Its sender is on a CPU, and sleeps until what it
// has written before has left.
type stream struct {
	from, to int
	cpu      atomic.Int64 // of the sender; -1: it does not send
	writes   waits
}

// makeNet makes the network of a scene. The CPUs receive what others send; if
// there are none, the sender's CPU does.
func makeNet(x *Scene, receivers affinity.CPUSet) error {
	n := &network{}
	err := affinity.Thread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
			return suite.Unsupportedf("%v: no network namespace can be made", os.NewSyscallError("unshare", err))
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		if !receivers.Empty() {
			if err := steer(receivers); err != nil {
				return err
			}
		}
		return n.connect(x)
	})
	x.Data = n
	return err
}

// loopbackUp brings the loopback device of the thread's network up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return os.NewSyscallError("ioctl(SIOCSIFFLAGS)", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}

// steer has the CPUs receive what comes in at the loopback device of the
// thread's network. The directory of that network in sysfs is mounted where
// nobody but the thread sees it.
func steer(cpus affinity.CPUSet) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount(MS_PRIVATE)", err)
	}
	const sys = "/sys"
	if err := unix.Mount("sysfs", sys, "sysfs", 0, ""); err != nil {
		return os.NewSyscallError("mount(sysfs)", err)
	}
	file := filepath.Join(sys, "class/net/lo/queues/rx-0/rps_cpus")
	if !exists(file) {
		return suite.Unsupportedf("%s is not there: CONFIG_RPS", file)
	}
	err := os.WriteFile(file, []byte(cpus.Mask()), 0)
	if errors.Is(err, unix.EINVAL) {
		return suite.Unsupportedf("%s does not take CPUs %v: they are isolated", file, cpus)
	}
	return err
}

// connect makes the sockets.
func (n *network) connect(x *Scene) error {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(listener)
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(listener, local), unix.Listen(listener, 1)); err != nil {
		return os.NewSyscallError("bind, listen", err)
	}
	at, err := unix.Getsockname(listener)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	s := &n.stream
	s.cpu.Store(-1)
	if s.from, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	x.Cleanup(func() error { return unix.Close(s.from) })
	if err := unix.Connect(s.from, at); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if s.to, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		return os.NewSyscallError("accept4", err)
	}
	x.Cleanup(func() error { return unix.Close(s.to) })
	n.endStream(x)
	for range x.Targets() {
		pair, err := datagramPair(x, local)
		if err != nil {
			return err
		}
		n.udp = append(n.udp, pair)
	}
	return nil
}

// endStream wakes whoever sleeps in the stream when the scene ends.
func (n *network) endStream(x *Scene) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-x.Done()
		_ = unix.Shutdown(n.stream.from, unix.SHUT_RDWR)
		_ = unix.Shutdown(n.stream.to, unix.SHUT_RDWR)
	}()
	// Before the sockets are closed.
	x.Cleanup(func() error { <-done; return nil })
}

// datagramPair makes two sockets, of which the first sends to the second.
func datagramPair(x *Scene, local unix.Sockaddr) (pair [2]int, err error) {
	for i := range pair {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return pair, os.NewSyscallError("socket", err)
		}
		x.Cleanup(func() error { return unix.Close(fd) })
		if err := unix.Bind(fd, local); err != nil {
			return pair, os.NewSyscallError("bind", err)
		}
		pair[i] = fd
	}
	to, err := unix.Getsockname(pair[1])
	if err != nil {
		return pair, os.NewSyscallError("getsockname", err)
	}
	return pair, os.NewSyscallError("connect", unix.Connect(pair[0], to))
}

// inFlight is how many datagrams are sent before they are received. The
// receiver's buffer has room for many more.
const inFlight = 32

// datagrams sends datagrams, and receives them.
var datagrams = Actor{
	Name:  "datagrams",
	Count: func(x *Scene) int { return len(x.Targets()) },
	Begin: func(a *Act) (func() error, error) {
		udp := a.Scene.Data.(*network).udp[a.N]
		timeout := unix.NsecToTimeval(suite.TaskTimeout.Nanoseconds())
		if err := unix.SetsockoptTimeval(udp[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return nil, os.NewSyscallError("setsockopt(SO_RCVTIMEO)", err)
		}
		out, in := make([]byte, 16), make([]byte, 17)
		next := uint64(0)
		return func() error {
			seen := make(map[uint64]bool)
			for range inFlight {
				binary.NativeEndian.PutUint64(out, next)
				next++
				if _, err := unix.Write(udp[0], out); err != nil {
					return os.NewSyscallError("write", err)
				}
			}
			for n := range inFlight {
				got, err := read(udp[1], in)
				if errors.Is(err, unix.EAGAIN) {
					return fmt.Errorf("%d of %d datagrams have not arrived after %v, of those that end with number %d", inFlight-n, inFlight, suite.TaskTimeout, next-1)
				}
				if err != nil {
					return err
				}
				number := binary.NativeEndian.Uint64(in)
				if got != len(out) || !bytes.Equal(in[8:got], out[8:]) || number >= next || number < next-inFlight || seen[number] {
					return fmt.Errorf("a datagram of %d bytes with number %d has arrived, want one of the last %d before %d, once each", got, number, inFlight, next)
				}
				seen[number] = true
			}
			return nil
		}, a.Scene.Enter()
	},
}

// pacingRate is that of the stream, in bytes a second, and pacedWrite is what is
// written at once: it takes 8 ms to leave.
const (
	pacingRate = 1 << 20
	pacedWrite = 8 << 10
)

// pacedSender writes to the stream from the CPU whose turn it is. There is but
// one stream: the timer of another one, on the CPU to which the first one's is
// moved, has that expire as well. The socket's buffer is small, so the sender
// sleeps until the pacing timer has expired.
var pacedSender = Actor{
	Name: "paced sender",
	Begin: func(a *Act) (func() error, error) {
		s := &a.Scene.Data.(*network).stream
		err := errors.Join(unix.SetsockoptInt(s.from, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, pacingRate),
			unix.SetsockoptInt(s.from, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*pacedWrite))
		if err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
		buf := make([]byte, pacedWrite)
		return func() error {
			cpu := int(s.cpu.Load())
			on := false
			if cpu >= 0 {
				var err error
				if on, err = onTarget(cpu); err != nil {
					return err
				}
			}
			if !on {
				time.Sleep(time.Millisecond)
				return nil
			}
			s.writes.begun.Add(1)
			_, err := unix.Write(s.from, buf)
			s.writes.ended.Add(1)
			if err == unix.EINTR || err == unix.EPIPE && a.Scene.Over() {
				return nil
			}
			return os.NewSyscallError("write", err)
		}, a.Scene.Enter()
	},
}

// pacedReceiver reads the stream, on the sender's CPU: elsewhere it would arm
// the timer there.
var pacedReceiver = Actor{
	Name: "paced receiver",
	Begin: func(a *Act) (func() error, error) {
		s := &a.Scene.Data.(*network).stream
		buf := make([]byte, 64<<10)
		return func() error {
			if cpu := int(s.cpu.Load()); cpu >= 0 {
				if _, err := onTarget(cpu); err != nil {
					return err
				}
			}
			_, err := read(s.to, buf)
			return err
		}, a.Scene.Enter()
	},
}

// pacedFrom is how many writes the sender makes on a CPU before that goes: the
// kernel does not pace the first ten segments.
const pacedFrom = 12

// streamGoesOn takes the CPU of the sender offline, and waits for what it was
// writing to leave.
func streamGoesOn(x *Scene, cpu int) error {
	s := &x.Data.(*network).stream
	before := s.writes.ended.Load()
	s.cpu.Store(int64(cpu))
	if !suite.WaitFor(suite.TaskTimeout, func() bool { return s.writes.ended.Load() >= before+pacedFrom }) {
		return fmt.Errorf("the sender on cpu%d, which is online, has made %d writes of %d bytes in %v, at %d bytes a second",
			cpu, s.writes.ended.Load()-before, pacedWrite, suite.TaskTimeout, pacingRate)
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	offline, begun := time.Now(), s.writes.begun.Load()
	s.cpu.Store(-1)
	var err error
	if !suite.WaitFor(suite.TaskTimeout, func() bool { return s.writes.ended.Load() >= begun }) {
		err = fmt.Errorf("the stream stands still for %v since the CPU of its sender, cpu%d, has gone offline, at %d bytes a second", suite.TaskTimeout, cpu, pacingRate)
	}
	x.Note("stream-goes-on-after", time.Since(offline))
	return errors.Join(err, x.Set(cpu, Online))
}
