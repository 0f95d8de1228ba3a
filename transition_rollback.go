package hotplugtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/callback"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// rolledBack is an operation that fails at each hotplug state in turn, and
// leaves the CPU in the state that it was in.
func rolledBack(name string, state State, op func(*Operation) error) Transition {
	return stays("Rollback/"+name, state, Transition{
		Source: "kernel/cpu.c: cpuN/hotplug/fail makes the callback of a state fail, and what was done before it is undone",
		Err:    unix.EAGAIN, Op: failing(op), Setup: disarm, Variants: failStates, Able: canFail(state), RolledBack: true,
	})
}

// failStates returns the hotplug states as variants: 143:sched:active.
//
// CPUHP_BRINGUP_CPU is left out: where the CPU is kicked in a state of its own
// before that, since v6.5, it would be left waiting for ever in its first
// instructions (cpuhp_ap_sync_alive()), and what is undone is what it runs on.
func failStates(m *Machine) ([]string, error) {
	states, err := m.CPUs.States()
	var names []string
	for _, state := range states {
		if state.Name != "cpu:bringup" {
			names = append(names, fmt.Sprintf("%d:%s", state.ID, strings.ReplaceAll(state.Name, "/", "-")))
		}
	}
	return names, err
}

// canFail returns those of the variants at which a CPU in the given state can be
// made to fail. The kernel refuses those before CPUHP_BRINGUP_CPU while the CPU
// is online: on its way down they cannot fail (fail_store()). A state that does
// nothing in the direction of the operation cannot fail either.
func canFail(before State) func(m *Machine, cpu int, variants []string) ([]string, error) {
	return func(m *Machine, cpu int, variants []string) ([]string, error) {
		if err := m.Ensure(cpu, before); err != nil {
			return nil, err
		}
		silent, err := silentStates(m, cpu, before)
		if err != nil {
			return nil, err
		}
		var able []string
		for _, variant := range variants {
			state, err := stateOf(variant)
			if err != nil {
				return nil, err
			}
			if !silent[state] && m.CPUs.SetFail(cpu, state) == nil {
				able = append(able, variant)
			}
		}
		return able, m.CPUs.SetFail(cpu, -1)
	}
}

// silentStates returns states that do nothing when a CPU leaves the given state,
// by the events of both directions. There may be others, for which trying it
// tells, and so it does for all if nothing can be recorded.
func silentStates(m *Machine, cpu int, before State) (map[int]bool, error) {
	after := Online
	if before == Online {
		after = Offline
	}
	var ways [2][]tracefs.Event
	for i, state := range []State{after, before} {
		var failed, err error
		ways[i], err = callback.Record(func() error {
			failed = m.Ensure(cpu, state)
			return failed
		})
		if err != nil {
			return nil, errors.Join(failed, m.Ensure(cpu, before))
		}
	}
	return callback.OneWay(ways[0], ways[1]), nil
}

// stateOf is the number of the state that a variant names.
func stateOf(variant string) (int, error) {
	number, _, _ := strings.Cut(variant, ":")
	return strconv.Atoi(number)
}

// failing makes an operation fail at the state that the variant names.
func failing(op func(*Operation) error) func(*Operation) error {
	return func(o *Operation) error {
		state, err := stateOf(o.Variant)
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
