//go:build !selftest

package hotplugtest_test

import (
	"fmt"
	"testing"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/affinity"
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

// A promise of your own, which is checked after each transition, at each of its
// moments. Arm prepares the check before the transition begins; what it returns
// is called at the moment.
func ExampleDefault() {
	tables := hotplugtest.Default()
	tables.Invariants = append(tables.Invariants, hotplugtest.Invariant{
		Name:    "two-cpus",
		Promise: "a thread may be told to run on the CPU and another one while the CPU is online",
		Source:  "sched_setaffinity(2)",
		After:   hotplugtest.Online,
		Placed:  true, // check it from each cpuset
		Arm: func(p *hotplugtest.Probe) (hotplugtest.Check, error) {
			mask := affinity.Of(0, p.CPU)
			return func() error {
				if err := affinity.Set(0, mask); err != nil {
					return err
				}
				cpus, err := affinity.Get(0)
				if err == nil && !cpus.Has(p.CPU) {
					err = fmt.Errorf("sched_getaffinity gives %v", cpus)
				}
				return err
			}, nil
		},
	})
	_ = func(t *testing.T) {
		hotplugtest.Run(t, hotplugtest.Options{Tables: &tables})
	}
}
