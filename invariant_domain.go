package hotplugtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// rootBalanced returns an [*Unsupported] if somebody has taken load balancing
// from the root cpuset, as can be done on cgroup v1. Then only CPUs of child
// cpusets that ask for it are in scheduling domains.
func rootBalanced(m *Machine) error {
	if m.Root.Group == nil {
		return nil
	}
	switch balanced, err := m.Root.Group.LoadBalanced(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // cgroup v2: see partitions
	case err == nil && !balanced:
		return suite.Unsupportedf("no load is balanced in the root cpuset: sched_load_balance in %s is 0", m.Root.Group.Path())
	default:
		return err
	}
}

// needsDomains is for what /proc/schedstat says of scheduling domains.
func needsDomains(v View) error {
	if err := rootBalanced(v.Machine); err != nil {
		return err
	}
	return fileMissing("/proc/schedstat", "CONFIG_SCHEDSTATS")
}

// balanced reports whether load must be balanced to the CPU from others: it is
// not isolated, and not the only CPU that is not.
func balanced(p *Probe) (bool, error) {
	// Nobody else's partition is balanced with it.
	cpus, err := p.Machine.Shared()
	if err != nil {
		return false, err
	}
	if p.From.Partition != nil {
		if cpus, err = p.From.Group.CPUs(); err != nil {
			return false, err
		}
		if p.From.Partition.Kind == "isolated" {
			return false, nil
		}
	}
	isolated, err := p.Machine.CPUs.Isolated()
	return !isolated.Has(p.CPU) && !cpus.Difference(isolated).Without(p.CPU).Empty(), err
}

// parseDomains returns the CPUs that are in any scheduling domain of a
// /proc/schedstat. Below each CPU's line are those of its domains: "domain0
// MASK 1 2 …", and from version 17 on, "domain0 NAME MASK 1 2 …".
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

// armDomains checks that the CPU is in a scheduling domain, or in none if it is
// isolated or alone.
func armDomains(p *Probe) (Check, error) {
	return func() error {
		data, err := os.ReadFile("/proc/schedstat")
		if err != nil {
			return err
		}
		spans, err := parseDomains(string(data))
		if err != nil {
			return err
		}
		if p.State == Online {
			balanced, err := balanced(p)
			if err == nil && !balanced && spans.Has(p.CPU) {
				err = fmt.Errorf("load is balanced to a CPU that is isolated, or has no other to share with: the domains of all CPUs have %v", spans)
			}
			if err != nil || !balanced {
				return err
			}
		}
		return p.Listed(spans.Has(p.CPU), "the domains of all CPUs have %v", spans)
	}, nil
}

const nodeDir = "/sys/devices/system/node"

// keepsNodes is for an architecture on which a CPU that is offline still belongs
// to its node, which then has a CPU: cpumask_of_node() and vmstat_cpu_dead().
const keepsNodes = runtime.GOARCH == "ppc64le"

// armNode checks which NUMA nodes list the CPU, and which are listed as having
// one.
func armNode(p *Probe) (Check, error) {
	home, err := p.Machine.CPUs.Node(p.CPU)
	return func() error {
		files, err := filepath.Glob(nodeDir + "/node*/cpulist")
		if err != nil {
			return err
		}
		var at, elsewhere, nodes affinity.CPUSet
		for _, file := range files {
			cpus, err := sysfs.Read(file, affinity.ParseList)
			if err != nil {
				return err
			}
			node, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "node"))
			if err != nil {
				return err
			}
			if !cpus.Empty() {
				nodes = nodes.Union(affinity.Of(node))
			}
			if node == home {
				at = cpus
			} else {
				elsewhere = elsewhere.Union(cpus)
			}
		}
		if elsewhere.Has(p.CPU) {
			return fmt.Errorf("cpu%d is of node %d, but the cpulists of the others have %v", p.CPU, home, elsewhere)
		}
		if err := p.Listed(at.Has(p.CPU), "the cpulist of node %d has %v", home, at); err != nil {
			return err
		}
		// A list of nodes is written as one of CPUs is.
		listed, err := sysfs.Read(nodeDir+"/has_cpu", affinity.ParseList)
		if keepsNodes {
			listed = listed.Intersect(nodes)
		}
		if err == nil && !listed.Equal(nodes) {
			err = fmt.Errorf("%s/has_cpu lists nodes %v, and those with CPUs in their cpulists are %v", nodeDir, listed, nodes)
		}
		return err
	}, err
}
