package machine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// A Thread is one that may have been given an affinity.
type Thread struct {
	Name string // the kernel's comm
	// when it started, in clock ticks since boot, which tells it from a later
	// one with the same id
	Start uint64
	CPUs  string // Cpus_allowed_list, which has CPUs that are offline too
	// its cpuset's directory; on cgroup v1 only, and not for the root
	Cpuset string
}

// The kernel's include/linux/sched.h.
const (
	pfKthread = 0x00200000
	// a kernel thread whose affinity is refused to user space
	pfNoSetaffinity = 0x04000000
)

// threads are the affinities of threads.
type threads struct{}

// setAffinity is replaced in tests, where the threads are those of another
// machine.
var setAffinity = affinity.Set

func (threads) take(s *Snapshot) error {
	if s.Threads != nil {
		return nil
	}
	s.Threads = make(map[int]Thread)
	proc := s.path("proc")
	for _, pid := range numbers(proc) {
		if pid == s.PID {
			continue
		}
		tasks := filepath.Join(proc, strconv.Itoa(pid), "task")
		for _, tid := range numbers(tasks) {
			dir := filepath.Join(tasks, strconv.Itoa(tid))
			// Without an error for one that ends meanwhile.
			stat, err := read(filepath.Join(dir, "stat"))
			if err != nil {
				continue
			}
			name, flags, start, ok := parseStat(stat)
			if !ok || flags&pfNoSetaffinity != 0 {
				continue
			}
			// The thread of an interrupt follows the interrupt's affinity.
			if flags&pfKthread != 0 && strings.HasPrefix(name, "irq/") {
				continue
			}
			status, err := read(filepath.Join(dir, "status"))
			if err != nil {
				continue
			}
			s.Threads[tid] = Thread{Name: name, Start: start, CPUs: field(status, "Cpus_allowed_list")}
		}
	}
	return nil
}

func (threads) diff(was, now *Snapshot) []Difference {
	online := cpuList(was.Online)
	var diffs []Difference
	was.eachThread(now, func(tid int, before, after Thread) {
		// Only CPUs that were online matter, and only what somebody has
		// restricted was anybody's will.
		wanted, has := cpuList(before.CPUs), cpuList(after.CPUs)
		if online.Difference(wanted).Empty() || wanted.Intersect(online).Equal(has.Intersect(online)) {
			return
		}
		allowed := now.allowed(tid).Intersect(online)
		// Somebody has taken its CPUs offline for good.
		if wanted.Intersect(online).Empty() {
			return
		}
		// Somebody has taken the CPUs from its cpuset, or has given it others.
		confined := wanted.Intersect(allowed).Empty() && !wanted.Intersect(cpuList(now.Online)).Empty()
		if confined || !byKernel(wanted, has, allowed, now.hotpluggable()) {
			return
		}
		diffs = append(diffs, Difference{before.label(tid) + " on CPUs", before.CPUs, after.CPUs, func() error {
			return ifAlive(setAffinity(tid, wanted))
		}, false})
	})
	return diffs
}

// byKernel reports whether the kernel can have made the mask has of one that
// was wanted, of a thread in a cpuset with the CPUs allowed, while hotpluggable
// CPUs were offline. It narrows a mask to what of it is online; a thread that
// has none left gets all CPUs of its cpuset that are online then. Any other
// mask was set by somebody meanwhile.
func byKernel(wanted, has, allowed, hotpluggable affinity.CPUSet) bool {
	return has.Difference(wanted).Empty() || allowed.Difference(hotpluggable).Difference(has).Empty()
}

// allowed returns the CPUs that the cpuset of a thread has now: all that are
// online if there is none.
func (s *Snapshot) allowed(tid int) affinity.CPUSet {
	online := cpuList(s.Online)
	h, err := cpuset.New(s.Root)
	if err != nil {
		return online
	}
	set, err := h.Of(tid)
	if err != nil {
		return online
	}
	name := "cpus.effective"
	if h.Version() == 1 {
		name = "effective_cpus"
	}
	// On v2 a cgroup without the controller belongs to the cpuset of an
	// ancestor.
	for dir := set.Path(); len(dir) >= len(h.Mount()); dir = filepath.Dir(dir) {
		if text, err := read(filepath.Join(dir, h.FileName(name))); err == nil {
			return cpuList(strings.TrimSpace(text))
		}
	}
	return online
}

// hotpluggable returns the CPUs that can be offline: all but the first ones of
// some machines.
func (s *Snapshot) hotpluggable() affinity.CPUSet {
	sys, err := cpuhp.New(s.Root)
	if err != nil {
		return cpuList(s.Online)
	}
	cpus, _, err := sys.Hotpluggable()
	if err != nil {
		return cpuList(s.Online)
	}
	return cpus
}

// eachThread calls f for each thread that is in both snapshots, in the order of
// their ids.
func (s *Snapshot) eachThread(later *Snapshot, f func(tid int, before, after Thread)) {
	for _, tid := range slices.Sorted(maps.Keys(s.Threads)) {
		before := s.Threads[tid]
		if after, ok := later.Threads[tid]; ok && after.Start == before.Start {
			f(tid, before, after)
		}
	}
}

func (t Thread) label(tid int) string { return fmt.Sprintf("thread %d (%s)", tid, t.Name) }

// ifAlive passes over the error that a thread has ended.
func ifAlive(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// numbers returns the entries of a directory that are numbers.
func numbers(dir string) []int {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	var ids []int
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// parseStat returns three fields of a /proc/PID/stat. The name is in
// parentheses, and may have any character itself.
func parseStat(stat string) (name string, flags, start uint64, ok bool) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return "", 0, 0, false
	}
	fields := strings.Fields(stat[end+1:]) // from field 3 of proc(5) on
	if len(fields) < 20 {
		return "", 0, 0, false
	}
	flags, flagsErr := strconv.ParseUint(fields[9-3], 10, 64)
	start, startErr := strconv.ParseUint(fields[22-3], 10, 64)
	return stat[open+1 : end], flags, start, flagsErr == nil && startErr == nil
}

// field returns a field of a /proc/PID/status.
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
