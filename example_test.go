//go:build !selftest

package hotplugtest_test

import (
	"testing"

	"github.com/hotplugtest/hotplugtest"
)

// The whole suite as subtests of one of your own tests. It skips if the machine
// does not allow it to run, unless MustTest is set.
func ExampleRun() {
	_ = func(t *testing.T) {
		hotplugtest.Run(t, hotplugtest.Options{
			CPUs:     "2-3", // take no other CPU offline
			MustTest: true,
		})
	}
}
