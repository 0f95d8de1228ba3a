//go:build !selftest

package hotplugtest_test

import (
	"flag"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/record"
)

// The binary that is built for virtual machines, and for devices without Go, has
// no -out: whoever runs it takes its output, and makes the reports.
var out = flag.String("out", "", "`directory` to write junit.xml, results.json, report.html, summary.md and the kernel's console.log into")

// recorded runs the tests in another process of this binary, and writes the
// files that -out asks for. It reports whether it did.
func recorded() (code int, ok bool) {
	if *out == "" {
		return 0, false
	}
	name := "this machine"
	var uname unix.Utsname
	if unix.Uname(&uname) == nil {
		name = unix.ByteSliceToString(uname.Release[:])
	}
	return record.Run(record.Options{
		Binary: os.Args[0], Args: record.Without(os.Args[1:], "out", "test.v"), Dir: *out,
		Name: "hotplugtest/" + name, Verbose: testing.Verbose(), Kmsg: "/dev/kmsg",
	}, os.Stdout), true
}
