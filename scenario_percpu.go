package hotplugtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// percpuScenarios are about what the kernel keeps on each CPU for the whole
// machine: a share of a sum, or a timer.
var percpuScenarios = []Scenario{
	{
		Name:    "tmpfs-blocks",
		Promise: "the free blocks of a tmpfs do not change when the CPU goes on which its files were written, nor when it comes, and all are free when the files are gone",
		Source:  `statfs(2): f_bfree; lib/percpu_counter.c: percpu_counter_cpu_dead(), for the sum in shmem_statfs()`,
		Needs:   needsTmpfs,
		Cycle:   blocksKept,
	},
	{
		Name:    "vmstat-interval",
		Promise: "when a CPU is back, what it counts is in /proc/vmstat after vm.stat_interval: nr_shmem has the pages that were written to a tmpfs on it",
		Source: `Documentation/admin-guide/sysctl/vm.rst: stat_interval; adcfb264c3ed ("vmstat: disable vmstat_work on vmstat_cpu_down_prep()", v6.13), ` +
			"which has to be undone when the CPU comes",
		Needs:    allOf(needsTmpfs, needsStatistics, needsNoIsolation),
		Together: true,
		Cycle:    shareCounted,
	},
	{
		Name:    "page-lists",
		Promise: "the lists of free pages that CPUs keep are longer while a CPU is offline, and shorter when it is back: the CPUs of a node share a part of its pages",
		Source:  `Documentation/admin-guide/sysctl/vm.rst: percpu_pagelist_high_fraction; 04f8cfeaed08 ("mm/page_alloc: adjust pcp->high after CPU hotplug events", v5.14)`,
		Needs:   needsPageLists,
		Cycle:   listsShared,
	},
	{
		Name: "lockup-detector",
		Promise: "while a CPU is offline, the others have the timers of the soft lockup detector that they had, and no more; " +
			"when it is back, it has its own again",
		Source: "Documentation/admin-guide/lockup-watchdogs.rst: the watchdog runs on all online cores, or those of kernel.watchdog_cpumask",
		Needs:  needsDetector,
		Cycle:  detectorRuns,
	},
}

// A tmpfs is one that is mounted nowhere, and gone when it is closed.
type tmpfs struct{ dir *os.File }

func newTmpfs() (*tmpfs, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for key, value := range map[string]string{"size": "64m", "huge": "never"} {
		// A kernel without huge pages knows no huge.
		if err := unix.FsconfigSetString(fs, key, value); err != nil && !(key == "huge" && errors.Is(err, unix.EINVAL)) {
			return nil, os.NewSyscallError("fsconfig", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	dir, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return &tmpfs{os.NewFile(uintptr(dir), "tmpfs")}, nil
}

func (t *tmpfs) Close() error { return t.dir.Close() }

// free returns how many blocks are free.
func (t *tmpfs) free() (uint64, error) {
	var s unix.Statfs_t
	err := unix.Fstatfs(int(t.dir.Fd()), &s)
	return s.Bfree, os.NewSyscallError("fstatfs", err)
}

// is checks how many blocks are free.
func (t *tmpfs) is(want uint64, when string) error {
	free, err := t.free()
	if err == nil && free != want {
		err = fmt.Errorf("%s, a tmpfs has %d free blocks, want %d", when, free, want)
	}
	return err
}

// fill writes a file of so many pages.
func (t *tmpfs) fill(name string, pages int) error {
	fd, err := unix.Openat(int(t.dir.Fd()), name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	page := make([]byte, os.Getpagesize())
	for range pages {
		if _, err := unix.Write(fd, page); err != nil {
			return errors.Join(os.NewSyscallError("write", err), unix.Close(fd))
		}
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

func (t *tmpfs) remove(name string) error {
	return os.NewSyscallError("unlinkat", unix.Unlinkat(int(t.dir.Fd()), name, 0))
}

func needsTmpfs(*Machine) error {
	t, err := newTmpfs()
	if err != nil {
		return suite.Unsupportedf("no tmpfs can be mounted: %v", err)
	}
	return t.Close()
}

// writtenPages is less than the smallest share that a CPU keeps before it adds
// it to the sum: percpu_counter_batch.
const writtenPages = 20

// blocksKept writes a file on the CPU, and removes it on another one.
func blocksKept(x *Scene, cpu int) (err error) {
	t, err := newTmpfs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	empty, err := t.free()
	if err != nil {
		return err
	}
	write := func() error { return t.fill("file", writtenPages) }
	if err := affinity.Run(affinity.Of(cpu), write); err != nil {
		return err
	}
	written, err := t.free()
	if err != nil {
		return err
	}
	if written >= empty {
		return fmt.Errorf("a tmpfs has %d free blocks before a file of %d pages is written, and %d after", empty, writtenPages, written)
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	err = errors.Join(t.is(written, fmt.Sprintf("while cpu%d is offline, on which a file was written", cpu)), t.remove("file"),
		t.is(empty, fmt.Sprintf("when a file is removed that was written on cpu%d, which is offline", cpu)))
	return errors.Join(err, x.Set(cpu, Online), t.is(empty, fmt.Sprintf("when cpu%d is back", cpu)))
}

const (
	vmstatFile   = "/proc/vmstat"
	statInterval = "/proc/sys/vm/stat_interval" // in seconds
	statRefresh  = "/proc/sys/vm/stat_refresh"  // a write adds the shares of all CPUs
)

// longInterval is how much is too long to wait for.
const longInterval = 10

func needsStatistics(*Machine) error {
	for _, file := range []string{vmstatFile, statInterval, statRefresh} {
		if !exists(file) {
			return suite.Unsupportedf("there is no %s: the kernel has no CONFIG_PROC_FS, CONFIG_SYSCTL or CONFIG_SMP", file)
		}
	}
	interval, err := sysfs.Read(statInterval, strconv.Atoi)
	if err == nil && interval > longInterval {
		err = suite.Unsupportedf("vm.stat_interval is %d seconds: the row would wait as long, and does so up to %d", interval, longInterval)
	}
	return err
}

// shmemPages is nr_shmem of /proc/vmstat.
func shmemPages() (int, error) {
	return sysfs.Read(vmstatFile, func(text string) (int, error) {
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "nr_shmem "); ok {
				return strconv.Atoi(strings.TrimSpace(value))
			}
		}
		return 0, errors.New("it has no nr_shmem")
	})
}

// sharePages is no more than the smallest share that a CPU keeps before it adds it
// to the sum: 8 with two CPUs and more than 128 MiB, or one and more than 512 MiB
// (calculate_normal_threshold()).
const sharePages = 8

// shareTries is how often in a row the pages have to be missing: others may
// remove a file of as many at the same time.
const shareTries = 3

// idleLimit is for how much longer than vm.stat_interval the share may take: the
// kernel's timer for it can be deferred, and the CPU that has it may be idle. If
// that is not enough, each CPU computes, and it may take as long again.
const idleLimit = 10 * time.Second

// shareCounted writes a file on the CPU when it is back, of too few pages for
// the CPU to add them to the sum at once.
func shareCounted(x *Scene, cpu int) error {
	interval, err := sysfs.Read(statInterval, strconv.Atoi)
	if err != nil {
		return err
	}
	limit := time.Duration(interval)*time.Second + idleLimit
	if err := x.OffAndOn(cpu); err != nil {
		return err
	}
	for range shareTries {
		if err = counted(x, cpu, limit); !errors.Is(err, errUncounted) {
			return err
		}
	}
	return err
}

var errUncounted = errors.New("what was written to a tmpfs is not in nr_shmem of " + vmstatFile)

// counted writes a file on the CPU, and waits until its pages are counted.
func counted(x *Scene, cpu int, limit time.Duration) (err error) {
	t, err := newTmpfs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	// It never returns if a CPU has no worker, and it is EINVAL if a sum is
	// negative, which this row is not about.
	err = x.Do("writing to vm.stat_refresh", func() error { return sysfs.WriteFile(statRefresh, "1") })
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	before, err := shmemPages()
	if err != nil {
		return err
	}
	if err := affinity.Run(affinity.Of(cpu), func() error { return t.fill("file", sharePages) }); err != nil {
		return err
	}
	pages := 0
	are := func() bool {
		pages, err = shmemPages()
		return err != nil || pages >= before+sharePages
	}
	done := suite.WaitAsleep(limit, are)
	if !done {
		if err := computeOnEach(x.Machine); err != nil {
			return err
		}
		done = suite.WaitAsleep(idleLimit, are)
	}
	if err == nil && !done {
		err = fmt.Errorf("%w %v later: %d pages before %d of them on cpu%d, which has come back, and %d after", errUncounted, limit+idleLimit, before, sharePages, cpu, pages)
	}
	return err
}

// computeOnEach has each CPU compute for longer than a tick takes. A timer that can
// be deferred waits for a tick of its CPU, which an idle CPU may not have for long.
func computeOnEach(m *Machine) error {
	cpus, err := m.Shared()
	for cpu := range cpus.All() {
		err = errors.Join(err, affinity.Run(affinity.Of(cpu), func() error { spin(25 * time.Millisecond); return nil }))
	}
	return err
}

// detectorTimer is the function of the soft lockup detector's timers.
const detectorTimer = "watchdog_timer_fn"

// detectors counts the timers of the detector by the CPU, in /proc/timer_list.
func detectors() (map[int]int, error) {
	return sysfs.Read("/proc/timer_list", parseDetectors)
}

// parseDetectors looks for " #0: <...>, watchdog_timer_fn, S:01" below "cpu: 0".
func parseDetectors(text string) (map[int]int, error) {
	timers := make(map[int]int)
	cpu := -1
	for line := range strings.Lines(text) {
		if number, ok := strings.CutPrefix(line, "cpu: "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(number))
			if err != nil {
				return nil, err
			}
			cpu = n
		}
		if fields := strings.Split(line, ", "); len(fields) > 1 && fields[1] == detectorTimer && cpu >= 0 {
			timers[cpu]++
		}
	}
	return timers, nil
}

// needsDetector is for a machine that can tell where the detector runs, and
// where it does.
func needsDetector(*Machine) error {
	timers, err := detectors()
	switch {
	case err != nil:
		return suite.Unsupportedf("%v", err)
	case len(timers) == 0:
		return suite.Unsupportedf("/proc/timer_list has no %s: the kernel has no CONFIG_SOFTLOCKUP_DETECTOR, or kernel.soft_watchdog is 0", detectorTimer)
	}
	return nil
}

// detectorRuns compares the timers before the CPU goes offline, while it is,
// and when it is back. A timer whose function runs just then is not in the list.
func detectorRuns(x *Scene, cpu int) error {
	var timers map[int]int
	are := func(want map[int]int, when string) (err error) {
		same := suite.WaitFor(suite.TaskTimeout, func() bool {
			timers, err = detectors()
			return err != nil || maps.Equal(timers, want)
		})
		if err == nil && !same {
			err = fmt.Errorf("%s, the timers %s by CPU are %v in /proc/timer_list, want %v", when, detectorTimer, timers, want)
		}
		return err
	}
	before, err := detectors()
	if err != nil {
		return err
	}
	again, err := detectors()
	if err != nil {
		return err
	}
	for cpu, n := range again {
		before[cpu] = max(before[cpu], n)
	}
	if before[cpu] == 0 {
		return suite.Unsupportedf("cpu%d has no soft lockup detector: it is not in kernel.watchdog_cpumask", cpu)
	}
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	without := maps.Clone(before)
	delete(without, cpu)
	err = are(without, fmt.Sprintf("while cpu%d is offline", cpu))
	return errors.Join(err, x.Set(cpu, Online), are(before, fmt.Sprintf("when cpu%d is back", cpu)))
}
