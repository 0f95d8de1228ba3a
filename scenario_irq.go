package hotplugtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// irq is the directory of an IRQ: "/proc/irq/4".
type irq string

// movableIRQs returns some IRQs that are in use and can be moved from CPU to
// CPU: at most eight, and none that without says to leave out.
func movableIRQs(without func(irq) bool) ([]irq, error) {
	dirs, err := filepath.Glob("/proc/irq/[0-9]*")
	if err != nil {
		return nil, err
	}
	const enough = 8
	var list []irq
	for _, dir := range dirs {
		i := irq(dir)
		if len(list) == enough || without(i) || !i.inUse() || !exists(filepath.Join(dir, "effective_affinity_list")) {
			continue
		}
		// The kernel answers EIO or EPERM for an IRQ that it places itself.
		if cpus, err := i.mask(); err == nil && i.move(cpus) == nil {
			list = append(list, i)
		}
	}
	return list, nil
}

// inUse reports whether the IRQ has a handler, which is a directory there, and
// has occurred. The kernel does not move an IRQ that has a handler but was
// never started, such as that of a network port that is down.
func (i irq) inUse() bool {
	counts, err := sysfs.ReadFile(filepath.Join("/sys/kernel/irq", filepath.Base(string(i)), "per_cpu_count"))
	if err == nil && strings.Trim(counts, "0,") == "" {
		return false
	}
	entries, _ := os.ReadDir(string(i))
	for _, entry := range entries {
		if entry.IsDir() {
			return true
		}
	}
	return false
}

// anyIRQ is for rows that leave out none.
func anyIRQ(irq) bool { return false }

// hinted reports whether the driver has a CPU in mind for the IRQ. Such a driver
// may set the mask by itself when a CPU goes or comes: virtnet_set_affinity()
// does with each IRQ of a virtio network card.
func (i irq) hinted() bool {
	hint, err := sysfs.Read(i.file("affinity_hint"), affinity.ParseMask)
	return err == nil && !hint.Empty()
}

func (i irq) file(name string) string { return filepath.Join(string(i), name) }

func (i irq) mask() (affinity.CPUSet, error) {
	return sysfs.Read(i.file("smp_affinity_list"), affinity.ParseList)
}

func (i irq) effective() (affinity.CPUSet, error) {
	return sysfs.Read(i.file("effective_affinity_list"), affinity.ParseList)
}

func (i irq) move(cpus affinity.CPUSet) error {
	return sysfs.WriteFile(i.file("smp_affinity_list"), cpus.String())
}

func needsIRQ(*Machine) error {
	list, err := movableIRQs(anyIRQ)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return suite.Unsupportedf("no IRQ in /proc/irq has come, can be moved, and tells where it is (effective_affinity_list)")
	}
	return nil
}

// needsUnhintedIRQ is for rows about masks that no driver sets.
func needsUnhintedIRQ(m *Machine) error {
	if err := needsIRQ(m); err != nil {
		return err
	}
	list, err := movableIRQs(irq.hinted)
	if err == nil && len(list) == 0 {
		err = suite.Unsupportedf("each IRQ in /proc/irq that can be moved has a driver that may set its mask (affinity_hint)")
	}
	return err
}

// moveIRQs moves IRQs to the CPU before it goes offline, and again as soon as
// it is back online.
func moveIRQs(x *Scene, cpu int) (err error) {
	list, err := movableIRQs(anyIRQ)
	if err != nil {
		return err
	}
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	all := func(f func(i irq) error) error {
		var errs []error
		for _, i := range list {
			if err := f(i); err != nil {
				errs = append(errs, fmt.Errorf("IRQ %s: %w", filepath.Base(string(i)), err))
			}
		}
		return errors.Join(errs...)
	}
	move := func(cpus ...int) error { return all(func(i irq) error { return i.move(affinity.Of(cpus...)) }) }
	// elsewhere checks that they are on CPUs that are online.
	elsewhere := func(when string) error {
		online, err := x.Machine.CPUs.Online()
		if err != nil {
			return err
		}
		return all(func(i irq) error {
			cpus, err := i.effective()
			if err == nil && !cpus.Difference(online).Empty() {
				err = fmt.Errorf("%s, effective_affinity_list is %v, and the online CPUs are %v", when, cpus, online)
			}
			return err
		})
	}

	before := make(map[irq]affinity.CPUSet)
	if err := all(func(i irq) (err error) { before[i], err = i.mask(); return err }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all(func(i irq) error { return i.move(before[i]) })) }()
	if err := move(cpu); err != nil {
		return err
	}
	if err := anyArrives(list, cpu); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = elsewhere(fmt.Sprintf("when cpu%d has gone offline", cpu))
	// A mask that has only offline CPUs is refused.
	err = errors.Join(err, move(stays, cpu), elsewhere("when it was moved to an online and an offline CPU"))
	return errors.Join(err, x.Set(cpu, Online), move(cpu), elsewhere(fmt.Sprintf("when cpu%d is back", cpu)))
}

// anyArrives waits for one of the IRQs to be on the CPU that they were moved to.
// Without interrupt remapping they move with the next interrupt, and the devices
// of an idle machine have none: so the real-time clock is asked for one, with
// each second until its file is closed.
func anyArrives(list []irq, cpu int) (err error) {
	if clock, err := os.Open("/dev/rtc0"); err == nil {
		defer clock.Close()
		_ = unix.IoctlSetInt(int(clock.Fd()), unix.RTC_UIE_ON, 0) // some cannot
	}
	const limit = 3 * time.Second
	arrived := suite.WaitAsleep(limit, func() bool {
		return slices.ContainsFunc(list, func(i irq) bool {
			on, effective := i.effective()
			err = errors.Join(err, effective)
			return on.Equal(affinity.Of(cpu))
		}) || err != nil
	})
	if err == nil && !arrived {
		err = suite.Unsupportedf("no IRQ came to cpu%d in the %v since all that can be were moved there", cpu, limit)
	}
	return err
}

// idleGoesOn reads the idle time before the CPU goes offline and when it is
// back. Nothing is promised in between: a reader may then get a time that is
// counted in another way (get_idle_time() in fs/proc/stat.c).
func idleGoesOn(x *Scene, cpu int) error {
	last := make(map[string]uint64)
	look := func() error {
		data, err := os.ReadFile("/proc/stat")
		if err != nil {
			return err
		}
		now, err := idleTimes(string(data))
		if err != nil {
			return err
		}
		return goOn(last, now)
	}
	if err := look(); err != nil {
		return err
	}
	if err := x.OffAndOn(cpu); err != nil {
		return err
	}
	return look()
}

// goOn checks that no CPU's time is less than when it was last listed, and
// keeps the new times. Of a time that moves from one field to the other, each
// field shows whole ticks: the sum may be one less.
func goOn(last, now map[string]uint64) error {
	for cpu, idle := range now {
		if idle+1 < last[cpu] {
			return fmt.Errorf("%s was idle for %d ticks, and now for %d", cpu, last[cpu], idle)
		}
		last[cpu] = idle
	}
	return nil
}

// idleTimes returns the idle time of each CPU in a /proc/stat, iowait included,
// in ticks of USER_HZ: "cpu0 USER NICE SYSTEM IDLE IOWAIT …". A task that
// begins or ends to wait for I/O moves time from one of the two to the other.
func idleTimes(stat string) (map[string]uint64, error) {
	times := make(map[string]uint64)
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "cpu") || fields[0] == "cpu" {
			continue
		}
		if len(fields) < 6 {
			return nil, fmt.Errorf("/proc/stat: line %q has no idle time", line)
		}
		for _, field := range fields[4:6] {
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/stat: line %q: %w", line, err)
			}
			times[fields[0]] += ticks
		}
	}
	return times, nil
}

// perfCounts reads an event of the CPU when it is offline, and counts with a
// new one when it is back.
func perfCounts(x *Scene, cpu int) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unix.PERF_ATTR_SIZE_VER1)}
	open := func() (int, error) {
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		return fd, os.NewSyscallError("perf_event_open", err)
	}
	count := make([]byte, 8)
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	_, err = read(fd, count)
	if err = errors.Join(err, x.Set(cpu, Online)); err != nil {
		return err
	}
	again, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(again)
	// The clock of a CPU goes on whether or not something runs there.
	const enough = 10 * time.Millisecond
	var counted time.Duration
	counts := func() bool {
		_, err = read(again, count)
		counted = time.Duration(binary.NativeEndian.Uint64(count))
		return err != nil || counted >= enough
	}
	if !suite.WaitFor(suite.TaskTimeout, counts) {
		return fmt.Errorf("an event that was opened when cpu%d was back has counted %v of its clock in %v", cpu, counted, suite.TaskTimeout)
	}
	return err
}

// exists reports whether there is such a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
