package cpuhp

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// A State is one of the states that a CPU goes through on its way from offline
// to online, and in reverse order back.
type State struct {
	ID   int    // of enum cpuhp_state, which differs from kernel to kernel
	Name string // such as "RCU/tree:online"
}

// States reads /sys/devices/system/cpu/hotplug/states: the states that this
// kernel has, the first is "offline" and the last "online". The error wraps
// [ErrNotSupported] if the kernel has no CONFIG_HOTPLUG_CPU.
func (f FS) States() ([]State, error) {
	return readSupported(filepath.Join(f.cpus, "hotplug/states"), parseStates)
}

// parseStates parses lines such as " 28: fork:vm_stack_cache", in the order of
// their numbers.
func parseStates(text string) ([]State, error) {
	var states []State
	for line := range strings.Lines(text) {
		number, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %q is not NUMBER: NAME", line)
		}
		id, err := strconv.ParseUint(strings.TrimLeft(number, " "), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if n := len(states); n > 0 && int(id) <= states[n-1].ID {
			return nil, fmt.Errorf("line %q comes after state %d", line, states[n-1].ID)
		}
		states = append(states, State{int(id), name})
	}
	if states == nil {
		return nil, errors.New("no state")
	}
	return states, nil
}

// State reads /sys/devices/system/cpu/cpuN/hotplug/state and target: the state
// that the CPU is in, and the one it is on its way to, which is the same when
// no operation is going on. Both are a [State]'s ID. The error wraps
// [fs.ErrNotExist] if there is no such CPU, or the kernel has no
// CONFIG_HOTPLUG_CPU.
func (f FS) State(cpu int) (state, target int, err error) {
	if state, err = read(f.path(cpu, "hotplug/state"), strconv.Atoi); err != nil {
		return 0, 0, err
	}
	if target, err = read(f.path(cpu, "hotplug/target"), strconv.Atoi); err != nil {
		return 0, 0, err
	}
	return state, target, nil
}

// SetFail writes to /sys/devices/system/cpu/cpuN/hotplug/fail: the next time
// that the CPU comes to the state, on its way up or down, that state's callback
// is said to have failed, and the operation is rolled back with EAGAIN. This
// happens once. A state of -1 calls it off, which before v5.13 (3ae70c251f34)
// cannot be done, and is EINVAL.
//
// The error wraps the errno: [unix.EINVAL] for a state that cannot fail, as
// there is no way back from it or it has nothing to do in either direction, and
// [unix.ENOENT] if there is no such CPU, or the kernel has no
// CONFIG_HOTPLUG_CPU.
func (f FS) SetFail(cpu, state int) error {
	return write(f.path(cpu, "hotplug/fail"), strconv.Itoa(state))
}
