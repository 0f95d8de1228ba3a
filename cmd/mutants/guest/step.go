package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// No trace event is recorded on a CPU that is not online. So the callbacks that
// run there, of the states between these two, are read from the kernel's table
// of states.
const (
	firstState = "ap:offline"
	lastState  = "ap:online"
)

// stepSize is that of struct cpuhp_step, in kernel/cpu.c: the state's name, its
// two callbacks, a list, and two flags.
const stepSize = 5 * 8

// dyingAndStarting returns the callbacks of states that a CPU goes through while
// it is not online.
func dyingAndStarting(states []cpuhp.State) (functions []string, err error) {
	symbols, err := readSymbols()
	if err != nil {
		return nil, err
	}
	table, ok := symbols.addresses["cpuhp_hp_states"]
	if !ok {
		return nil, errors.New("/proc/kallsyms has no cpuhp_hp_states: CONFIG_KALLSYMS_ALL")
	}
	core, err := elf.Open("/proc/kcore")
	if err != nil {
		return nil, err
	}
	defer core.Close()
	between := false
	for _, state := range states {
		switch {
		case state.Name == firstState:
			between = true
			continue
		case state.Name == lastState:
			return functions, nil
		case !between:
			continue
		}
		step, err := readCore(core, table+uint64(state.ID)*stepSize, stepSize)
		if err != nil {
			return nil, err
		}
		word := func(i int) uint64 { return binary.NativeEndian.Uint64(step[i*8:]) }
		name, err := readCore(core, word(0), len(state.Name)+1)
		if err != nil || string(name) != state.Name+"\x00" {
			return nil, errors.Join(err, fmt.Errorf("cpuhp_hp_states[%d] is called %q, want %q: has struct cpuhp_step changed?", state.ID, name, state.Name))
		}
		for _, callback := range []uint64{word(1), word(2)} {
			if function, ok := symbols.names[callback]; ok {
				functions = append(functions, function)
			}
		}
	}
	return nil, fmt.Errorf("no hotplug state is called %q, and after it %q", firstState, lastState)
}

// readCore reads the kernel's memory at an address.
func readCore(core *elf.File, at uint64, size int) ([]byte, error) {
	for _, p := range core.Progs {
		if p.Type == elf.PT_LOAD && p.Vaddr <= at && at+uint64(size) <= p.Vaddr+p.Memsz {
			data := make([]byte, size)
			if _, err := p.ReadAt(data, int64(at-p.Vaddr)); err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("/proc/kcore: %w", err)
			}
			return data, nil
		}
	}
	return nil, fmt.Errorf("/proc/kcore: nothing at %#x", at)
}

// symbols are the kernel's, by name and by address.
type symbols struct {
	addresses map[string]uint64
	names     map[uint64]string
}

func readSymbols() (*symbols, error) {
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	s := &symbols{make(map[string]uint64), make(map[uint64]string)}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		at, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/kallsyms: %w", err)
		}
		s.addresses[fields[2]] = at
		// A function has the first of several names, unless that is not of code.
		if _, ok := s.names[at]; !ok && strings.EqualFold(fields[1], "t") && !strings.HasPrefix(fields[2], "__pfx_") {
			s.names[at] = fields[2]
		}
	}
	return s, nil
}
