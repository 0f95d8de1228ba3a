package hotplugtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

const zoneInfo = "/proc/zoneinfo"

// pageLists are the limits of the lists of free pages that each CPU keeps of a
// zone. They are the same for all CPUs.
type pageLists struct {
	node  int
	low   int // the zone's watermark
	high  int // pages that one list may have at least: high_min
	batch int
}

// parsePageLists returns the limits by the zone, such as "Node 0, zone Normal".
func parsePageLists(text string) (map[string]pageLists, error) {
	zones := make(map[string]pageLists)
	var zone string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 4 && fields[0] == "Node" {
			node, err := strconv.Atoi(strings.TrimSuffix(fields[1], ","))
			if err != nil {
				return nil, err
			}
			zone = strings.Join(fields, " ")
			zones[zone] = pageLists{node: node}
		}
		if len(fields) != 2 || zone == "" {
			continue
		}
		lists := zones[zone]
		to, ok := map[string]*int{"low": &lists.low, "high_min:": &lists.high, "batch:": &lists.batch}[fields[0]]
		if !ok {
			continue
		}
		value, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", zone, err)
		}
		*to = value
		zones[zone] = lists
	}
	return zones, nil
}

// needsPageLists is for a kernel that tells of the least limit. Since
// 51a755c56dc0 ("mm: tune PCP high automatically", v6.7) the other one, high,
// varies with what CPUs do.
func needsPageLists(*Machine) error {
	zones, err := sysfs.Read(zoneInfo, parsePageLists)
	if err != nil {
		return err
	}
	for _, lists := range zones {
		if lists.high > 0 {
			return nil
		}
	}
	return suite.Unsupportedf("%s has no high_min: older kernels do not tell", zoneInfo)
}

// nodeOf returns the NUMA node of a CPU, and the CPUs of the node that are online.
// Without CONFIG_NUMA all CPUs are in one node, which /proc/zoneinfo calls 0.
func nodeOf(sys suite.CPUs, cpu int) (node int, cpus affinity.CPUSet, err error) {
	online, err := sys.Online()
	if err != nil {
		return 0, cpus, err
	}
	node, err = sys.Node(cpu)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, online, nil
	}
	for other := range online.All() {
		of, otherErr := sys.Node(other)
		if err = errors.Join(err, otherErr); of == node {
			cpus = cpus.With(other)
		}
	}
	return node, cpus, err
}

// tooLong returns a zone of the node whose lists are as long with all of so many
// CPUs as without one, or "". told is how many zones tell: a list is never shorter
// than four batches, and the watermark, which is shared, must be the same.
func tooLong(without, with map[string]pageLists, node, cpus int) (zone string, told int) {
	for _, name := range slices.Sorted(maps.Keys(without)) {
		before, after := without[name], with[name]
		if before.node != node || min(before.high, after.high) == 0 || before.high <= max(4*before.batch, cpus) || after.low != before.low {
			continue
		}
		if told++; after.high >= before.high && zone == "" {
			zone = name
		}
	}
	return zone, told
}

// listTries is how often in a row the lists have to be too long. The kernel raises
// the watermark of a zone for a moment if its memory gets fragmented (boost). If
// it shares the raised one, nothing tells of that afterwards.
const listTries = 3

// listsShared takes the CPU offline and online, and compares the limits without
// it to those with it.
func listsShared(x *Scene, cpu int) error {
	node, cpus, err := nodeOf(x.Machine.CPUs, cpu)
	if err != nil {
		return err
	}
	if cpus.Count() < 2 {
		return suite.Unsupportedf("cpu%d is alone in node %d, and its lists are as long without it", cpu, node)
	}
	return alwaysTooLong(func() (wrong error, told int, err error) {
		without, with, err := limits(x, cpu)
		if err != nil {
			return nil, 0, err
		}
		zone, told := tooLong(without, with, node, cpus.Count())
		if zone != "" {
			wrong = fmt.Errorf("%s: the lists of free pages in %s may have %d pages with cpu%d, and %d without it", zone, zoneInfo, with[zone].high, cpu, without[zone].high)
		}
		return wrong, told, nil
	})
}

// alwaysTooLong has look tell, again and again, what is wrong with the lists, and
// how many zones tell. It returns what is wrong each time.
func alwaysTooLong(look func() (wrong error, told int, err error)) error {
	silent := false
	var last error
	for range listTries {
		wrong, told, err := look()
		switch {
		case err != nil:
			return err
		case told == 0:
			silent = true
		case wrong == nil:
			return nil
		}
		last = wrong
	}
	if silent {
		return suite.Unsupportedf("no zone tells each time: the lists are as short as they can be, or the watermark has changed meanwhile")
	}
	return last
}

// limits returns the limits while a CPU is offline, and when it is back.
func limits(x *Scene, cpu int) (without, with map[string]pageLists, err error) {
	if err := x.Set(cpu, Offline); err != nil {
		return nil, nil, err
	}
	without, err = sysfs.Read(zoneInfo, parsePageLists)
	if err := errors.Join(err, x.Set(cpu, Online)); err != nil {
		return nil, nil, err
	}
	with, err = sysfs.Read(zoneInfo, parsePageLists)
	return without, with, err
}
