package hotplugtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/internal/ledger"
	"github.com/hotplugtest/hotplugtest/suite"
)

// kthreadScenarios are about where the kernel's own threads may run, and about
// partitions that an operation is not about.
var kthreadScenarios = []Scenario{
	{
		Name:    "kernel-threads",
		Promise: "each of the kernel's threads may run on the same CPUs as before when the CPU is back",
		Source:  "kernel/workqueue.c: restore_unbound_workers_cpumask(); mm/vmscan.c: kswapd_cpu_online(); Documentation/core-api/workqueue.rst: affinity scopes",
		Cycle: func(x *Scene, cpu int) error {
			return sameKernelThreads(x.Machine, fmt.Sprintf("when cpu%d is back", cpu), strconv.Itoa(cpu), func() error { return x.OffAndOn(cpu) })
		},
	},
	{
		Name:     "kernel-threads-node",
		Promise:  "kcompactd of a NUMA node may run on the same CPUs as before when all CPUs of the node were offline and are back",
		Source:   `mm/compaction.c: kcompactd_cpu_online(); d1a89197589c ("kthread: Default affine kthread to its preferred NUMA node", v6.14)`,
		Needs:    allOf(needsNodes, needsNoIsolation),
		Together: true,
		Cycle:    nodeGoes,
	},
	{
		Name:     "kernel-threads-partition",
		Promise:  "each of the kernel's threads may run on the same CPUs as before when a partition was made and removed",
		Source:   docCgroup + `: cpuset.cpus.partition; "cgroup/cpuset: Extend kthread_is_per_cpu() check to all PF_NO_SETAFFINITY tasks" (v6.16)`,
		Known:    []Defect{partitionFreesKthreads, partitionFreesNodeThreads},
		Except:   []Span{partitionsTakeKthreads},
		Needs:    suite.NeedsChild,
		Together: true,
		Cycle: func(x *Scene, cpu int) error {
			return sameKernelThreads(x.Machine, fmt.Sprintf("when a partition of cpu%d was made and removed", cpu), "", func() error {
				return withPartition(x, "-kthreads", "root", affinity.Of(cpu), func(*cpuset.Group) error { return nil })
			})
		},
	},
	{
		Name: "other-partitions",
		Promise: "a partition that does not have the CPU stays one and keeps its CPUs, and an invalid partition stays invalid, " +
			"while the CPU is offline and when it is back",
		Source: docCgroup + `: cpuset.cpus.partition; "cgroup/cpuset.c: Fix a partition error with CPU hotplug" (v6.17)`,
		Except: []Span{partitionsTakeKthreads},
		Needs:  allOf(suite.NeedsChild, needsOther),
		Cycle:  otherPartitions,
	},
}

func needsNodes(m *Machine) error {
	if !m.Booted(NUMA) {
		return suite.Unsupportedf("the machine has CPUs in one NUMA node only")
	}
	return nil
}

// compactionInterval is longer than kcompactd sleeps as a rule. If it wakes up
// without a CPU of its node, it has to go elsewhere. If it sleeps for longer, as on
// a node that is fragmented or without vm.compaction_proactiveness, nothing can be
// told.
const compactionInterval = 2 * time.Second

// nodeGoes takes all CPUs of the last NUMA node offline until kcompactd has
// noticed, and brings them back.
func nodeGoes(x *Scene, _ int) error {
	m := x.Machine
	node, cpus, err := lastNode(m)
	if err != nil {
		return err
	}
	if rest := cpus.Difference(m.Usable); !rest.Empty() {
		return suite.Unsupportedf("CPUs %v of node %d are not to go offline", rest, node)
	}
	before, err := compactor(node)
	if err != nil {
		return err
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return err
	}
	want := make(map[string]string)
	for thread, mask := range before {
		if !ofNode(mask, cpus, online) {
			return suite.Unsupportedf("thread %s may run on CPUs %s, and those of its node are %v: somebody else has moved it", thread, mask, cpus)
		}
		want[thread] = cpus.String()
	}
	for cpu := range cpus.All() {
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
	}
	var now map[string]string
	strays := suite.WaitAsleep(compactionInterval, func() bool {
		now, err = compactor(node)
		return err != nil || threadsMoved(want, now, online, "") != nil
	})
	for cpu := range cpus.All() {
		err = errors.Join(err, x.Set(cpu, Online))
	}
	if err != nil {
		return err
	}
	if now, err = compactor(node); err != nil {
		return err
	}
	err = threadsMoved(want, now, online, fmt.Sprintf("when CPUs %v of node %d are back", cpus, node))
	if err == nil && !strays {
		err = suite.Unsupportedf("kcompactd%d has slept for %v, and was not taken from the CPUs of its node", node, compactionInterval)
	}
	return err
}

// compactor returns where kcompactd of a node may run, as kthreadMasks does.
func compactor(node int) (map[string]string, error) {
	masks, err := kthreadMasks("")
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf(" kcompactd%d ", node)
	maps.DeleteFunc(masks, func(thread, _ string) bool { return !strings.Contains(thread, name) })
	if len(masks) == 0 {
		return nil, suite.Unsupportedf("there is no thread kcompactd%d: the kernel has no CONFIG_COMPACTION, or the node has no memory", node)
	}
	return masks, nil
}

// ofNode reports whether the kernel itself has given a thread its mask: that of a
// node with these online CPUs, or all CPUs, if the thread has lost those of its
// node, perhaps in an operation before this row.
func ofNode(mask string, cpus, online affinity.CPUSet) bool {
	is, err := affinity.ParseList(mask)
	return err == nil && (is.Intersect(online).Equal(cpus) || online.Difference(is).Empty())
}

// kthreadMasks returns where each of the kernel's threads may run, by its id,
// its start and its name. It leaves out threads that go where they are needed:
// that of an interrupt follows the interrupt, and the rescuer of a workqueue is
// bound to the CPU that it has helped last. Nor are threads in it that somebody
// has pinned to the CPUs in pinned alone: the kernel keeps only those there that
// it has bound itself.
func kthreadMasks(pinned string) (map[string]string, error) {
	const kthread, worker, bound = 0x00200000, 0x20, 0x04000000 // PF_KTHREAD, PF_WQ_WORKER, PF_NO_SETAFFINITY
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	masks := make(map[string]string)
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		status, statusErr := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil || statusErr != nil {
			continue // it has ended
		}
		// "PID (NAME) STATE …", from field 3 on behind the name: 9 are the
		// flags, 22 is the start.
		end := strings.LastIndexByte(string(stat), ')')
		fields := strings.Fields(string(stat[end+1:]))
		if end < 0 || len(fields) < 20 {
			return nil, fmt.Errorf("%s/stat is %q", dir, stat)
		}
		flags, err := strconv.ParseUint(fields[9-3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s/stat: %w", dir, err)
		}
		name := ledger.WithoutWorkqueue(statusField(string(status), "Name"))
		rescuer := flags&worker != 0 && (!strings.HasPrefix(name, "kworker/") || strings.HasPrefix(name, "kworker/R"))
		if flags&kthread == 0 || rescuer || strings.HasPrefix(name, "irq/") {
			continue
		}
		mask := statusField(string(status), "Cpus_allowed_list")
		if mask == pinned && flags&bound == 0 {
			continue
		}
		masks[fmt.Sprintf("%s %s started at %s", filepath.Base(dir), name, fields[22-3])] = mask
	}
	return masks, nil
}

// sameKernelThreads checks that an operation leaves the kernel's threads where
// they were. Those that end meanwhile, or come, are left out, and so are those
// that somebody has pinned to just the CPUs in pinned.
func sameKernelThreads(m *Machine, when, pinned string, operate func() error) error {
	before, err := kthreadMasks(pinned)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return errors.New("no thread of the kernel's is in /proc")
	}
	if err := operate(); err != nil {
		return err
	}
	after, err := kthreadMasks("")
	if err != nil {
		return err
	}
	online, err := m.CPUs.Online()
	if err != nil {
		return err
	}
	return threadsMoved(before, after, online, when)
}

// threadsMoved says which threads may run on other CPUs than before, of those
// that are online. Those that are offline say nothing: a worker is made with all
// CPUs that are possible, and when any comes online it is left with those that
// are (restore_unbound_workers_cpumask()).
func threadsMoved(before, after map[string]string, online affinity.CPUSet, when string) error {
	same := func(a, b string) bool {
		as, aErr := affinity.ParseList(a)
		bs, bErr := affinity.ParseList(b)
		return a == b || aErr == nil && bErr == nil && as.Intersect(online).Equal(bs.Intersect(online))
	}
	var errs []error
	for _, thread := range slices.Sorted(maps.Keys(before)) {
		if is, ok := after[thread]; ok && !same(is, before[thread]) {
			errs = append(errs, fmt.Errorf("%s, thread %s may run on CPUs %s, and might on %s", when, thread, is, before[thread]))
		}
	}
	return errors.Join(errs...)
}

// withPartition calls f while there is a partition of the CPUs. The error is an
// [*Unsupported] if the kernel makes none, as of CPUs that isolcpus= has a say
// in.
func withPartition(x *Scene, suffix, kind string, cpus affinity.CPUSet, f func(c *cpuset.Group) error) (err error) {
	m := x.Machine
	shared, err := m.Shared()
	if err != nil {
		return err
	}
	if shared.Difference(cpus).Empty() {
		return suite.Unsupportedf("a partition of CPUs %v would leave no CPU to all others", cpus)
	}
	c, err := m.NewGroup(suffix)
	if err != nil {
		return err
	}
	// Before v6.2 the tasks outside get back what is online.
	defer func() {
		if end := errors.Join(c.SetPartition("member"), c.Remove()); end != nil {
			err = errors.Join(err, end)
		}
	}()
	if err := c.SetCPUs(cpus); err != nil {
		return err
	}
	if err := c.SetPartition(kind); errors.Is(err, unix.EINVAL) {
		return suite.Unsupportedf("this kernel has no partition of the kind %s: %v", kind, err)
	} else if err != nil {
		return err
	}
	is, reason, err := c.Partition()
	if err == nil && is != kind {
		err = suite.Unsupportedf("no partition of CPUs %v can be made: it is %s, %s", cpus, is, reason)
	}
	if err != nil {
		return err
	}
	return f(c)
}

// otherCPU returns a CPU for a partition that none of the CPUs which come and
// go is in. It is not the first, where the kernel puts tasks that it knows no
// CPU for; -1: there is none.
func otherCPU(m *Machine) (int, error) {
	shared, err := m.Shared()
	if err != nil {
		return -1, err
	}
	first, _ := shared.First()
	other, ok := shared.Difference(affinity.Of(m.Targets...)).Without(first).Last()
	if !ok || m.Isolated.Has(other) || m.KeepOnline.Has(other) {
		return -1, nil
	}
	return other, nil
}

func needsOther(m *Machine) error {
	other, err := otherCPU(m)
	if err != nil {
		return err
	}
	if other < 0 {
		return suite.Unsupportedf("there is no CPU for a partition beside those that come and go, %v, and the first one", m.Targets)
	}
	return m.NotGiven(affinity.Of(other))
}

// otherPartitions takes a CPU offline and online while there are partitions
// that do not have it.
func otherPartitions(x *Scene, cpu int) error {
	other, err := otherCPU(x.Machine)
	if err != nil {
		return err
	}
	return withPartition(x, "-valid", "root", affinity.Of(other), func(valid *cpuset.Group) (err error) {
		// It has no CPU of its own, and is invalid for this.
		invalid, err := x.Machine.NewGroup("-invalid")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, invalid.SetPartition("member"), invalid.Remove()) }()
		groups := []*cpuset.Group{valid}
		if err := invalid.SetPartition("root"); err == nil {
			groups = append(groups, invalid)
		} // else the kernel refuses one, as before v6.0

		before, err := standing(groups, cpu)
		if err != nil {
			return err
		}
		look := func(when string) error {
			after, err := standing(groups, cpu)
			if err != nil {
				return err
			}
			return differences(before, after, when)
		}
		if err := x.Set(cpu, Offline); err != nil {
			return err
		}
		err = look(fmt.Sprintf("while cpu%d is offline", cpu))
		return errors.Join(err, x.Set(cpu, Online), look(fmt.Sprintf("when cpu%d is back", cpu)))
	})
}

// standing is what partitions are, and what CPUs they have, without the one
// that comes and goes.
func standing(groups []*cpuset.Group, cpu int) (map[string]string, error) {
	is := make(map[string]string)
	for _, c := range groups {
		kind, _, err := c.Partition()
		cpus, cpusErr := c.CPUs()
		effective, effectiveErr := c.Effective()
		if err := errors.Join(err, cpusErr, effectiveErr); err != nil {
			return nil, err
		}
		is[c.Path()+"/cpuset.cpus.partition"] = kind
		is[c.Path()+"/cpuset.cpus"] = cpus.String()
		is[c.Path()+"/cpuset.cpus.effective"] = effective.Without(cpu).String()
	}
	return is, nil
}
