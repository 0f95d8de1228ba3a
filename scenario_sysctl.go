package hotplugtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/suite"
)

// sysctlScenarios are about what can be set while CPUs are away, and lasts.
var sysctlScenarios = []Scenario{
	{
		Name:    "sysctls",
		Promise: "a sysctl of the scheduler that can be written while all CPUs are online can be written while one is offline, and its value lasts when the CPU goes and when it is back",
		Source:  `Documentation/scheduler/sched-rt-group.rst; 14672f059d83 ("sched/deadline: Use online cpus for validating runtime", v6.15)`,
		Cycle:   sysctlsLast,
		// Which of the CPUs goes makes no difference.
		Together: true,
	},
	{
		Name:     "perf-task",
		Promise:  "an event of a task goes on counting from where it was when the task's CPU goes offline and comes back",
		Source:   "perf_event_open(2): pid == 0 and cpu == -1; kernel/events/core.c: perf_event_exit_cpu()",
		Needs:    func(*Machine) error { return fileMissing("/proc/sys/kernel/perf_event_paranoid", "CONFIG_PERF_EVENTS") },
		Cycle:    perfTaskGoesOn,
		Together: true,
	},
}

// sysctlValues returns the sysctls that tests may write and that can be written
// while all CPUs are online, with their values. There, writing what is read must
// succeed.
func sysctlValues() (map[string]string, error) {
	values := make(map[string]string)
	for _, path := range machine.Sysctls {
		if unix.Access(path, unix.W_OK) != nil {
			continue
		}
		value, err := sysfs.ReadFile(path)
		if err != nil {
			return nil, err
		}
		value = strings.TrimSpace(value)
		if os.WriteFile(path, []byte(value), 0) == nil {
			values[path] = value
		}
	}
	if len(values) == 0 {
		return nil, suite.Unsupportedf("no sysctl can be written, as in a container in which /proc/sys is read-only")
	}
	return values, nil
}

// sysctlsLast writes each sysctl's own value while the CPU is offline.
func sysctlsLast(x *Scene, cpu int) error {
	values, err := sysctlValues()
	if err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = sysctlsAre(values, fmt.Sprintf("when cpu%d has gone offline", cpu))
	for path, value := range values {
		if failed := os.WriteFile(path, []byte(value), 0); failed != nil {
			err = errors.Join(err, fmt.Errorf("writing its own value, %s, while cpu%d is offline, which succeeded while it was online: %w", value, cpu, failed))
		}
	}
	return errors.Join(err, x.Set(cpu, Online), sysctlsAre(values, fmt.Sprintf("when cpu%d is back", cpu)))
}

func sysctlsAre(values map[string]string, when string) (err error) {
	for path, was := range values {
		is, failed := sysfs.ReadFile(path)
		if is = strings.TrimSpace(is); failed == nil && is != was {
			failed = fmt.Errorf("%s, %s is %s, and was %s", when, filepath.Base(path), is, was)
		}
		err = errors.Join(err, failed)
	}
	return err
}

// perfTaskGoesOn counts the CPU time of a thread that is pinned to the CPU,
// which is moved away when it goes offline.
func perfTaskGoesOn(x *Scene, cpu int) error {
	return x.Do("counting a task's time", func() (err error) {
		if err := suite.Pin(cpu); err != nil {
			return err
		}
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: uint32(unix.PERF_ATTR_SIZE_VER1)}
		fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("perf_event_open", err)
		}
		defer unix.Close(fd)
		last := time.Duration(0)
		if err := taskTime(fd, &last, fmt.Sprintf("on cpu%d", cpu)); err != nil {
			return err
		}
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
		err = taskTime(fd, &last, fmt.Sprintf("when cpu%d has gone offline", cpu))
		return errors.Join(err, x.Set(cpu, Online), taskTime(fd, &last, fmt.Sprintf("when cpu%d is back", cpu)))
	})
}

// taskTime computes until the event has counted more than it had at last, and
// keeps what it has counted. The count may never go back.
func taskTime(fd int, last *time.Duration, when string) error {
	const enough = time.Millisecond
	buf := make([]byte, 8)
	before, now := *last, time.Duration(0)
	var err error
	counts := func() bool {
		_, err = read(fd, buf)
		now = time.Duration(binary.NativeEndian.Uint64(buf))
		return err != nil || now < before || now >= before+enough
	}
	counted := suite.WaitFor(suite.TaskTimeout, counts)
	*last = now
	switch {
	case err != nil:
		return err
	case now < before:
		return fmt.Errorf("%s, the event of a task has counted %v, and before %v", when, now, before)
	case !counted:
		return fmt.Errorf("%s, the event of a task that computes has counted %v more in %v", when, now-before, suite.TaskTimeout)
	}
	return nil
}
