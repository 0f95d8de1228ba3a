// Package suspend puts the machine to sleep, or part of the way there, through
// /sys/power.
//
// See Documentation/admin-guide/pm/sleep-states.rst and
// Documentation/power/basic-pm-debugging.rst of the kernel.
package suspend

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// ErrNotSupported is wrapped by the error of a method that needs what this
// kernel is built without.
var ErrNotSupported = errors.New("suspend: not supported by this kernel")

// Levels are how far a suspend can go by pm_test before it turns back, in
// order.
var Levels = []string{"freezer", "devices", "platform", "processors", "core"}

// An Error says which operation on which file failed, and why. Its text is such
// as
//
//	suspend: write "mem" to /sys/power/state: EBUSY (device or resource busy)
//
// Op is "read", "write", or a system call; Value is what was written if Op is
// "write"; Err is a [unix.Errno], or says what of the file's text could not be
// parsed.
type Error = syserr.Error

// An FS is what sysfs has of suspends. Make one with [New].
type FS struct {
	sys   string
	wrote func() // nil: nobody is told
}

// New returns the suspends of the machine whose file system is at root, "/"
// except in tests.
func New(root string) FS { return FS{sys: filepath.Join(root, "sys")} }

// AfterWrite returns f with a function that [FS.Enter] calls on the writing
// thread as soon as write(2) has returned, before it closes the file.
func (f FS) AfterWrite(wrote func()) FS {
	f.wrote = wrote
	return f
}

func (f FS) power(name string) string { return filepath.Join(f.sys, "power", name) }

// notSupported tells of a file that a kernel built otherwise would have.
func notSupported(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotSupported, syserr.In("", err))
	}
	return syserr.In("suspend", err)
}

// States reads /sys/power/state: the states that the system can be put into, of
// "freeze", "standby", "mem" and "disk". There are none without
// CONFIG_PM_SLEEP. The error wraps [ErrNotSupported] without CONFIG_PM.
func (f FS) States() ([]string, error) {
	text, err := sysfs.ReadFile(f.power("state"))
	return strings.Fields(text), notSupported(err)
}

// Enter writes to /sys/power/state: the system goes into the state, or as far
// as pm_test lets it. It blocks until the system is back.
//
// The error wraps the errno: [unix.EBUSY] when a wakeup event came in between
// or tasks could not be frozen, [unix.EAGAIN] when the state does not go as far
// as pm_test says, [unix.EINVAL] for a state that there is not, or that of a
// notifier or driver that refused. It wraps [ErrNotSupported] without
// CONFIG_PM.
func (f FS) Enter(state string) error {
	return notSupported(sysfs.WriteFileThen(f.power("state"), state, f.wrote))
}

// A Choice is a file that lists values and has the one in force in brackets, as
// in "s2idle [deep]".
type Choice struct {
	Current string
	All     []string
}

// Has tells whether the value can be chosen.
func (c Choice) Has(value string) bool {
	for _, v := range c.All {
		if v == value {
			return true
		}
	}
	return false
}

func parseChoice(text string) (Choice, error) {
	var c Choice
	for word := range strings.FieldsSeq(text) {
		if inner, ok := strings.CutPrefix(word, "["); ok {
			if inner, ok = strings.CutSuffix(inner, "]"); !ok || inner == "" || c.Current != "" {
				return Choice{}, fmt.Errorf("%q does not have one value in brackets", text)
			}
			word, c.Current = inner, inner
		}
		c.All = append(c.All, word)
	}
	if c.Current == "" {
		return Choice{}, fmt.Errorf("%q does not have one value in brackets", text)
	}
	return c, nil
}

func (f FS) choice(name string) (Choice, error) {
	c, err := sysfs.Read(f.power(name), parseChoice)
	return c, notSupported(err)
}

func (f FS) write(path, value string) error { return notSupported(sysfs.WriteFile(path, value)) }

// MemSleep reads /sys/power/mem_sleep: what "mem" means, of "s2idle", "shallow"
// and "deep". The error wraps [ErrNotSupported] where there is no such choice.
func (f FS) MemSleep() (Choice, error) { return f.choice("mem_sleep") }

// SetMemSleep writes to /sys/power/mem_sleep. The error wraps [unix.EINVAL] for
// a value that cannot be chosen, and [ErrNotSupported] as that of [FS.MemSleep].
func (f FS) SetMemSleep(value string) error { return f.write(f.power("mem_sleep"), value) }

// PMTest reads /sys/power/pm_test: how far a suspend goes, one of [Levels], or
// "none" for all the way. The error wraps [ErrNotSupported] without
// CONFIG_PM_DEBUG.
func (f FS) PMTest() (Choice, error) { return f.choice("pm_test") }

// SetPMTest writes to /sys/power/pm_test. The error wraps [unix.EINVAL] for a
// level that there is not, and [ErrNotSupported] without CONFIG_PM_DEBUG.
func (f FS) SetPMTest(level string) error { return f.write(f.power("pm_test"), level) }

func (f FS) testDelay() string {
	return filepath.Join(f.sys, "module/suspend/parameters/pm_test_delay")
}

// TestDelay reads /sys/module/suspend/parameters/pm_test_delay: for how many
// seconds a suspend stays at the level of pm_test. The error wraps
// [ErrNotSupported] without CONFIG_PM_DEBUG.
func (f FS) TestDelay() (seconds int, err error) {
	seconds, err = sysfs.Read(f.testDelay(), strconv.Atoi)
	return seconds, notSupported(err)
}

// SetTestDelay writes to /sys/module/suspend/parameters/pm_test_delay, in
// seconds. The error wraps [ErrNotSupported] without CONFIG_PM_DEBUG.
func (f FS) SetTestDelay(seconds int) error { return f.write(f.testDelay(), strconv.Itoa(seconds)) }

func (f FS) notifierError(action string) string {
	return filepath.Join(f.sys, "kernel/debug/notifier-error-inject/pm/actions", action, "error")
}

// NotifierError reads
// /sys/kernel/debug/notifier-error-inject/pm/actions/ACTION/error: the errno
// with which a power management notifier refuses the action, such as
// "PM_SUSPEND_PREPARE", or 0. The error wraps [ErrNotSupported] where the
// module pm-notifier-error-inject is not loaded, or debugfs not mounted. See
// Documentation/fault-injection/notifier-error-inject.rst.
func (f FS) NotifierError(action string) (unix.Errno, error) {
	value, err := sysfs.Read(f.notifierError(action), strconv.Atoi)
	return unix.Errno(-value), notSupported(err)
}

// SetNotifierError writes to the file of [FS.NotifierError]: the suspends that
// follow are aborted with the errno, until it is 0. The error wraps
// [ErrNotSupported] as that of NotifierError does.
func (f FS) SetNotifierError(action string, errno unix.Errno) error {
	return f.write(f.notifierError(action), strconv.Itoa(-int(errno)))
}

// WakeupCount reads /sys/power/wakeup_count: how many wakeup events there were.
// It blocks while one is being processed. The error wraps [ErrNotSupported]
// without CONFIG_PM_SLEEP.
func (f FS) WakeupCount() (uint64, error) {
	n, err := sysfs.Read(f.power("wakeup_count"), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	return n, notSupported(err)
}

// SetWakeupCount writes to /sys/power/wakeup_count: the next suspend is aborted
// if there is a wakeup event until then. The error wraps [unix.EINVAL] if there
// was one already, that is, if n is not the count any more, and
// [ErrNotSupported] without CONFIG_PM_SLEEP.
func (f FS) SetWakeupCount(n uint64) error {
	return f.write(f.power("wakeup_count"), strconv.FormatUint(n, 10))
}

// Stats reads the counters in /sys/power/suspend_stats, such as "success" and
// "fail". The error wraps [ErrNotSupported] before v5.3, where they are in
// debugfs.
func (f FS) Stats() (map[string]uint64, error) {
	dir := f.power("suspend_stats")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, notSupported(err)
	}
	stats := make(map[string]uint64)
	for _, entry := range entries {
		// What is no number is the name of a device or a step.
		n, err := sysfs.Read(filepath.Join(dir, entry.Name()), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
		if err == nil {
			stats[entry.Name()] = n
		}
	}
	return stats, nil
}

// SetAlarm writes to /sys/class/rtc/rtc0/wakealarm: the real-time clock wakes
// the machine after that time, which is rounded up to seconds. 0 calls the
// alarm off. The error wraps [ErrNotSupported] where no clock can wake the
// machine, and [unix.EINVAL] for a time that is past; the alarm then stays as it
// is.
func (f FS) SetAlarm(after time.Duration) error {
	path := filepath.Join(f.sys, "class/rtc/rtc0/wakealarm")
	if after < 0 { // the kernel would take that for no alarm, and nothing would wake the machine
		return &Error{Package: "suspend", Op: "write", Path: path, Value: after.String(), Err: unix.EINVAL}
	}
	// An alarm that is set already has to be called off before another one.
	if err := sysfs.WriteFile(path, "0"); err != nil || after == 0 {
		return notSupported(err)
	}
	return f.write(path, fmt.Sprintf("+%d", (after+time.Second-1)/time.Second))
}

// Alarm tells whether the real-time clock is to wake the machine, from
// /sys/class/rtc/rtc0/wakealarm. The error wraps [ErrNotSupported] where no
// clock can wake the machine.
func (f FS) Alarm() (bool, error) {
	text, err := sysfs.ReadFile(filepath.Join(f.sys, "class/rtc/rtc0/wakealarm"))
	return text != "", notSupported(err)
}
