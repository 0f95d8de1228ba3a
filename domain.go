package hotplugtest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// balanced tells whether the CPU must have load balanced to it from others: it is neither isolated nor, of those that are
// not, the only one.
func (p *Probe) balanced() (bool, error) {
	cpus, err := p.suite.cpus.Online()
	if err != nil {
		return false, err
	}
	if p.placement.partition != nil {
		if cpus, err = p.placement.cpuset.CPUs(); err != nil {
			return false, err
		}
		if p.placement.partition.Kind == "isolated" {
			return false, nil
		}
	}
	isolated, err := p.suite.cpus.Isolated()
	return !isolated.Has(p.CPU) && !cpus.Difference(isolated).Without(p.CPU).Empty(), err
}

// parseDomains returns the CPUs that are in any scheduling domain of a /proc/schedstat. Below each CPU's line are those of
// its domains: "domain0 MASK 1 2 …", and from version 17 on, "domain0 NAME MASK 1 2 …".
func parseDomains(text string) (affinity.CPUSet, error) {
	var spans affinity.CPUSet
	mask := 1
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "version":
			if version, err := strconv.Atoi(fields[1]); err == nil && version >= 17 {
				mask = 2
			}
		case len(fields) > mask && strings.HasPrefix(fields[0], "domain"):
			span, err := affinity.ParseMask(fields[mask])
			if err != nil {
				return spans, fmt.Errorf("/proc/schedstat: %s: %w", fields[0], err)
			}
			spans = spans.Union(span)
		}
	}
	return spans, nil
}
