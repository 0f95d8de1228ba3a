// Package cpuhp takes CPUs offline and online again, and reads what the kernel
// says about them, through sysfs.
//
// See Documentation/core-api/cpu_hotplug.rst and
// Documentation/ABI/testing/sysfs-devices-system-cpu of the kernel.
package cpuhp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// ErrNotSupported is wrapped by the error of a method that needs what this
// kernel is built without.
var ErrNotSupported = errors.New("cpuhp: not supported by this kernel")

// An FS is what sysfs has of the CPUs. Make one with [New].
type FS struct {
	cpus  string // the directory sys/devices/system/cpu
	wrote func() // nil: nobody is told
}

// New returns the CPUs of the machine whose file system is at root, "/" except
// in tests. The error is an [*Error]. It wraps [fs.ErrNotExist] if there is no
// /sys/devices/system/cpu.
func New(root string) (FS, error) {
	f := FS{cpus: filepath.Join(root, "sys/devices/system/cpu")}
	if _, err := os.Stat(f.cpus); err != nil {
		return FS{}, syserr.In("cpuhp", err)
	}
	return f, nil
}

// AfterWrite returns f with a function that [FS.SetOnline] and [FS.SetSMT] call
// on the writing thread as soon as write(2) has returned, before they close the
// file.
func (f FS) AfterWrite(wrote func()) FS {
	f.wrote = wrote
	return f
}

// path returns the path of an attribute of one CPU.
func (f FS) path(cpu int, attr string) string {
	return filepath.Join(f.cpus, "cpu"+strconv.Itoa(cpu), attr)
}

// Online reads /sys/devices/system/cpu/online: the CPUs that are online. The
// error is an [*Error].
func (f FS) Online() (affinity.CPUSet, error) { return f.cpuSet("online") }

// Offline reads /sys/devices/system/cpu/offline: the CPUs that are not online.
// That includes CPUs that are not possible, if the machine has more than the
// kernel was configured or booted for. The error is an [*Error].
func (f FS) Offline() (affinity.CPUSet, error) { return f.cpuSet("offline") }

// Present reads /sys/devices/system/cpu/present: the CPUs that the machine
// has. The error is an [*Error].
func (f FS) Present() (affinity.CPUSet, error) { return f.cpuSet("present") }

// Possible reads /sys/devices/system/cpu/possible: the CPUs that the machine
// could have until the next boot. The error is an [*Error].
func (f FS) Possible() (affinity.CPUSet, error) { return f.cpuSet("possible") }

func (f FS) cpuSet(name string) (affinity.CPUSet, error) {
	return read(filepath.Join(f.cpus, name), affinity.ParseList)
}

// IsOnline reads /sys/devices/system/cpu/cpuN/online: whether the CPU is
// online. If the CPU has no such file, which may be because it cannot go
// offline and may be because there is no such CPU, Online decides.
//
// While an operation on that CPU is going on, the read waits for its end. The
// error is an [*Error].
func (f FS) IsOnline(cpu int) (bool, error) {
	online, err := read(f.path(cpu, "online"), sysfs.ParseBool)
	if errors.Is(err, fs.ErrNotExist) {
		mask, err := f.Online()
		return mask.Has(cpu), err
	}
	return online, err
}

// SetOnline writes 1 or 0 to /sys/devices/system/cpu/cpuN/online: it takes the
// CPU online or offline. It blocks until the kernel says that this is done,
// which may take 10 s and more. If the CPU is in that state already, nothing
// happens, and there is no error.
//
// The error is an [*Error]; it wraps the errno:
//   - [unix.EBUSY]: the last CPU that is online, or the last that tasks can
//     run on; or CPU hotplug is disabled at the moment, as by a suspend
//   - [unix.EPERM], on arm64 and riscv64 [unix.ECANCELED]: a sibling thread
//     while SMT is off
//   - [unix.EOPNOTSUPP]: the platform cannot do it
//   - [unix.EINVAL]: the CPU is not possible
//   - [unix.EAGAIN]: the failure was injected through cpuN/hotplug/fail
//   - [unix.ENOSPC]: on x86, the other CPUs have no room for the interrupts of
//     the CPU that must go offline
//   - [unix.EIO]: the CPU did not come up in time. Of one that did not die in
//     time the kernel's log tells, and the operation succeeds
//   - [unix.ENOENT]: there is no such CPU, or it is not hotpluggable
//   - [unix.EACCES], [unix.EROFS]: without root; in a container
func (f FS) SetOnline(cpu int, online bool) error {
	value := "0"
	if online {
		value = "1"
	}
	return writeThen(f.path(cpu, "online"), value, f.wrote)
}

// Eject writes 1 to /sys/devices/system/cpu/cpuN/firmware_node/eject: the
// machine loses the CPU, which goes offline for that. It happens after the
// write has returned, and a uevent "remove" of the CPU's tells of it.
//
// The error is an [*Error]; it wraps the errno:
//   - [unix.ENOENT]: there is no such CPU, or the firmware (ACPI) does not let
//     it be removed
//   - [unix.ENODEV]: the kernel does not
//   - [unix.EACCES], [unix.EROFS]: without root; in a container
func (f FS) Eject(cpu int) error { return write(f.path(cpu, "firmware_node/eject"), "1") }

// Hotpluggable returns the present CPUs that have a file
// /sys/devices/system/cpu/cpuN/online, and for each of the others the reason
// why it cannot go offline. The error is an [*Error].
func (f FS) Hotpluggable() (cpus affinity.CPUSet, why map[int]string, err error) {
	present, err := f.Present()
	if err != nil {
		return affinity.CPUSet{}, nil, err
	}
	reason := "the kernel does not let this CPU go offline"
	if _, err := os.Stat(filepath.Join(f.cpus, "hotplug")); errors.Is(err, fs.ErrNotExist) {
		reason = "the kernel is built without CONFIG_HOTPLUG_CPU"
	}
	why = map[int]string{}
	for cpu := range present.All() {
		path := f.path(cpu, "online")
		switch _, err := os.Stat(path); {
		case err == nil:
			cpus = cpus.With(cpu)
		case errors.Is(err, fs.ErrNotExist):
			why[cpu] = fmt.Sprintf("no %s: %s", path, reason)
		default:
			return affinity.CPUSet{}, nil, syserr.In("cpuhp", err)
		}
	}
	return cpus, why, nil
}
