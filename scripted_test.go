//go:build !selftest

package hotplugtest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// scripted is a machine without a kernel: CPUs that go offline and online, send
// their uevents and log what they are told to. What it is not told to do wrong,
// it does right.
type scripted struct {
	cpuhp.FS // what is not asked for here panics

	mu      sync.Mutex
	present affinity.CPUSet
	online  affinity.CPUSet
	state   map[int]int // where it is not that of its CPU's being online or offline
	seqnum  int
	queue   scriptedEvents
	kmsg    io.Writer

	// refuse is asked before each operation; its error is that of the operation.
	refuse func(cpu int, online bool) error
	// wrong is called when an operation was refused, to do what it must not do.
	wrong func(m *scripted)
}

const scriptedOnline = 236 // the last hotplug state

// newScripted returns a machine with CPUs 0 to 3, all online, and a suite on it.
func newScripted(t *testing.T) (*scripted, *Suite) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kmsg")
	file, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	log, err := kmsg.Open(path, kmsg.FromEnd)
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	all := affinity.Of(0, 1, 2, 3)
	m := &scripted{present: all, online: all, state: make(map[int]int), kmsg: file}
	s := &Suite{
		cpus: m, events: NewEvents(m), said: &kernelLog{log: log}, online: all, usable: all, targets: []int{0, 3},
		places: []*placement{{name: "root-cpuset", missing: "here"}, {name: "child-cpuset", missing: "here"}},
	}
	return m, s
}

// say logs a line as the kernel does.
func (m *scripted) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(m.kmsg, "4,1,1000000,-;%s\n", strings.TrimSuffix(line, "\n"))
	}
}

func (m *scripted) send(action string, cpu int) {
	m.seqnum++
	m.queue = append(m.queue, fmt.Sprintf("%s cpu%d %d", action, cpu, m.seqnum))
}

func (m *scripted) TryReceiveInto(ev *uevent.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue.TryReceiveInto(ev)
}

func (m *scripted) SetOnline(cpu int, online bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.online.Has(cpu) == online {
		return nil
	}
	op, next := "offline", m.online.Without(cpu)
	if online {
		op, next = "online", m.online.With(cpu)
	}
	fail := func(err error) error {
		if m.wrong != nil {
			m.wrong(m)
		}
		return &cpuhp.Error{Op: op, CPU: cpu, Err: err}
	}
	if m.refuse != nil {
		if err := m.refuse(cpu, online); err != nil {
			return fail(err)
		}
	}
	if next.Empty() {
		return fail(unix.EBUSY)
	}
	m.online = next
	m.send(op, cpu)
	return nil
}

func (m *scripted) get(f func() affinity.CPUSet) (affinity.CPUSet, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f(), nil
}

func (m *scripted) Online() (affinity.CPUSet, error) {
	return m.get(func() affinity.CPUSet { return m.online })
}

func (m *scripted) Offline() (affinity.CPUSet, error) {
	return m.get(func() affinity.CPUSet { return m.present.Difference(m.online) })
}

func (m *scripted) Present() (affinity.CPUSet, error)  { return m.present, nil }
func (m *scripted) Possible() (affinity.CPUSet, error) { return m.present, nil }
func (m *scripted) Isolated() (affinity.CPUSet, error) { return affinity.CPUSet{}, nil }
func (m *scripted) NohzFull() (affinity.CPUSet, error) { return affinity.CPUSet{}, nil }

func (m *scripted) Hotpluggable() (affinity.CPUSet, map[int]string, error) {
	return m.present, map[int]string{}, nil
}

func (m *scripted) IsOnline(cpu int) (bool, error) {
	online, err := m.Online()
	return online.Has(cpu), err
}

func (m *scripted) State(cpu int) (state, target int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state, ok := m.state[cpu]; ok {
		return state, 0, nil
	}
	if m.online.Has(cpu) {
		return scriptedOnline, scriptedOnline, nil
	}
	return 0, 0, nil
}
