package hotplugtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/suite"
)

// readerDirs are the trees of files that tell of CPUs. Of debugfs it is the
// scheduler's directory alone: what a driver's file does when it is read is
// the driver's affair.
var readerDirs = []string{
	"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/devices/virtual/workqueue", "/sys/kernel/debug/sched", "/proc/irq",
}

// readerFiles are single files of procfs.
var readerFiles = []string{
	"/proc/buddyinfo", "/proc/cpuinfo", "/proc/interrupts", "/proc/loadavg", "/proc/meminfo", "/proc/sched_debug", "/proc/schedstat",
	"/proc/slabinfo", "/proc/softirqs", "/proc/stat", "/proc/timer_list", "/proc/vmstat", "/proc/zoneinfo", "/proc/net/dev",
	"/proc/net/softnet_stat", "/proc/self/status", "/proc/self/sched", "/proc/pressure/cpu",
}

// readerSkips are names of directories that are left out: idle states and power
// management, of which a machine with many CPUs has too many files, and those
// whose files ask firmware, which may say anything of a CPU that is offline.
var readerSkips = []string{"cpuidle", "power", "cpufreq", "acpi_cppc"}

// mostRead bounds the files that each reader goes through.
const mostRead = 200

// readers read all files that tell of CPUs, over and over: one thread those of
// procfs, one those of sysfs, debugfs and tracefs, and one those of cgroups.
var readers = Actor{
	Name:  "reader",
	Count: func(*Scene) int { return len(readerShares) },
	Begin: func(a *Act) (func() error, error) {
		files := readable(readerShares[a.N](a.Scene))
		buf := make([]byte, 64<<10)
		next := 0
		return func() error {
			if len(files) == 0 {
				time.Sleep(10 * time.Millisecond)
				return nil
			}
			file := files[next%len(files)]
			next++
			return readWhole(file, buf)
		}, a.Scene.Enter()
	},
}

// readerShares return the files of each reader.
var readerShares = []func(x *Scene) []string{
	func(*Scene) []string { return readerFiles },
	func(*Scene) []string {
		var files []string
		for _, dir := range readerDirs {
			files = append(files, filesBelow(dir)...)
		}
		// The other files of a CPU's trace take events away from whoever
		// reads them, or stop the trace meanwhile.
		stats, _ := filepath.Glob("/sys/kernel/tracing/per_cpu/cpu*/stats")
		return append(files, stats...)
	},
	func(x *Scene) []string {
		if suite.NeedsChild(x.Machine) != nil {
			return nil
		}
		child := x.Machine.Child.Group.Path()
		// There are thousands of cpusets beside the child.
		files, _ := filepath.Glob(filepath.Join(filepath.Dir(child), "*.*"))
		return append(files, filesBelow(child)...)
	},
}

// filesBelow returns the files of a directory and of those below it, but for
// what can only be written.
func filesBelow(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if entry.IsDir() {
			if slices.Contains(readerSkips, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && info.Mode()&0o444 != 0 {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// readable returns those of the files that can be read while all CPUs are
// online, up to [mostRead] of them, evenly spread.
func readable(files []string) (can []string) {
	buf := make([]byte, 64<<10)
	step := max(1, (len(files)+mostRead-1)/mostRead)
	for i := 0; i < len(files); i += step {
		if info, err := os.Stat(files[i]); err == nil && info.Mode().IsRegular() && readWhole(files[i], buf) == nil {
			can = append(can, files[i])
		}
	}
	return can
}

// readWhole reads a file to its end. A file of a CPU that is offline may be
// gone, before or while it is read. What calls itself a list of CPUs must be
// one, however many of them come and go.
func readWhole(file string, buf []byte) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return gone(file, "open", err)
	}
	defer unix.Close(fd)
	size := 0
	for {
		n, err := unix.Read(fd, buf[size:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return gone(file, "read", err)
		case n == 0:
			return checkList(file, string(buf[:size]))
		}
		if size += n; size == len(buf) {
			// Too long to be a list of CPUs.
			size = len(buf) / 2
		}
	}
}

// coreFiles are those of sysfs that the kernel's core answers for. What a
// driver says of a CPU that has gone is the driver's affair.
var coreFiles = regexp.MustCompile(`/(topology|cache)/|/(online|offline|present|possible|isolated|cpulist|cpumap)$`)

// gone is nil if an error says that there is no such CPU, or that it is not
// online.
func gone(file, op string, err error) error {
	if strings.HasPrefix(file, "/sys/devices/") && !coreFiles.MatchString(file) {
		return nil
	}
	for _, errno := range []error{unix.ENOENT, unix.ENODEV, unix.ENXIO} {
		if errors.Is(err, errno) {
			return nil
		}
	}
	// debugfs_file_get() says so of a file that was removed while it was open.
	// Those of scheduling domains are made anew whenever a CPU goes or comes.
	// proc_reg_read() says the same of an IRQ's: Xen frees those of a CPU that
	// goes (xen_smp_intr_free()).
	if errors.Is(err, unix.EIO) && (strings.HasPrefix(file, "/sys/kernel/debug/") || strings.HasPrefix(file, "/proc/irq/")) {
		return nil
	}
	return &os.PathError{Op: op, Path: file, Err: err}
}

// checkList returns an error if a file whose name says that it is a list of
// CPUs is none.
func checkList(file, text string) error {
	name := filepath.Base(file)
	if !strings.HasSuffix(name, "_list") && name != "cpulist" && name != "cpuset.cpus.effective" {
		return nil
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	if _, err := affinity.ParseList(text); err != nil {
		return fmt.Errorf("%s: %q is no list of CPUs: %w", file, text, err)
	}
	return nil
}
