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

// addFirst has the machine get the CPU that tests use.
func (m *Machine) addFirst() error {
	cpu, err := m.AddCPU()
	if err != nil {
		return err
	}
	m.Added = affinity.Of(cpu)
	return m.Ensure(cpu, Online) // a udev rule may have done so
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
	arrived, err := machine.Adding()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, arrived()) }()
	return m.askForCPU()
}

// askForCPU runs the command and waits for the CPU.
func (m *Machine) askForCPU() (cpu int, err error) {
	return m.awaitCPU("add", fmt.Sprintf("-hot-add %q", m.Options.HotAdd), func(ctx context.Context) error {
		words := strings.Fields(m.Options.HotAdd)
		if len(words) == 0 {
			return errors.New("no command")
		}
		said, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		if text := strings.TrimSpace(string(said)); err != nil && text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return err
	})
}

// RemoveCPU has the machine lose a CPU that it got by [Machine.AddCPU]. The CPU
// has sent its uevent "remove" when it returns.
func (m *Machine) RemoveCPU(cpu int) error {
	if !m.Added.Has(cpu) {
		return fmt.Errorf("cpu%d was not added by this run", cpu)
	}
	cpus, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	_, err = m.awaitCPU("remove", fmt.Sprintf("ejecting cpu%d", cpu), func(context.Context) error { return cpus.Eject(cpu) })
	return err
}

// awaitCPU does something, and returns the first CPU that sends a uevent with
// the action after that.
func (m *Machine) awaitCPU(action, what string, do func(context.Context) error) (cpu int, err error) {
	defer m.progress.Add(1)
	events, err := uevent.Open(nil)
	if err != nil {
		return 0, err
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(context.Background(), OpTimeout)
	defer cancel()
	begin := time.Now()
	if err := do(ctx); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	for {
		ev, err := events.Receive(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, fmt.Errorf("%s: no CPU has sent a uevent %q within %v", what, action, time.Since(begin).Round(time.Second))
		}
		if err != nil && !errors.Is(err, uevent.ErrOverrun) {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		if cpu, ok := ev.CPU(); ok && ev.Action() == action {
			return cpu, nil
		}
	}
}
