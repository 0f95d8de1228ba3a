package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// Words of the kernel's command line, for this init alone: a disk without which
// the program does not start, and a disk in memory to swap to, as in
// guest.disk=nvme0n1 guest.swap=zram0. They can be in modules.
const (
	diskWord = "guest.disk="
	swapWord = "guest.swap="
)

// diskLimit is how long a driver may take to find its disk.
const diskLimit = 20 * time.Second

// swapSize is the size of the disk in memory, in bytes.
const swapSize = 64 << 20

// equip gives the machine what the program needs beside a kernel.
func equip(modules []wire.Module) error {
	if err := load(modules); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for word := range strings.FieldsSeq(string(cmdline)) {
		if name, ok := strings.CutPrefix(word, diskWord); ok {
			err = awaitDisk(name)
		} else if name, ok := strings.CutPrefix(word, swapWord); ok {
			err = swapTo(name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

// load loads modules of the kernel.
func load(modules []wire.Module) error {
	for _, m := range modules {
		f, err := os.Open(m.Path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), m.Params, 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("module %s: finit_module(2) with parameters %q: %w", filepath.Base(m.Path), m.Params, err)
		}
	}
	return nil
}

// awaitDisk returns when a driver has found its disk, which it does in the
// background.
func awaitDisk(name string) error {
	for end := time.Now().Add(diskLimit); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(filepath.Join("/dev", name))
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func swapTo(name string) error {
	size := filepath.Join("/sys/block", name, "disksize")
	if err := os.WriteFile(size, fmt.Append(nil, swapSize), 0o644); err != nil {
		return err
	}
	device := filepath.Join("/dev", name)
	if err := os.WriteFile(device, swapHeader(os.Getpagesize()), 0o600); err != nil {
		return err
	}
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return &os.PathError{Op: "swapon", Path: device, Err: errno}
	}
	return nil
}

// swapHeader is the first page of swap space, as mkswap(8) writes it: union
// swap_header of include/linux/swap.h.
func swapHeader(pageSize int) []byte {
	const bootbits, magic = 1024, "SWAPSPACE2"
	page := make([]byte, pageSize)
	binary.NativeEndian.PutUint32(page[bootbits:], 1)                             // version
	binary.NativeEndian.PutUint32(page[bootbits+4:], uint32(swapSize/pageSize-1)) // last_page
	copy(page[pageSize-len(magic):], magic)
	return page
}
