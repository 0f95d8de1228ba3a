package cpuhp

import (
	"errors"
	"path/filepath"
	"strconv"

	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// SMT reads /sys/devices/system/cpu/smt/control and active: whether sibling
// threads may be online, and whether there are any online. control is "on",
// "off", "forceoff", "notsupported", "notimplemented", or, if some threads of
// each core may be online and others must not, how many: powerpc has up to
// eight (since v6.6). The error wraps [ErrNotSupported] if the kernel has no
// such files.
func (f FS) SMT() (control string, active bool, err error) {
	control, err = readSupported(filepath.Join(f.cpus, "smt/control"), asIs)
	if err != nil {
		return "", false, err
	}
	active, err = read(filepath.Join(f.cpus, "smt/active"), sysfs.ParseBool)
	if err != nil {
		return "", false, err
	}
	return control, active, nil
}

// SMTEnabled reports whether a control that [FS.SMT] has returned lets sibling
// threads be online: "on", or a number of threads.
func SMTEnabled(control string) bool {
	threads, err := strconv.Atoi(control)
	return control == "on" || err == nil && threads > 1
}

// SetSMT writes to /sys/devices/system/cpu/smt/control. "off" takes all sibling
// threads offline but the first of each core, and "on" brings all present CPUs
// online, on x86 also those that were taken offline one by one. Since v6.17
// (2066f00e5b2d), it leaves a core offline of which all threads were. A number,
// such as "2", does either until so many threads of each core are online. On
// x86 only the numbers that mean off and on are valid. SetSMT blocks until the
// kernel says that this is done. "forceoff" is refused here: nothing but a
// reboot undoes it.
//
// The error wraps the errno: [unix.ENODEV] where SMT is not supported,
// [unix.EPERM] after a forceoff, [unix.EBUSY] while CPU hotplug is disabled,
// [unix.EINVAL] for another value. It wraps [ErrNotSupported] if the kernel has
// no such file.
func (f FS) SetSMT(control string) error {
	path := filepath.Join(f.cpus, "smt/control")
	if control == "forceoff" {
		return &Error{Package: "cpuhp", Op: "write", Path: path, Value: control, Err: errors.New("cannot be undone before a reboot")}
	}
	return supported(sysfs.WriteFileThen(path, control, f.wrote))
}
