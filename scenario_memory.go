package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// memoryScenarios are about the memory of tasks and of cgroups.
var memoryScenarios = []Scenario{
	{
		Name:    "memory-policy",
		Promise: "memory that is bound to a node by mbind(2) with MPOL_F_STATIC_NODES is bound to it when a CPU was offline and is back",
		Source:  `mbind(2): MPOL_F_STATIC_NODES; "cgroup/cpuset: rebind mm mempolicy to effective_mems, not mems_allowed" (v7.2)`,
		Known:   []Defect{policyLosesNodes},
		Needs:   allOf(suite.NeedsChild, needsPolicy),
		Cycle:   policyKept,
	},
	{
		Name: "memory-counters",
		Promise: "memory.stat of a cgroup and of its ancestors counts no anonymous memory any more when all of it is free, " +
			"though a CPU has gone offline meanwhile: one that it was taken on, or was not",
		Source:   docCgroup + `: memory.stat, anon; a3d4c05a4474 ("mm: memcontrol: fix cpuhotplug statistics flushing", v5.13)`,
		Known:    []Defect{memcgAddsAnew},
		Needs:    allOf(needsMemcg, needsStaying),
		Together: true,
		Cycle:    memoryCounted,
	},
	{
		Name:    "memory-charged",
		Promise: "what a CPU has charged to a cgroup ahead of its use can be had back when the CPU has gone offline: it is not in memory.current for as long as the CPU is away",
		Source:  docCgroup + ": memory.current, memory.high; mm/memcontrol.c: memcg_hotplug_cpu_dead()",
		Needs:   needsMemcg,
		Cycle:   memoryCharged,
	},
}

// Of include/uapi/linux/mempolicy.h.
const (
	mpolBind     = 2
	mpolStatic   = 1 << 15 // MPOL_F_STATIC_NODES
	mpolRelative = 1 << 14 // MPOL_F_RELATIVE_NODES
)

// boundMemory returns a page of memory that is bound to a node, with a flag of
// mbind(2), and what gives it back.
func boundMemory(node int, flag uintptr) (page []byte, unmap func() error, err error) {
	page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	unmap = func() error { return os.NewSyscallError("munmap", unix.Munmap(page)) }
	page[0] = 1
	nodes := make([]uint64, node/64+1)
	nodes[node/64] = 1 << (node % 64)
	_, _, errno := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(&page[0])), uintptr(len(page)), mpolBind|flag,
		uintptr(unsafe.Pointer(&nodes[0])), uintptr(64*len(nodes)+1), 0)
	if errno != 0 {
		return nil, nil, errors.Join(os.NewSyscallError("mbind", errno), unmap())
	}
	return page, unmap, nil
}

// policy returns the memory policy of a page of this process: "bind=static:0"
// of its line in /proc/self/numa_maps, "7f0000000000 bind=static:0 anon=1 …".
func policy(page []byte) (string, error) {
	text, err := sysfs.ReadFile("/proc/self/numa_maps")
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("%x", uintptr(unsafe.Pointer(&page[0])))
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.TrimLeft(fields[0], "0") == address {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("/proc/self/numa_maps has no line of %s", address)
}

// needsPolicy is for a kernel with memory policies that can be looked at.
func needsPolicy(*Machine) error {
	if err := fileMissing("/proc/self/numa_maps", "CONFIG_NUMA"); err != nil {
		return err
	}
	_, err := memoryNode()
	return err
}

// memoryNode returns a node that has memory.
func memoryNode() (int, error) {
	nodes, err := sysfs.Read("/sys/devices/system/node/has_memory", affinity.ParseList)
	if err != nil {
		return 0, suite.Unsupportedf("%v", err)
	}
	node, ok := nodes.First()
	if !ok {
		return 0, suite.Unsupportedf("no node has memory")
	}
	return node, nil
}

// policyKept has a thread of this process in the child cpuset, to which nobody
// has ever given nodes, while the CPU goes offline and comes back.
func policyKept(x *Scene, cpu int) error {
	node, err := memoryNode()
	if err != nil {
		return err
	}
	stays, err := x.Machine.Shared()
	if err != nil {
		return err
	}
	return withSleepingTask(x, stays, func(int) (err error) {
		page, unmap, err := boundMemory(node, mpolStatic)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unmap()) }()
		before, err := policy(page)
		if err != nil {
			return err
		}
		if err := x.OffAndOn(cpu); err != nil {
			return err
		}
		after, err := policy(page)
		if err == nil && after != before {
			err = fmt.Errorf("when cpu%d is back, the policy of memory that is bound to node %d is %q in /proc/self/numa_maps, and was %q", cpu, node, after, before)
		}
		return err
	})
}

// memoryLevels is how many cgroups are below each other. A kernel that adds a
// CPU's share once for each level then adds more than it may be wrong by.
const memoryLevels = 24

// needsMemcg is for a machine with the memory controller of cgroup v2.
func needsMemcg(m *Machine) error {
	if runtime.GOARCH != "amd64" {
		return suite.Unsupportedf("the program that takes memory is for amd64")
	}
	if err := suite.NeedsChild(m); err != nil {
		return err
	}
	controllers, err := sysfs.ReadFile(filepath.Join(m.Root.Group.Path(), "cgroup.controllers"))
	if err != nil {
		return suite.Unsupportedf("%v", err)
	}
	if !slices.Contains(strings.Fields(controllers), "memory") {
		return suite.Unsupportedf("no memory controller in %s: it has %s", m.Root.Group.Path(), controllers)
	}
	return nil
}

// memoryCounted has processes in the last of many cgroups take memory on the
// CPU, and on one that stays and takes it offline. It looks at the counts when
// the processes have ended.
func memoryCounted(x *Scene, cpu int) (err error) {
	groups, remove, err := memoryGroups(x.Machine.Root.Group, memoryLevels)
	defer func() { err = errors.Join(err, remove()) }()
	if err != nil {
		return err
	}
	stays, err := x.Staying()
	if err != nil {
		return err
	}
	leaf := groups[len(groups)-1]
	var ends []func() error
	end := func() (err error) {
		for _, end := range ends {
			err = errors.Join(err, end())
		}
		return err
	}
	for _, on := range []int{cpu, stays} {
		one, err := takeMemory(leaf, on)
		if err != nil {
			return errors.Join(err, end())
		}
		ends = append(ends, one)
	}
	err = x.Do(fmt.Sprintf("taking cpu%d offline from cpu%d", cpu, stays), func() error {
		if err := affinity.Set(0, affinity.Of(stays)); err != nil {
			return err
		}
		return x.Machine.CPUs.SetOnline(cpu, false)
	})
	if err := errors.Join(err, end(), x.Set(cpu, Online)); err != nil {
		return err
	}
	// What is less than a batch for each CPU may be on its way from the CPUs'
	// counts to the cgroup's: MEMCG_CHARGE_BATCH. Two processes do not run on
	// more than a few, and have the rest of their lives on one.
	most := min(x.Machine.Online.Count(), 4) * 64 * os.Getpagesize()
	for _, c := range groups {
		anon, err := memoryStat(c, "anon")
		if err != nil {
			return err
		}
		if anon > most {
			return fmt.Errorf("anon in memory.stat of %s is %d when all of it is free, and may be wrong by %d", c.Path(), anon, most)
		}
	}
	return nil
}

// chargedPages is fewer than a CPU charges ahead, which is 64 pages at a time
// (MEMCG_CHARGE_BATCH), and more than is left of the processes of a cgroup.
const chargedPages = 16

// memoryCharged has a process take memory on the CPU, and sees whether what is
// charged to its cgroup can be had back when the CPU has gone. What is so only
// until the CPU is back was charged by it.
func memoryCharged(x *Scene, cpu int) (err error) {
	groups, remove, err := memoryGroups(x.Machine.Root.Group, 1)
	defer func() { err = errors.Join(err, remove()) }()
	if err != nil {
		return err
	}
	group := groups[0]
	end, err := takeMemory(group, cpu)
	if err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	without, err := leastCharged(group)
	if err := errors.Join(err, x.Set(cpu, Online)); err != nil || without <= chargedPages {
		return err
	}
	with, err := leastCharged(group)
	if err == nil && with <= chargedPages {
		err = fmt.Errorf("%d pages are charged to %s, which has no process, while cpu%d is offline, and %d when it is back", without, group.Path(), cpu, with)
	}
	return err
}

// leastCharged returns how many pages are charged to a cgroup when it may have
// none: what CPUs that are online have charged ahead, memory.high takes back.
func leastCharged(group *cpuset.Group) (pages int, err error) {
	suite.WaitFor(suite.TaskTimeout, func() bool {
		var bytes int
		if err = sysfs.WriteFile(filepath.Join(group.Path(), "memory.high"), "0"); err == nil {
			bytes, err = sysfs.Read(filepath.Join(group.Path(), "memory.current"), strconv.Atoi)
		}
		pages = bytes / os.Getpagesize()
		return err != nil || pages <= chargedPages
	})
	return pages, err
}

// memoryGroups makes so many cgroups below each other that count memory.
func memoryGroups(root *cpuset.Group, levels int) (groups []*cpuset.Group, remove func() error, err error) {
	h, err := cpuset.New("/")
	if err != nil {
		return nil, func() error { return nil }, err
	}
	remove, err = h.Enable("memory")
	if err != nil {
		return nil, func() error { return nil }, err
	}
	c, err := root.Create(fmt.Sprintf("hotplugtest-%d-memory", os.Getpid()))
	if err != nil {
		return nil, remove, err
	}
	disable, first := remove, c
	remove = func() error { return errors.Join(first.Remove(), disable()) }
	for {
		if groups = append(groups, c); len(groups) == levels {
			return groups, remove, nil
		}
		if err := sysfs.WriteFile(filepath.Join(c.Path(), "cgroup.subtree_control"), "+memory"); err != nil {
			return nil, remove, err
		}
		if c, err = c.Create("below"); err != nil {
			return nil, remove, err
		}
	}
}

// memoryStat returns a number of a cgroup's memory.stat, in bytes.
func memoryStat(c *cpuset.Group, name string) (int, error) {
	return sysfs.Read(filepath.Join(c.Path(), "memory.stat"), func(text string) (int, error) {
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				return strconv.Atoi(strings.TrimSpace(value))
			}
		}
		return 0, fmt.Errorf("no %s", name)
	})
}
