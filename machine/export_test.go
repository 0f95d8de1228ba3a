package machine

import (
	"testing"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// FakeThreads has affinities given to f instead of to threads, and modules to remove, until the test ends.
func FakeThreads(t *testing.T, setAffinityFake func(tid int, set affinity.CPUSet) error, deleteModuleFake func(name string) error) {
	affinityWas, moduleWas := setAffinity, deleteModule
	t.Cleanup(func() { setAffinity, deleteModule = affinityWas, moduleWas })
	setAffinity, deleteModule = setAffinityFake, deleteModuleFake
}

var ParseStat = parseStat
