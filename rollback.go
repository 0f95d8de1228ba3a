package hotplugtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// failStates are the hotplug states at which the CPU can be made to fail, as variants: 143:sched:active. Where a state
// does nothing in one of the two directions, it is not known before it has been tried.
func failStates(s *Suite, cpu int) ([]string, error) {
	states, err := s.cpus.States()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, state := range states {
		if s.cpus.SetFail(cpu, state.ID) == nil {
			names = append(names, fmt.Sprintf("%d:%s", state.ID, strings.ReplaceAll(state.Name, "/", "-")))
		}
	}
	return names, s.cpus.SetFail(cpu, -1)
}

// failing makes an operation fail at the state that the variant names.
func failing(op func(*Cycle) error) func(*Cycle) error {
	return func(c *Cycle) error {
		number, _, _ := strings.Cut(c.Variant, ":")
		state, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := c.suite.cpus.SetFail(c.CPU, state); err != nil {
			return err
		}
		err = op(c)
		if err != nil {
			return err
		}
		if err := c.suite.cpus.SetFail(c.CPU, -1); err != nil {
			return err
		}
		return errInapplicable
	}
}

// disarm picks one CPU, and sees to it that no failure stays armed.
func disarm(s *Suite) (cpus []int, undo func() error, missing string, err error) {
	cpu := s.targets[len(s.targets)-1]
	disarm := func() error { return s.cpus.SetFail(cpu, -1) }
	if err := disarm(); errors.Is(err, unix.EINVAL) {
		// Such a kernel leaves a CPU half-way when a failure is injected at a state like perf:prepare on its way down.
		return nil, nil, "this kernel, older than v5.13, also injects failures where there is no way back", nil
	} else if err != nil {
		return nil, nil, fmt.Sprintf("no failure can be injected: %v", err), nil
	}
	return []int{cpu}, disarm, "", nil
}
