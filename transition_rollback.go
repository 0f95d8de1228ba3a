package hotplugtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// rolledBack is an operation that fails at each hotplug state in turn, and
// leaves the CPU in the state that it was in.
func rolledBack(name string, state State, op func(*Operation) error) Transition {
	return stays("Rollback/"+name, state, Transition{
		Source: "kernel/cpu.c: cpuN/hotplug/fail makes the callback of a state fail, and what was done before it is undone",
		Err:    unix.EAGAIN, Op: failing(op), Setup: disarm, Variants: failStates(state), RolledBack: true,
	})
}

// failStates returns the hotplug states at which a CPU in the given state can be
// made to fail, as variants: 143:sched:active. The kernel refuses those before
// CPUHP_BRINGUP_CPU while the CPU is online: on its way down they cannot fail
// (fail_store()). Whether a state does nothing in one of the two directions is
// not known before it has been tried.
//
// CPUHP_BRINGUP_CPU itself is left out: where the CPU is kicked in a state of
// its own before that, since v6.5, it would be left waiting for ever in its
// first instructions (cpuhp_ap_sync_alive()), and what is undone is what it runs
// on.
func failStates(before State) func(m *Machine, cpu int) ([]string, error) {
	return func(m *Machine, cpu int) ([]string, error) {
		states, err := m.CPUs.States()
		if err := errors.Join(err, m.Ensure(cpu, before)); err != nil {
			return nil, err
		}
		var names []string
		for _, state := range states {
			if state.Name != "cpu:bringup" && m.CPUs.SetFail(cpu, state.ID) == nil {
				names = append(names, fmt.Sprintf("%d:%s", state.ID, strings.ReplaceAll(state.Name, "/", "-")))
			}
		}
		return names, m.CPUs.SetFail(cpu, -1)
	}
}

// failing makes an operation fail at the state that the variant names.
func failing(op func(*Operation) error) func(*Operation) error {
	return func(o *Operation) error {
		number, _, _ := strings.Cut(o.Variant, ":")
		state, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := o.Machine.CPUs.SetFail(o.CPU, state); err != nil {
			return err
		}
		if err := op(o); err != nil {
			return err
		}
		if err := o.Machine.CPUs.SetFail(o.CPU, -1); err != nil {
			return err
		}
		return suite.ErrInapplicable
	}
}

// disarm picks one CPU, and makes sure that no failure stays armed.
func disarm(m *Machine) (Prepared, error) {
	cpu, err := lastAtTarget(m)
	if err != nil {
		return Prepared{}, err
	}
	disarm := func() error { return m.CPUs.SetFail(cpu, -1) }
	if err := disarm(); errors.Is(err, unix.EINVAL) {
		// Such a kernel leaves a CPU half-way if a failure is injected at a
		// state like perf:prepare on its way down.
		return Prepared{}, suite.Unsupportedf("this kernel, older than v5.13, also injects failures where there is no way back")
	} else if err != nil {
		return Prepared{}, suite.Unsupportedf("no failure can be injected: %v", err)
	}
	return Prepared{CPUs: []int{cpu}, Undo: disarm}, nil
}
