package hotplugtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/suite"
)

// Where files in /proc name CPU %d.
const (
	statLine       = `^cpu%d `
	cpuinfoLine    = `^processor\s*:\s*%[1]d$|^processor %[1]d:` // x86, arm64, powerpc, riscv; s390
	interruptsLine = `^\s+(CPU\d+\s+)*CPU%d(\s|$)`
)

// lineCheck makes a check that a file has a line for the CPU only while it is
// online. The pattern is a regular expression with a verb for the CPU's number.
func lineCheck(path, pattern string) func(*Probe) (Check, error) {
	return func(p *Probe) (Check, error) {
		line, err := regexp.Compile(fmt.Sprintf(pattern, p.CPU))
		return func() error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found := false
			// Lines of /proc/interrupts and /proc/stat outgrow a scanner's
			// default on large machines.
			for lines := bufio.NewReader(bytes.NewReader(data)); !found; {
				text, err := lines.ReadString('\n')
				if text == "" && err != nil {
					break
				}
				found = line.MatchString(strings.TrimSuffix(text, "\n"))
			}
			return p.Listed(found, "%s has a match of %q: %t", path, line, found)
		}, err
	}
}

// existsCheck makes a check that something in the CPU's sysfs directory is
// there while it is online, and only then.
func existsCheck(name string) func(*Probe) (Check, error) {
	return func(p *Probe) (Check, error) {
		path := filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(p.CPU), name)
		return func() error {
			_, err := os.Stat(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return p.Listed(err == nil, "%s is there: %t", path, err == nil)
		}, nil
	}
}

// needsFile makes a Needs for a promise that only kernels with the file keep.
func needsFile(path, config string) func(View) error {
	return func(View) error { return fileMissing(path, config) }
}

// fileMissing returns an [*Unsupported] if the kernel does not have the file.
func fileMissing(path, config string) error {
	if _, err := os.Stat(path); err != nil {
		return suite.Unsupportedf("there is no %s: the kernel has no %s", path, config)
	}
	return nil
}

// needsState is for a CPU that has a directory cpuN/hotplug.
func needsState(v suite.View) error {
	if v.Machine.Stateless.Has(v.CPU) {
		return suite.Unsupportedf("the kernel makes cpu%d/hotplug at boot, and the CPU was added later", v.CPU)
	}
	return nil
}

// armHotplugState checks where the CPU is on its way from offline to online.
func armHotplugState(p *Probe) (Check, error) {
	states, err := p.Machine.CPUs.States()
	if err != nil {
		return nil, err
	}
	state, target, err := p.Machine.CPUs.State(p.CPU)
	if err != nil {
		return nil, err
	}
	// The boot CPU has a target of 0 until it first goes offline, before v6.2.
	if tr := p.Transition; tr.Before != tr.After {
		state = 0
		if tr.After == Online {
			state = states[len(states)-1].ID
		}
		target = state
	}
	return func() error {
		s, t, err := p.Machine.CPUs.State(p.CPU)
		if err == nil && (s != state || t != target) {
			err = fmt.Errorf("state is %d and target %d, want %d and %d", s, t, state, target)
		}
		return err
	}, nil
}

// armPerfEvent checks that events can be opened on the CPU.
func armPerfEvent(p *Probe) (Check, error) {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER1)
	return func() error {
		fd, err := unix.PerfEventOpen(&attr, -1, p.CPU, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err == nil {
			unix.Close(fd)
		}
		switch {
		case p.State == Online && err != nil:
			return os.NewSyscallError("perf_event_open", err)
		case p.State == Offline && !errors.Is(err, unix.ENODEV):
			return fmt.Errorf("perf_event_open: %v, want ENODEV", err)
		}
		return nil
	}, nil
}
