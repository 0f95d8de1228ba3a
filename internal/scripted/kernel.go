// Package scripted is a machine without a kernel, for tests: CPUs that go
// offline and online, send uevents and log, as a script says.
package scripted

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// Kernel is the machine. It has the methods of cpuhp.FS and of uevent.Conn that
// the suite uses.
type Kernel struct {
	// Log is what it logs, as /dev/kmsg has it.
	Log *kmsg.Log

	mu                 sync.Mutex
	present            affinity.CPUSet
	fixed              affinity.CPUSet // that cannot go offline
	online             affinity.CPUSet
	isolated, nohzFull affinity.CPUSet
	states             map[int]int // hotplug states that are neither of an online nor of an offline CPU
	armed              map[int]int // hotplug states at which an operation fails
	rules              map[string][]rule
	smt                string
	seqnum             int
	queue              []string // uevents, "online cpu3 17"
	kmsg               *os.File
	over               chan struct{} // closed at the end of the test
}

// LastState is the hotplug state of a CPU that is online. FailingState can be
// made to fail, IdleState can too, but nothing is done there.
const (
	LastState    = 236
	FailingState = 143
	IdleState    = 87
)

// New returns a kernel that does what script says, line by line, and is right
// otherwise:
//
//	cpus 0-3                       the CPUs, all online
//	online 0-2                     those of them that are online
//	fixed 0                        those of them that cannot go offline
//	isolated 2-3                   those of isolcpus=
//	nohz_full 1-3                  those of nohz_full=
//	offline cpu1: ENOSPC           this operation fails so, and changes nothing
//	offline cpu1: log TEXT; EBUSY  it logs that before
//
// What can be said of an operation is described at [rule].
func New(t testing.TB, script string) *Kernel {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kmsg")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	log, err := kmsg.Open(path, kmsg.FromEnd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	k := &Kernel{
		Log: log, kmsg: file, states: make(map[int]int), armed: make(map[int]int), rules: make(map[string][]rule), smt: "on",
		over: make(chan struct{}),
	}
	t.Cleanup(func() { close(k.over) })
	if err := k.parse(script); err != nil {
		t.Fatalf("script: %v", err)
	}
	return k
}

// Say logs lines as the kernel does.
func (k *Kernel) Say(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(k.kmsg, "4,1,1000000,-;%s\n", strings.TrimSuffix(line, "\n"))
	}
}

// send queues a uevent.
func (k *Kernel) send(action string, cpu int) {
	k.seqnum++
	k.queue = append(k.queue, fmt.Sprintf("%s cpu%d %d", action, cpu, k.seqnum))
}

// TryReceiveInto takes a uevent that is queued.
func (k *Kernel) TryReceiveInto(ev *uevent.Event) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		return false, nil
	}
	next := k.queue[0]
	k.queue = k.queue[1:]
	return true, Event(ev, next)
}

// Event makes ev the uevent of a CPU or another device: "online cpu3 17" or
// "add lo 18", where the number is its SEQNUM. More properties may follow:
// "change cpu3 19 SYNTH_UUID=0".
func Event(ev *uevent.Event, text string) error {
	var action, device string
	var seqnum int
	if _, err := fmt.Sscan(text, &action, &device, &seqnum); err != nil {
		return err
	}
	subsystem, path := "cpu", "/devices/system/cpu/"+device
	if !strings.HasPrefix(device, "cpu") {
		subsystem, path = "net", "/devices/virtual/net/"+device
	}
	msg := fmt.Appendf(nil, "%s@%s\x00ACTION=%[1]s\x00DEVPATH=%[2]s\x00SUBSYSTEM=%[3]s\x00SEQNUM=%[4]d\x00",
		action, path, subsystem, seqnum)
	for _, property := range strings.Fields(text)[3:] {
		msg = append(append(msg, property...), 0)
	}
	return ev.UnmarshalBinary(msg)
}

// SetOnline takes a CPU online or offline.
func (k *Kernel) SetOnline(cpu int, online bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.online.Has(cpu) == online {
		return nil
	}
	op, next := "offline", k.online.Without(cpu)
	if online {
		op, next = "online", k.online.With(cpu)
	}
	err := k.operate(op, cpu, next)
	if err != nil {
		value := map[bool]string{false: "0", true: "1"}[online]
		return &cpuhp.Error{Package: "cpuhp", Op: "write", Path: fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", cpu), Value: value, Err: err}
	}
	return nil
}

// operate brings the CPUs to the online mask next.
func (k *Kernel) operate(op string, cpu int, next affinity.CPUSet) error {
	r := k.rule(op, cpu)
	if r.log != "" {
		k.Say(r.log)
	}
	if r.hang {
		k.mu.Unlock()
		<-k.over
		k.mu.Lock()
	}
	k.sleep(r.takes)
	for _, action := range r.uevents {
		k.send(action, cpu)
	}
	if r.half != 0 {
		k.states[cpu] = r.half
	}
	if r.anyway {
		k.online = next
	}
	switch {
	case r.errno != 0:
		return r.errno
	case next.Empty():
		return unix.EBUSY
	case k.armed[cpu] == FailingState:
		delete(k.armed, cpu)
		return unix.EAGAIN
	}
	if !r.nothing {
		k.online = next
		delete(k.states, cpu)
	}
	if !r.silent {
		k.send(op, cpu)
	}
	k.sleep(r.returns)
	return nil
}

// sleep lets others in meanwhile.
func (k *Kernel) sleep(d time.Duration) {
	if d > 0 {
		k.mu.Unlock()
		time.Sleep(d)
		k.mu.Lock()
	}
}

func (k *Kernel) get(f func() affinity.CPUSet) (affinity.CPUSet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return f(), nil
}

// Online returns what the online mask says.
func (k *Kernel) Online() (affinity.CPUSet, error) {
	return k.get(func() affinity.CPUSet { return k.online })
}

// Offline returns the CPUs that are not online.
func (k *Kernel) Offline() (affinity.CPUSet, error) {
	return k.get(func() affinity.CPUSet { return k.present.Difference(k.online) })
}

// Present returns the CPUs of the script.
func (k *Kernel) Present() (affinity.CPUSet, error) { return k.present, nil }

// Possible returns the same CPUs.
func (k *Kernel) Possible() (affinity.CPUSet, error) { return k.present, nil }

// Isolated returns those of the script.
func (k *Kernel) Isolated() (affinity.CPUSet, error) { return k.isolated, nil }

// NohzFull returns those of the script.
func (k *Kernel) NohzFull() (affinity.CPUSet, error) { return k.nohzFull, nil }

// Hotpluggable returns all CPUs but the fixed ones.
func (k *Kernel) Hotpluggable() (affinity.CPUSet, map[int]string, error) {
	why := make(map[int]string)
	for cpu := range k.fixed.All() {
		why[cpu] = "it is fixed"
	}
	return k.present.Difference(k.fixed), why, nil
}

// IsOnline returns what cpuN/online says.
func (k *Kernel) IsOnline(cpu int) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.online.Has(cpu), nil
}

// State returns the CPU's hotplug state and target.
func (k *Kernel) State(cpu int) (state, target int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state, ok := k.states[cpu]; ok {
		return state, 0, nil
	}
	if k.online.Has(cpu) {
		return LastState, LastState, nil
	}
	return 0, 0, nil
}

// States returns some hotplug states.
func (k *Kernel) States() ([]cpuhp.State, error) {
	return []cpuhp.State{
		{ID: 0, Name: "offline"}, {ID: IdleState, Name: "idle/state"}, {ID: FailingState, Name: "sched:active"},
		{ID: LastState, Name: "online"},
	}, nil
}

// SetFail arms a failure, and disarms it with -1.
func (k *Kernel) SetFail(cpu, state int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state == 0 || state == LastState {
		return unix.EINVAL
	}
	k.armed[cpu] = state
	return nil
}

// ThreadSiblings fails: there is no topology.
func (k *Kernel) ThreadSiblings(int) (affinity.CPUSet, error) {
	return affinity.CPUSet{}, fs.ErrNotExist
}

// Node fails: there is no NUMA.
func (k *Kernel) Node(int) (int, error) { return 0, fs.ErrNotExist }

// SMT returns what was last set.
func (k *Kernel) SMT() (control string, active bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.smt, false, nil
}

// SetSMT sets it, and changes no CPU.
func (k *Kernel) SetSMT(control string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.smt = control
	return nil
}
