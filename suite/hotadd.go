package suite

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// udevLimit is how long a udev rule may take to bring a CPU online that was
// added.
const udevLimit = time.Second

// addFirst has the machine get the CPU that tests use.
func (m *Machine) addFirst() error {
	cpu, err := m.AddCPU()
	if err != nil {
		return err
	}
	m.Added = affinity.Of(cpu)
	_, err = awaitCPU("online", udevLimit, func(c int) bool { return c == cpu }, func(context.Context) error {
		online, err := m.CPUs.IsOnline(cpu)
		m.AddedGoesOnline = online
		return err
	})
	switch {
	case err == nil:
		m.AddedGoesOnline = true
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return m.Ensure(cpu, Online)
}

// removeAdded undoes addFirst. If a test has failed in between, there may be
// nothing to remove.
func (m *Machine) removeAdded() error {
	present, err := m.CPUs.Present()
	for cpu := range m.Added.Intersect(present).All() {
		err = errors.Join(err, m.RemoveCPU(cpu))
	}
	return err
}

// AddCPU runs the command of [Options.HotAdd] and returns the CPU that the
// machine has got, when that has sent its uevent "add". It is offline, unless
// somebody else brings it online.
func (m *Machine) AddCPU() (cpu int, err error) {
	defer m.progress.Add(1)
	before, err := m.CPUs.Present()
	if err != nil {
		return 0, err
	}
	arrived, err := machine.Adding()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, arrived()) }()
	return m.askForCPU(before)
}

// askForCPU runs the command and waits for a CPU that was not present before.
func (m *Machine) askForCPU(before affinity.CPUSet) (cpu int, err error) {
	isNew := func(cpu int) bool { return !before.Has(cpu) }
	cpu, err = awaitCPU("add", OpTimeout, isNew, func(ctx context.Context) error {
		words := strings.Fields(m.Options.HotAdd)
		if len(words) == 0 {
			return errors.New("no command")
		}
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		// What it leaves running, such as a connection that ssh shares, may keep
		// its output open.
		cmd.WaitDelay = time.Second
		said, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrWaitDelay) {
			return nil
		}
		if text := strings.TrimSpace(string(said)); err != nil && text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("-hot-add %q: %w", m.Options.HotAdd, err)
	}
	return cpu, err
}

// RemoveCPU has the machine lose a CPU that it got by [Machine.AddCPU]. When it
// returns, the CPU has sent its uevent "remove", and is not present any more,
// which it is for a moment after that.
func (m *Machine) RemoveCPU(cpu int) error {
	defer m.progress.Add(1)
	if !m.Added.Has(cpu) {
		return fmt.Errorf("cpu%d was not added by this run", cpu)
	}
	cpus, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	_, err = awaitCPU("remove", OpTimeout, func(c int) bool { return c == cpu }, func(context.Context) error { return cpus.Eject(cpu) })
	if err != nil {
		return fmt.Errorf("ejecting cpu%d: %w", cpu, err)
	}
	gone := WaitAsleep(TaskTimeout, func() bool {
		var present affinity.CPUSet
		present, err = cpus.Present()
		return err != nil || !present.Has(cpu)
	})
	if err == nil && !gone {
		err = fmt.Errorf("cpu%d is still present %v after its uevent \"remove\"", cpu, TaskTimeout)
	}
	return err
}

// awaitCPU does something, and returns the first of some CPUs that sends a
// uevent with the action after that. The error is [context.DeadlineExceeded]
// with the rest of the sentence if none does within the limit.
func awaitCPU(action string, limit time.Duration, of func(cpu int) bool, do func(context.Context) error) (cpu int, err error) {
	events, err := uevent.Open(nil)
	if err != nil {
		return 0, err
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := do(ctx); err != nil {
		return 0, err
	}
	for {
		ev, err := events.Receive(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, fmt.Errorf("no CPU has sent a uevent %q within %v: %w", action, limit, err)
		}
		if err != nil && !errors.Is(err, uevent.ErrOverrun) {
			return 0, err
		}
		if cpu, ok := ev.CPU(); ok && ev.Action() == action && of(cpu) {
			return cpu, nil
		}
	}
}
