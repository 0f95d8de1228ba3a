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

// lastNode returns the CPUs of the last NUMA node. The first has the boot CPU.
func lastNode(m *Machine) (node int, cpus affinity.CPUSet, err error) {
	online, err := m.CPUs.Online()
	if err != nil {
		return 0, cpus, err
	}
	nodes := make(map[int]affinity.CPUSet)
	for cpu := range online.All() {
		of, err := m.CPUs.Node(cpu)
		if err != nil {
			return 0, cpus, err
		}
		nodes[of] = nodes[of].With(cpu)
		node = max(node, of)
	}
	return node, nodes[node], nil
}

// lastOfNode takes all CPUs of a NUMA node offline but one.
func lastOfNode(m *Machine) (Prepared, error) {
	node, cpus, err := lastNode(m)
	if err != nil {
		return Prepared{}, err
	}
	cpu, _ := cpus.Last()
	return offlineAllBut(m, cpu, cpus.Without(cpu), fmt.Sprintf("the last one of node %d", node))
}
