package explore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// ErrCannot is wrapped by the error of [Ready] if the machine lacks what the
// explorer is about: CPU hotplug or cpusets.
var ErrCannot = errors.New("this kernel cannot be explored")

// Ready gets the running machine ready to be explored: its cpuset hierarchy and
// its log. prefix begins the name of each cgroup that is made, and cpus are
// those that may be used; empty: all. The tables are those that it is explored
// by. What it returns undoes that.
//
// The machine must be guarded by the caller: see package machine.
func Ready(prefix string, cpus affinity.CPUSet, tables Tables) (_ *Runner, done func() error, err error) {
	h, err := cpuset.New("/")
	if errors.Is(err, cpuset.ErrNotFound) {
		return nil, nil, fmt.Errorf("%w: it has no cpusets: %w", ErrCannot, err)
	}
	if err != nil {
		return nil, nil, err
	}
	// The rest of v1 is explored as v2 is.
	if h.V2Mode() || h.FileName("cpus") != "cpuset.cpus" {
		return nil, nil, fmt.Errorf("%w: its cpusets are of cgroup v1 and mounted with cpuset_v2_mode or noprefix, and no law is about those", ErrCannot)
	}
	t := NewTarget("/", h.Mount(), prefix)
	f, err := FindFacts(t, cpus)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: it has no CPUs in sysfs: %w", ErrCannot, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if f.Pluggable.Empty() {
		return nil, nil, fmt.Errorf("%w: no CPU can go offline", ErrCannot)
	}
	f.findIRQs(t, tables.Actions)
	restore, err := h.EnableController()
	if err != nil {
		return nil, nil, err
	}
	log, err := kmsg.Open("/dev/kmsg", kmsg.FromEnd)
	if err != nil {
		return nil, nil, errors.Join(err, restore())
	}
	o, err := NewObserver(t, log)
	if err != nil {
		return nil, nil, errors.Join(err, log.Close(), restore())
	}
	conn, err := uevent.Open(nil)
	if err != nil {
		o.Close()
		return nil, nil, errors.Join(err, log.Close(), restore())
	}
	o.Listen(conn)
	done = func() error {
		o.Close()
		t.Close()
		return errors.Join(conn.Close(), log.Close(), restore())
	}
	return NewRunner(t, o, tables.Laws, f), done, nil
}
