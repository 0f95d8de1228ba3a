// Package crash tells apart the crashes of kernels, and knows those that are
// defects of the kernel as it is.
package crash

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/vm"
)

var (
	crashedIn = regexp.MustCompile(`(?m)RIP: [0-9a-f]+:([A-Za-z_][\w.]*)\+0x|^\S*\s*pc : ([A-Za-z_][\w.]*)\+0x`)
	thread    = regexp.MustCompile(`\d+`)

	// linux is how a failure names the kernel.
	linux = regexp.MustCompile(`\(Linux (\d+)\.(\d+)`)
)

// Violation returns the end of a VM as the violation of a law. Its key has the
// function that the kernel crashed in, or else how the VM ended.
func Violation(f *vm.Failure) explore.Violation {
	touches := thread.ReplaceAllString(strings.SplitN(f.What, " (Linux", 2)[0], "N")
	if m := crashedIn.FindStringSubmatch(f.Console); m != nil {
		touches = "crash in " + m[1] + m[2]
	}
	return explore.Violation{Law: explore.Survives.Name, Touches: touches, Seen: f.What}
}

// Known reports whether the crash is known to be a defect of the kernel.
func Known(f *vm.Failure) bool {
	m := linux.FindStringSubmatch(f.What)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return explore.IsKnown(explore.KnownIn(explore.Version{major, minor}), Violation(f).Key())
}
