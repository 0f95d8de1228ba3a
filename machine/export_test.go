package machine

import (
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// FakeThreads has affinities given to f instead of to threads, and modules to
// remove, until the test ends.
func FakeThreads(t *testing.T, setAffinityFake func(tid int, set affinity.CPUSet) error, deleteModuleFake func(name string) error) {
	affinityWas, moduleWas := setAffinity, deleteModule
	t.Cleanup(func() { setAffinity, deleteModule = affinityWas, moduleWas })
	setAffinity, deleteModule = setAffinityFake, deleteModuleFake
}

var ParseStat = parseStat

// FakeUnmount has mounts given to f instead of to the kernel, until the test
// ends.
func FakeUnmount(t *testing.T, f func(dir string) error) {
	was := unmount
	t.Cleanup(func() { unmount = was })
	unmount = f
}

// LeaksAfter is s.Leaks with another grace.
func LeaksAfter(s *Stock, grace time.Duration) []string {
	defer func(was time.Duration) { leakGrace = was }(leakGrace)
	leakGrace = grace
	return s.Leaks()
}
