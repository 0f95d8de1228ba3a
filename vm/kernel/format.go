package kernel

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// A format is a kind of file that kernels come in.
type format int

const (
	bzImage  format = iota + 1 // x86 boot protocol, around a packed vmlinux
	vmlinux                    // ELF
	image                      // the flat image of arm64 and riscv64, the bzImage of s390x
	zboot                      // EFI application, around a packed image
	gzipFile                   // gzipped image
)

// layout is what a kernel file says about itself.
type layout struct {
	format  format
	arch    string // GOARCH; empty where only the packed kernel knows
	release string // as uname -r; empty if not told
	pvh     bool   // the vmlinux has the PVH entry point

	packed *io.SectionReader // the kernel inside, with nothing after it; nil if this is it
	size   int64             // of that kernel unpacked, as the file says; 0 if it does not
}

// inspect reads the layout of a kernel file. It fails with ErrNotKernel.
func inspect(r io.ReaderAt) (*layout, error) {
	head := make([]byte, 0x10010)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	at := func(offset int, magic string) bool {
		return offset < n && strings.HasPrefix(string(head[offset:min(offset+len(magic), n)]), magic)
	}
	switch {
	case at(0x1fe, "\x55\xaa") && at(0x202, "HdrS"):
		return inspectBzImage(r, head)
	case at(0, elf.ELFMAG):
		return inspectVmlinux(r)
	case at(0, "MZ") && at(4, "zimg"):
		return inspectZboot(r, head)
	case at(0x38, "ARM\x64"):
		return &layout{format: image, arch: "arm64", release: banner(all(r))}, nil
	case at(0x38, "RSC\x05"):
		return &layout{format: image, arch: "riscv64", release: banner(all(r))}, nil
	case at(0x10008, "S390EP"):
		return &layout{format: image, arch: "s390x", release: banner(all(r))}, nil
	case at(0, "\x1f\x8b"):
		return &layout{format: gzipFile, packed: all(r)}, nil
	}
	return nil, fmt.Errorf("%w (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)", ErrNotKernel)
}

// bootable returns ErrNotKernel for what QEMU loads, but not as a kernel.
func (k *layout) bootable() error {
	switch {
	case k.format != vmlinux:
		return nil
	case k.arch == "amd64" && !k.pvh:
		return fmt.Errorf("%w: an ELF file without PVH note: build with CONFIG_PVH=y, or give arch/x86/boot/bzImage", ErrNotKernel)
	case k.arch == "arm64":
		return fmt.Errorf("%w: an ELF file for arm64: give arch/arm64/boot/Image", ErrNotKernel)
	}
	return nil
}

// inspectBzImage reads the header that the kernel's
// Documentation/arch/x86/boot.rst describes. The head is the file's first
// bytes, as many as hold the real-mode code.
func inspectBzImage(r io.ReaderAt, head []byte) (*layout, error) {
	if len(head) < 0x268 {
		return nil, fmt.Errorf("%w: bzImage cut off after %d bytes", ErrNotKernel, len(head))
	}
	le := binary.LittleEndian
	k := &layout{format: bzImage, arch: "386"}
	protocol, xloadflags := le.Uint16(head[0x206:]), le.Uint16(head[0x236:])
	if protocol >= 0x20c && xloadflags&1 != 0 { // XLF_KERNEL_64
		k.arch = "amd64"
	}
	if version := int(le.Uint16(head[0x20e:])) + 0x200; version > 0x200 && version < len(head) {
		text, _, _ := bytes.Cut(head[version:], []byte{0})
		k.release, _, _ = strings.Cut(string(text), " ")
	}
	if k.arch != "amd64" {
		return k, nil
	}
	setup := int64(head[0x1f1])
	if setup == 0 {
		setup = 4
	}
	offset := (setup+1)*512 + int64(le.Uint32(head[0x248:]))
	length := int64(le.Uint32(head[0x24c:]))
	if length < 8 {
		return k, nil
	}
	// The payload ends in the size it unpacks to. In gzip this is part of the
	// format; to all others the kernel's build adds it.
	var tail [4]byte
	if _, err := r.ReadAt(tail[:], offset+length-4); err != nil {
		return nil, fmt.Errorf("%w: bzImage cut off before the end of its payload, at byte %d", ErrNotKernel, offset+length)
	}
	var magic [2]byte
	if _, err := r.ReadAt(magic[:], offset); err != nil {
		return nil, err
	}
	if magic != [2]byte{0x1f, 0x8b} {
		length -= 4
	}
	k.size = int64(le.Uint32(tail[:]))
	k.packed = io.NewSectionReader(r, offset, length)
	return k, nil
}

// inspectZboot reads the header that
// drivers/firmware/efi/libstub/zboot-header.S lays out.
func inspectZboot(r io.ReaderAt, head []byte) (*layout, error) {
	if len(head) < 64 {
		return nil, fmt.Errorf("%w: zboot image cut off after %d bytes", ErrNotKernel, len(head))
	}
	le := binary.LittleEndian
	offset, length := int64(le.Uint32(head[8:])), int64(le.Uint32(head[12:]))
	return &layout{format: zboot, packed: io.NewSectionReader(r, offset, length)}, nil
}

func inspectVmlinux(r io.ReaderAt) (*layout, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("%w: ELF file of type %s", ErrNotKernel, f.Type)
	}
	k := &layout{format: vmlinux, arch: Architecture(f.FileHeader)}
	if k.arch == "" {
		return nil, fmt.Errorf("%w: ELF file for %s, %s, %s", ErrNotKernel, f.Machine, f.Class, f.Data)
	}
	for _, p := range f.Progs {
		switch {
		case p.Type == elf.PT_NOTE:
			k.pvh = k.pvh || hasPVH(p.Open(), f.ByteOrder)
		case p.Type == elf.PT_LOAD && k.release == "":
			k.release = banner(p.Open())
		}
	}
	return k, nil
}

// hasPVH looks in ELF notes for XEN_ELFNOTE_PHYS32_ENTRY, the entry point that
// QEMU boots a vmlinux by.
func hasPVH(notes io.Reader, order binary.ByteOrder) bool {
	const physEntry = 18
	r := bufio.NewReader(notes)
	for {
		var note struct{ NameSize, DescSize, Type uint32 }
		if err := binary.Read(r, order, &note); err != nil {
			return false
		}
		if note.NameSize == 4 && note.Type == physEntry {
			var name [4]byte
			_, err := io.ReadFull(r, name[:])
			return err == nil && string(name[:]) == "Xen\x00"
		}
		align := func(n uint32) int64 { return (int64(n) + 3) &^ 3 }
		if _, err := io.CopyN(io.Discard, r, align(note.NameSize)+align(note.DescSize)); err != nil {
			return false
		}
	}
}

// banner returns the release in the "Linux version 6.1.0-47-amd64 (…" of an
// uncompressed kernel, or "".
func banner(r io.Reader) string {
	const prefix, longest = "Linux version ", 64 // __NEW_UTS_LEN
	b := bufio.NewReaderSize(r, 1<<16)
	for {
		window, err := b.Peek(1 << 16)
		if i := bytes.Index(window, []byte(prefix)); i >= 0 {
			b.Discard(i + len(prefix))
			text, _ := b.Peek(longest + 1)
			release, _, found := strings.Cut(string(text), " ")
			if found && release != "" && release[0] >= '0' && release[0] <= '9' {
				return release
			}
			continue
		}
		if err != nil {
			return ""
		}
		b.Discard(len(window) - len(prefix) + 1)
	}
}

func all(r io.ReaderAt) *io.SectionReader { return io.NewSectionReader(r, 0, math.MaxInt64) }
