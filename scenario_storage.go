package hotplugtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suite"
)

// storageScenarios are about disks and swap space. They read disks, and write
// to none but through the kernel's own swap.
var storageScenarios = []Scenario{
	{
		Name:    "block-reads",
		Promise: "a read of a disk with several queues ends, and succeeds, though the CPU that it began on goes offline and does not come back meanwhile",
		Source: `Documentation/block/blk-mq.rst; bf0beec0607d ("blk-mq: drain I/O when all CPUs in a hctx are offline", v5.8); ` +
			`788019eb559f ("genirq: Retain disable depth for managed interrupts across CPU hotplug", v6.16)`,
		Needs: needsQueues,
		Setup: func(x *Scene) error {
			x.Data = make(reads, onTargets(x))
			return nil
		},
		Actors: []Actor{diskReaders},
		Cycle:  readsEnd,
	},
	{
		Name:    "swap",
		Promise: "memory that was swapped out reads as it was written, though the CPU that swapped it out goes offline",
		Known:   []Defect{zswapFreed},
		Source:  `madvise(2): MADV_PAGEOUT; 12dcb0ef5406 ("mm: zswap: properly synchronize freeing resources during CPU hotunplug", v6.13)`,
		Needs:   needsSwap,
		Setup: func(x *Scene) error {
			x.Data = new(atomic.Int64)
			return nil
		},
		Actors: []Actor{swappers},
		Hold: func(x *Scene) error {
			if x.Data.(*atomic.Int64).Load() == 0 {
				return suite.Unsupportedf("nothing was swapped out any more: is the swap space full?")
			}
			return nil
		},
	},
}

// pinnedTo moves the calling thread to a CPU that comes and goes. While that is
// offline, the thread may be anywhere.
func pinnedTo(cpu int) error {
	if err := affinity.Set(0, affinity.Of(cpu)); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// nvmePath matches one of the paths to a disk of NVMe. The disk that programs
// open has no queues of its own then.
var nvmePath = regexp.MustCompile(`^(nvme\d+)c\d+(n\d+)$`)

// disks returns the block devices that can be read and have several queues: at
// most four.
func disks() ([]string, error) {
	queues, err := filepath.Glob("/sys/block/*/mq/1")
	if err != nil {
		return nil, err
	}
	const enough = 4
	var list []string
	for _, queue := range queues {
		if len(list) == enough { // to read one may spin it up
			break
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(queue)))
		name = nvmePath.ReplaceAllString(strings.ReplaceAll(name, "!", "/"), "$1$2")
		path := filepath.Join("/dev", name)
		if slices.Contains(list, path) {
			continue
		}
		d, err := openDisk(path)
		if err != nil {
			continue
		}
		if d.read() == nil {
			list = append(list, path)
		}
		if err := d.close(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func needsQueues(*Machine) error {
	list, err := disks()
	if err == nil && len(list) == 0 {
		err = suite.Unsupportedf("no disk has several queues; null_blk makes one (modprobe null_blk submit_queues=4)")
	}
	return err
}

// disk is a block device that is read past the page cache.
type disk struct {
	path   string
	fd     int
	page   []byte
	pages  int64 // that are read in turn
	offset int64
}

func openDisk(path string) (*disk, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &disk{path: path, fd: fd}
	size, err := unix.Seek(fd, 0, unix.SEEK_END)
	if err == nil {
		// Memory that is mapped is aligned as O_DIRECT wants it.
		d.page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	}
	if err == nil && size < int64(len(d.page)) {
		err = unix.ENOMEDIUM
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: path, Err: err}, d.close())
	}
	d.pages = min(size/int64(len(d.page)), 1024)
	return d, nil
}

func (d *disk) close() error {
	err := os.NewSyscallError("close", unix.Close(d.fd))
	if d.page != nil {
		err = errors.Join(err, os.NewSyscallError("munmap", unix.Munmap(d.page)))
	}
	return err
}

// read reads the next page.
func (d *disk) read() error {
	at := d.offset * int64(len(d.page))
	d.offset = (d.offset + 1) % d.pages
	n, err := unix.Pread(d.fd, d.page, at)
	if err == nil && n != len(d.page) {
		err = fmt.Errorf("%d bytes of %d", n, len(d.page))
	}
	if err != nil {
		return fmt.Errorf("pread(2) of %s at %d: %w", d.path, at, err)
	}
	return nil
}

// onTargets is two threads for each CPU that comes and goes, but not too many.
func onTargets(x *Scene) int { return min(2*len(x.Targets()), 32) }

// readLimit is less than what drivers wait for an interrupt, 30 s, before they
// look themselves whether the disk is done. A disk that had stopped turns again
// by then, and needsQueues has read it.
const readLimit = 20 * time.Second

// reads are how often each of the threads has read all disks.
type reads []atomic.Uint64

// diskReaders read disks, each from one of the CPUs while that is online.
var diskReaders = Actor{
	Name:  "thread that reads disks",
	Count: onTargets,
	Begin: func(a *Act) (func() error, error) {
		paths, err := disks()
		if err != nil {
			return nil, err
		}
		var list []*disk
		for _, path := range paths {
			d, err := openDisk(path)
			if err != nil {
				return nil, err
			}
			a.Cleanup(d.close)
			list = append(list, d)
		}
		targets := a.Scene.Targets()
		cpu, done := targets[a.N%len(targets)], &a.Scene.Data.(reads)[a.N]
		return func() error {
			if err := pinnedTo(cpu); err != nil {
				return err
			}
			for _, d := range list {
				begun := time.Now()
				err := d.read()
				took := time.Since(begun)
				if err == nil && took > readLimit {
					err = fmt.Errorf("pread(2) of %s has ended", d.path)
				}
				if err != nil {
					return fmt.Errorf("a thread of cpu%d: %w, after %v", cpu, err, took)
				}
			}
			done.Add(1)
			return nil
		}, a.Scene.Enter()
	},
}

// readsEnd keeps the CPU offline until each of the threads has read again.
func readsEnd(x *Scene, cpu int) error {
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	list := x.Data.(reads)
	before := make([]uint64, len(list))
	for i := range list {
		before[i] = list[i].Load()
	}
	waiting := 0
	var err error
	ended := suite.WaitAsleep(readLimit, func() bool {
		waiting = 0
		for i := range list {
			// The first that ends may have begun before.
			if list[i].Load() < before[i]+2 {
				waiting++
			}
		}
		err = x.Failed()
		return err != nil || waiting == 0
	})
	if err == nil && !ended {
		err = fmt.Errorf("%d of %d threads that read disks wait for one since cpu%d went offline %v ago", waiting, len(list), cpu, readLimit)
	}
	return errors.Join(err, x.Set(cpu, Online))
}

// swapPages is how many pages a thread swaps out at a time.
const swapPages = 32

// swapped is memory that is swapped out.
type swapped struct {
	memory []byte
	round  uint64
}

func newSwapped() (*swapped, error) {
	memory, err := unix.Mmap(-1, 0, swapPages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return &swapped{memory: memory}, os.NewSyscallError("mmap", err)
}

func (s *swapped) unmap() error { return os.NewSyscallError("munmap", unix.Munmap(s.memory)) }

// fill makes a page for a round. Compressed it is much smaller, and none is of
// one value, which the kernel would not compress.
func (s *swapped) fill(page []byte, n int, round uint64) {
	for i := 0; i+16 <= len(page); i += 512 {
		binary.LittleEndian.PutUint64(page[i:], round)
		binary.LittleEndian.PutUint64(page[i+8:], uint64(n+i))
	}
}

// out writes all pages and has them swapped out. It returns how many were.
func (s *swapped) out() (int, error) {
	s.round++
	size := os.Getpagesize()
	for n := range swapPages {
		s.fill(s.memory[n*size:(n+1)*size], n, s.round)
	}
	if err := unix.Madvise(s.memory, unix.MADV_PAGEOUT); err != nil {
		return 0, os.NewSyscallError("madvise", err)
	}
	return inSwap(s.memory)
}

// check reads all pages.
func (s *swapped) check() error {
	size := os.Getpagesize()
	want := make([]byte, size)
	for n := range swapPages {
		s.fill(want, n, s.round)
		if got := s.memory[n*size : (n+1)*size]; !bytes.Equal(got, want) {
			at := 0
			for got[at] == want[at] {
				at++
			}
			return fmt.Errorf("byte %d of page %d is %#x, and was %#x before it was swapped out", at, n, got[at], want[at])
		}
	}
	return nil
}

// inSwap returns how many pages of this process's memory are swapped out, by
// bit 62 of /proc/self/pagemap.
func inSwap(memory []byte) (count int, err error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size := os.Getpagesize()
	entries := make([]byte, 8*len(memory)/size)
	if _, err := f.ReadAt(entries, int64(uintptr(unsafe.Pointer(&memory[0])))/int64(size)*8); err != nil {
		return 0, err
	}
	for ; len(entries) > 0; entries = entries[8:] {
		if binary.NativeEndian.Uint64(entries)&(1<<62) != 0 {
			count++
		}
	}
	return count, nil
}

// needsSwap is for a machine that swaps.
func needsSwap(*Machine) error {
	text, err := sysfs.ReadFile("/proc/swaps")
	if err != nil {
		return suite.Unsupportedf("%v: the kernel has no CONFIG_SWAP", err)
	}
	if strings.Count(text, "\n") == 0 {
		return suite.Unsupportedf("no swap space is in use (/proc/swaps)")
	}
	s, err := newSwapped()
	if err != nil {
		return err
	}
	n, err := s.out()
	if errors.Is(err, unix.EINVAL) {
		err = suite.Unsupportedf("%v: before v5.4", err)
	} else if err == nil && n == 0 {
		err = suite.Unsupportedf("none of %d pages can be swapped out: is the swap space full?", swapPages)
	}
	return errors.Join(err, s.unmap())
}

// swappers swap memory out and in, each on one of the CPUs while that is
// online.
var swappers = Actor{
	Name:  "thread that swaps",
	Count: onTargets,
	Begin: func(a *Act) (func() error, error) {
		s, err := newSwapped()
		if err != nil {
			return nil, err
		}
		a.Cleanup(s.unmap)
		targets := a.Scene.Targets()
		cpu := targets[a.N%len(targets)]
		return func() error {
			if err := pinnedTo(cpu); err != nil {
				return err
			}
			n, err := s.out()
			if err != nil {
				return err
			}
			a.Scene.Data.(*atomic.Int64).Add(int64(n)) // pages
			if err := s.check(); err != nil {
				return fmt.Errorf("a thread of cpu%d: %w", cpu, err)
			}
			return nil
		}, a.Scene.Enter()
	},
}
