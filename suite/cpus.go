package suite

import (
	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
)

// CPUs is what the kernel lets be done with CPUs and says about them. It is a
// [cpuhp.FS], where each method is described.
type CPUs interface {
	Online() (affinity.CPUSet, error)
	Offline() (affinity.CPUSet, error)
	Present() (affinity.CPUSet, error)
	Possible() (affinity.CPUSet, error)
	Isolated() (affinity.CPUSet, error)
	NohzFull() (affinity.CPUSet, error)
	Hotpluggable() (cpus affinity.CPUSet, why map[int]string, err error)

	IsOnline(cpu int) (bool, error)
	SetOnline(cpu int, online bool) error
	State(cpu int) (state, target int, err error)
	States() ([]cpuhp.State, error)
	SetFail(cpu, state int) error
	ThreadSiblings(cpu int) (affinity.CPUSet, error)
	Node(cpu int) (int, error)

	SMT() (control string, active bool, err error)
	SetSMT(control string) error
}
