package suite

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// Source is where uevents come from: a [*uevent.Conn].
type Source interface {
	TryReceiveInto(ev *uevent.Event) (bool, error)
}

// Events is what the CPUs have sent in a cycle. Several threads may receive at
// once: what one has taken from the queue is there for all.
type Events struct {
	source Source
	// changes says that the kernel sends "change" for each online CPU, with no
	// lock of the device, whenever scheduling domains are made anew, and so in
	// each operation: arch_update_cpu_topology() of s390, also in v6.12.
	changes bool

	mu     sync.Mutex
	ev     uevent.Event       // to receive into
	seqnum map[int]uint64     // of the last uevent of each CPU
	sent   map[int][]cpuEvent // since the cycle began
	stale  map[int]error      // events out of order since then
}

// cpuEvent is what matters of a uevent of a CPU's.
type cpuEvent struct {
	action string
	seqnum uint64
}

// NewEvents returns the events that come from source.
func NewEvents(source Source) *Events {
	return &Events{source: source, changes: runtime.GOARCH == "s390x", seqnum: make(map[int]uint64), sent: make(map[int][]cpuEvent), stale: make(map[int]error)}
}

// Await spins until the CPU has sent a uevent with the action, and returns the
// time at which it was received. If the operation returns before that, the time
// is zero: returned must be set when it has. The error is that of the source.
//
// It does not sleep: a thread that has to be woken comes late, and what it is
// to see may be over.
func (e *Events) Await(cpu int, action string, returned *atomic.Bool) (time.Time, error) {
	for {
		// Everything that the kernel sends during the operation is in the
		// socket's queue when that has returned.
		over := returned.Load()
		queued, err := e.receive()
		if err != nil {
			return time.Time{}, err
		}
		if e.has(cpu, action) {
			return time.Now(), nil
		}
		if !queued && over {
			return time.Time{}, nil
		}
	}
}

// Drain receives what is queued.
func (e *Events) Drain() error {
	for {
		if queued, err := e.receive(); err != nil || !queued {
			return err
		}
	}
}

// Forget begins a new cycle: it drains the queue, and forgets what was sent.
func (e *Events) Forget() error {
	err := e.Drain()
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.sent)
	clear(e.stale)
	return err
}

// Check drains the queue, and tells how what the CPU sent in this cycle differs
// from one uevent with the action, or from none if action is "".
func (e *Events) Check(cpu int, action string) error {
	if action == "" {
		return e.CheckAll(cpu)
	}
	return e.CheckAll(cpu, action)
}

// CheckAll is [Events.Check] for any number of uevents, in order.
func (e *Events) CheckAll(cpu int, actions ...string) error {
	if err := e.Drain(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.stale[cpu]; err != nil {
		return err
	}
	return judgeEvents(cpu, actions, e.sent[cpu])
}

// receive notes a uevent that is queued, if one is.
func (e *Events) receive() (queued bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	queued, err = e.source.TryReceiveInto(&e.ev)
	if queued {
		e.note()
	}
	return queued, err
}

// note keeps what matters of a uevent. Only those of one device come in the
// order of their SEQNUM: since 5c0941c55e5f (v6.9) the kernel takes the number
// before it takes the lock to send. A synthetic one is nothing that happened to
// the CPU: anybody asks for it at any time, as udevadm trigger does, and with
// no lock of the device, so its SEQNUM says nothing about the others either.
func (e *Events) note() {
	cpu, ok := e.ev.CPU()
	if _, synthetic := e.ev.Lookup("SYNTH_UUID"); !ok || synthetic || e.changes && e.ev.Action() == "change" {
		return
	}
	if last := e.seqnum[cpu]; e.ev.Seqnum() <= last {
		e.stale[cpu] = fmt.Errorf("cpu%d sent a uevent with SEQNUM %d after one with %d", cpu, e.ev.Seqnum(), last)
	}
	e.seqnum[cpu] = e.ev.Seqnum()
	e.sent[cpu] = append(e.sent[cpu], cpuEvent{e.ev.Action(), e.ev.Seqnum()})
}

// has reports whether a CPU has sent a uevent with the action in this cycle.
func (e *Events) has(cpu int, action string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.sent[cpu], func(ev cpuEvent) bool { return ev.action == action })
}

// judgeEvents tells how the events that a CPU sent differ from those that it
// should have sent.
func judgeEvents(cpu int, actions []string, sent []cpuEvent) error {
	if slices.EqualFunc(sent, actions, func(ev cpuEvent, action string) bool { return ev.action == action }) {
		return nil
	}
	want := "none"
	if len(actions) > 0 {
		want = "one " + strings.Join(actions, ", one ")
	}
	got := "no uevent"
	for i, ev := range sent {
		if text := fmt.Sprintf("%s (SEQNUM %d)", ev.action, ev.seqnum); i == 0 {
			got = text
		} else {
			got += ", " + text
		}
	}
	return fmt.Errorf("cpu%d sent %s, want %s", cpu, got, want)
}
