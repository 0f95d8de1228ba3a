//go:build !selftest

package hotplugtest

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/suite"
)

func TestMutual(t *testing.T) {
	online := affinity.Of(0, 1, 2)
	for _, tt := range []struct {
		lists lists
		want  string
	}{
		{lists{0: affinity.Of(0, 1), 1: affinity.Of(0, 1), 2: affinity.Of(2)}, ""},
		{lists{0: affinity.Of(0, 3)}, "l of cpu0 is 0,3, and the online CPUs are 0-2"},
		{lists{0: affinity.Of(1)}, "l of cpu0 is 1, without the CPU itself"},
		{lists{0: affinity.Of(0, 1), 1: affinity.Of(1)}, "l of cpu0 is 0-1, and that of cpu1 is 1"},
	} {
		if err := tt.lists.mutual("l", online); tt.want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.want)
		}
	}
}

func TestApart(t *testing.T) {
	c := caches{lists{0: affinity.Of(0, 1), 1: affinity.Of(0, 1), 2: affinity.Of(2)}, map[int]string{0: "0", 1: "0", 2: "1"}}
	assert.Empty(t, c.apart())
	c.ids[1] = "1"
	assert.Equal(t, ". By its id, which is 0 and 1, cpu0 and cpu1 do not share it", c.apart())
	delete(c.ids, 0)
	assert.Empty(t, c.apart(), "a cache without an id")
}

func TestApartFrom(t *testing.T) {
	const dir = cpusDir + "/cpu%d/cache/index3/"
	file := func(cpu int, name string) string { return fmt.Sprintf(dir, cpu) + name }
	texts := map[string]string{file(0, "id"): "0", file(1, "id"): "0", file(2, "id"): "2"}
	assert.Empty(t, apartFrom(texts, file(0, "shared_cpu_list"), 1))
	assert.Equal(t, ". By its id, which is 0 and 2, cpu0 and cpu2 do not share it", apartFrom(texts, file(0, "shared_cpu_list"), 2))
	assert.Empty(t, apartFrom(texts, file(0, "shared_cpu_list"), 3), "a cache without an id")
	assert.Empty(t, apartFrom(texts, cpusDir+"/cpu0/topology/core_cpus_list", 2), "the list of another thing")
}

func TestParseCounts(t *testing.T) {
	counts, err := parseCounts("processor\t: 0\nsiblings\t: 4\ncpu cores\t: 2\n\nprocessor\t: 2\nsiblings\t: 4\ncpu cores\t: 2\n")
	require.NoError(t, err)
	assert.Equal(t, map[int]packageCounts{0: {4, 2}, 2: {4, 2}}, counts)
	counts, err = parseCounts("processor\t: 0\nBogoMIPS\t: 1.00\n")
	require.NoError(t, err)
	assert.Empty(t, counts, "an architecture that does not count")
	counts, err = parseCounts("vendor_id       : IBM/S390\nprocessor 0: version = FF,  identification = 000123,  machine = 8561\n\n" +
		"cpu number      : 0\nsiblings        : 4\ncpu cores       : 2\n")
	require.NoError(t, err)
	assert.Empty(t, counts, "s390 has the words, and counts in another way")
	_, err = parseCounts("processor : one\n")
	assert.ErrorContains(t, err, `line "processor : one"`)
}

func TestCpuinfoFields(t *testing.T) {
	assert.Equal(t, map[string]string{"/proc/cpuinfo of cpu3: processor": "3", "/proc/cpuinfo of cpu3: core id": "1"},
		cpuinfoFields("processor\t: 3\ncpu MHz\t\t: 2000.1\nbogomips : 1\nflags : fpu\nvmx flags : x\nbugs : y\nclock : 3425.000000MHz\ncore id : 1\n\n"))
}

func TestDescriptionsDiffer(t *testing.T) {
	err := differences(map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"a": "1", "b": "4", "d": "5"}, "now")
	assert.EqualError(t, err, `now, b is "4", and was "2"`+"\n"+`now, there is no c, which was "3"`+"\n"+`now, there is d, which is "5" and was not there`)
	before := map[string]string{cpusDir + "/cpu0/topology/x_list": "0-2", cpusDir + "/cpu2/topology/x_list": "0-2", "/node0/cpulist": "0-2", "y": "1"}
	assert.NoError(t, lacking(before, map[string]string{cpusDir + "/cpu0/topology/x_list": "0-1", "/node0/cpulist": "0-1"}, 2))
	err = lacking(before, map[string]string{cpusDir + "/cpu0/topology/x_list": "0-2", "/node0/cpulist": "0"}, 2)
	assert.ErrorContains(t, err, `cpu0/topology/x_list is "0-2", and was "0-2": want "0-1"`)
	assert.ErrorContains(t, err, `/node0/cpulist is "0", and was "0-2": want "0-1"`)
}

func TestDeprived(t *testing.T) {
	texts := map[string]string{cpusDir + "/cpu0/cpu_capacity": "1024", cpusDir + "/cpu2/topology/core_id": "1", cpusDir + "/cpu0/topology/core_id": "0"}
	assert.NoError(t, deprived(texts, 0, affinity.Of(0, 2)))
	assert.EqualError(t, deprived(texts, 2, affinity.Of(0, 2)),
		"there is no "+cpusDir+"/cpu2/cpu_capacity, though cpu2 is online, and there is "+cpusDir+"/cpu0/cpu_capacity")
}

func TestCounters(t *testing.T) {
	counters := make(map[string]uint64)
	require.NoError(t, statCounters("cpu  1 2 3 30 9 7 4 5 6 0\ncpu1 1 2 3 10 5 7 4\nintr 12 1 2\nctxt 8\nbtime 99\nprocesses 7\n", counters))
	assert.Equal(t, map[string]uint64{
		"/proc/stat: cpu user": 1, "/proc/stat: cpu nice": 2, "/proc/stat: cpu system": 3, "/proc/stat: cpu irq": 7, "/proc/stat: cpu softirq": 4,
		"/proc/stat: cpu guest": 6, "/proc/stat: cpu guest_nice": 0, "/proc/stat: cpu1 user": 1, "/proc/stat: cpu1 nice": 2, "/proc/stat: cpu1 system": 3,
		"/proc/stat: cpu1 irq": 7, "/proc/stat: cpu1 softirq": 4, "/proc/stat: intr": 12, "/proc/stat: ctxt": 8, "/proc/stat: processes": 7,
	}, counters)
	assert.Error(t, statCounters("ctxt many\n", counters))

	counters = make(map[string]uint64)
	require.NoError(t, eventCounters("nr_free_pages 9\npgpgin 1\npgalloc_dma32 0\npgalloc_normal 2\npgfree 3\npgfault 4\nworkingset_nodes 5\n", counters))
	assert.Equal(t, map[string]uint64{"/proc/vmstat: pgalloc_dma32": 0, "/proc/vmstat: pgalloc_normal": 2, "/proc/vmstat: pgfree": 3, "/proc/vmstat: pgfault": 4}, counters)
	assert.Error(t, eventCounters("pgfault many\n", counters))

	counters = make(map[string]uint64)
	require.NoError(t, columnCounters("interrupt")("     CPU0   CPU3\n  4:  10   20  IO-APIC  4-edge ttyS0\nERR:   0\nLOC: 1 2 Local timer\n", counters))
	assert.Equal(t, map[string]uint64{"interrupt 4 of CPU0": 10, "interrupt 4 of CPU3": 20, "interrupt LOC of CPU0": 1, "interrupt LOC of CPU3": 2}, counters)

	counters = make(map[string]uint64)
	sleepCounters("cpu: 0\n clock 0:\n  .idle_sleeps    : 17\n  .idle_calls : 18\ncpu: 1\n  .idle_sleeps    : 19\n", counters)
	assert.Equal(t, map[string]uint64{"/proc/timer_list: idle_sleeps of cpu0": 17, "/proc/timer_list: idle_sleeps of cpu1": 19}, counters)
}

// A thread is told the same in each way, and a page that is bound to a node has
// a policy: neither takes any privilege.
func TestWhatThisMachineTells(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		r, err := registerRseq()
		if r != nil {
			defer func() { assert.NoError(t, r.unregister()) }()
		} else {
			assert.True(t, suite.IsUnsupported(err), err)
		}
		return agree(r)
	}))
	possible, err := cpuPossible()
	require.NoError(t, err)
	n, err := maskBytes(possible)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, 8*n, possible.Count())
	_, err = maskBytes(affinity.Of(1000))
	assert.ErrorContains(t, err, "and the possible CPUs are 1000")

	barrier, err := newBarrier()
	if !suite.IsUnsupported(err) {
		require.NoError(t, err)
		assert.NoError(t, barrier(0))
	}
	node, err := memoryNode()
	if suite.IsUnsupported(err) {
		t.Skip(err)
	}
	require.NoError(t, err)
	page, unmap, err := boundMemory(node, mpolStatic)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { assert.NoError(t, unmap()) }()
	is, err := policy(page)
	require.NoError(t, err)
	assert.Equal(t, "bind=static:0", is)
	runtime.KeepAlive(page)
}

func cpuPossible() (affinity.CPUSet, error) {
	cpus, err := cpuhp.New("/")
	if err != nil {
		return affinity.CPUSet{}, err
	}
	return cpus.Possible()
}
