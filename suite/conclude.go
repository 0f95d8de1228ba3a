package suite

import (
	"flag"
	"fmt"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// Conclude is for the TestMain of a test binary that is made for the suite. It
// takes what [testing.M.Run] returned, prints the last line of the run on
// standard output, and returns the status to exit with:
//
//	hotplugtest: Linux 6.12.117+deb13-amd64: 727 passed, 12 skipped, 0 failed
//	hotplugtest: NOTHING WAS TESTED: /sys is mounted read-only
//
// If tests have failed, the line before that names them for -run.
//
// The status is code, or 1 if nothing was tested and [Options.MustTest] is set.
// With -short, or if only other tests were to be run, nothing is printed and
// the status is code.
//
// "go test ." shows nothing of a package that passes. Conclude then prints the
// line on the controlling terminal of the process, /dev/tty, as well. If there
// is none, as in most CI systems, the line shows only with -v or -json, or
// without the dot.
func (o *Options) Conclude(code int) int {
	asked := counted.wasAsked()
	all := counted.since(0)
	switch {
	case testing.Short(), isSet("test.list"), isSet("test.fuzz"):
		return code
	case !asked && (o.OtherTests || isSet("test.bench")):
		return code // the suite was not to be run
	case o.MustTest && all.nothing() != "":
		code = max(code, 1)
	}
	if again := all.again(); again != "" {
		fmt.Printf("hotplugtest: what failed, as -run names it: '%s'\n", again)
	}
	line := all.summary(code != 0) + "\n"
	fmt.Print(line)
	if code == 0 && hidden() {
		tellTerminal(line)
	}
	return code
}

// concludeRun makes the summary of a [Run] the last line of t's log. It must be
// called first in t.
func concludeRun(t *testing.T, opts Options) {
	n := len(counted.since(0))
	t.Cleanup(func() {
		switch v := counted.since(n); {
		case opts.MustTest && v.nothing() != "":
			t.Error(v.summary(true))
		case !t.Skipped():
			t.Log(v.summary(t.Failed()))
		}
	})
	counted.group(t)
}

// isSet reports whether a flag of package testing has a value.
func isSet(name string) bool { return flag.Lookup(name).Value.String() != "" }

// hidden reports whether go test does not show the standard output of a test
// binary that passes: it names -test.paniconexit0 to each that it runs, and
// has a pipe for the output, unless it passes its own terminal on.
func hidden() bool {
	byGoTest := flag.Lookup("test.paniconexit0").Value.String() == "true"
	_, err := unix.IoctlGetTermios(unix.Stdout, unix.TCGETS)
	return byGoTest && err != nil && !testing.Verbose()
}

// tellTerminal writes to the controlling terminal of the process, if it has
// one. It does not wait for a terminal that takes no output.
func tellTerminal(text string) {
	// Else a terminal that is set to tostop stops a background process.
	signal.Ignore(unix.SIGTTOU)
	fd, err := unix.Open("/dev/tty", unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Write(fd, []byte(text))
}
