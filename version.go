package hotplugtest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// version is that of a kernel, as far as promises depend on it.
type version struct{ major, minor int }

// runningKernel returns the version in the release that uname(2) gives: 6.1 for 6.1.0-50-amd64.
func runningKernel() (v version, err error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return v, err
	}
	release := unix.ByteSliceToString(uname.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &v.major, &v.minor); err != nil {
		return v, fmt.Errorf("uname: release %q: %w", release, err)
	}
	return v, nil
}

// since tells whether it is major.minor or later.
func (v version) since(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// between tells whether it is one from the first up to, but not, the second.
func (v version) between(major, minor, untilMajor, untilMinor int) bool {
	return v.since(major, minor) && !v.since(untilMajor, untilMinor)
}
