package hotplugtest

import (
	"fmt"
	"slices"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// firstOnline picks the CPUs that have never been online.
func firstOnline(m *Machine) (Prepared, error) {
	if m.Options.CPUs != "" {
		return Prepared{}, suite.Unsupportedf("CPU %v, never online, is not among those to be used, %s", m.NeverOnline, m.Options.CPUs)
	}
	if m.Booted(NoSMT) {
		return Prepared{}, suite.Unsupportedf("CPUs %v, never online, may be second threads, which the kernel refuses with ECANCELED while SMT is off: it cannot be told before", m.NeverOnline)
	}
	cpus := slices.Collect(m.StillNeverOnline().All())
	if len(cpus) == 0 {
		return Prepared{}, suite.Unsupportedf("it can be done to a CPU once, and all have been online by now")
	}
	return Prepared{CPUs: cpus}, nil
}

// lastOfNode takes all CPUs of a NUMA node offline but one. It is the last
// node, as the first has the boot CPU.
func lastOfNode(m *Machine) (Prepared, error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return Prepared{}, err
	}
	nodes := make(map[int]affinity.CPUSet)
	last := 0
	for cpu := range online.All() {
		node, err := m.CPUs.Node(cpu)
		if err != nil {
			return Prepared{}, err
		}
		nodes[node] = nodes[node].With(cpu)
		last = max(last, node)
	}
	cpu, _ := nodes[last].Last()
	return offlineAllBut(m, cpu, nodes[last].Without(cpu), fmt.Sprintf("the last one of node %d", last))
}
