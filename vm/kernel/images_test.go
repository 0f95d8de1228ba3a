package kernel_test

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// newELF makes a small ELF file with the given notes, and a text that has a
// kernel's banner after other occurrences of its words.
func newELF(machine elf.Machine, typ elf.Type, notes []byte) []byte {
	text := "\x00Linux version %s (%s)\n\x00" + linux + strings.Repeat("\xe8\x00\x01\x00\x00", 100) + strings.Repeat("\x00", 4000)
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(typ), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2,
	}
	if machine == elf.EM_S390 {
		header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	start := uint64(64 + 2*56)
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Off: start, Filesz: uint64(len(text))},
		{Type: uint32(elf.PT_NOTE), Off: start + uint64(len(text)), Filesz: uint64(len(notes))},
	}
	var order binary.ByteOrder = binary.LittleEndian
	if machine == elf.EM_S390 {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	for _, part := range []any{header, progs, []byte(text), notes} {
		if err := binary.Write(&b, order, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// note makes an ELF note, padded.
func note(name string, typ uint32, desc string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, typ)
	for _, s := range []string{name, desc} {
		b = append(b, s...)
		b = append(b, make([]byte, -len(s)&3)...)
	}
	return b
}

// vmlinux has the notes of a kernel with CONFIG_PVH, plain has none of it.
var (
	vmlinux = newELF(elf.EM_X86_64, elf.ET_EXEC, append(note("Xen\x00", 6, "linux\x00"), note("Xen\x00", 18, "\x00\x00\x00\x01")...))
	plain   = newELF(elf.EM_X86_64, elf.ET_EXEC, append(note("Xen\x00", 6, "linux\x00"), note("GNU\x00", 18, "\x00\x00\x00\x01")...))
)

// The vmlinux above, after xz --check=crc32 --x86 --lzma2=dict=32MiB and
// bzip2 -9, as the kernel's build packs.
const (
	vmlinuxXZ = "/Td6WFoAAAFpIt42AgEEACEBGgAByYCz4BLMAUldAD+RRYRoPYmm2orMk+JO8e3vZzEoYx1cpbkz+IJFP0pxXNYXZjwOkgM1MXwu" +
		"7sPsXYuuC0W1VvSHPuQd1aVzsPZYs8ZPUtVZnPxVriEEG+cYsWmlp1HipA1rUAD9/lKbmWrlNscZPraC1tLqq5BWK6LLUJho+4b3" +
		"71M2zNKvWCwEILewWCnU9uk4BVeADX+v3PUlHlvQPXFVciI8fQZ+MuLJFt7gNf/6QXhMc2i6OJTb/8HaMwlzFZqR/NXHSUeTMRn3" +
		"Pdet7VzVERwpAlx7BTYwziuA9F0B18EJIbG5vjlRAU9nNx2Q09cvOzyNlS6brrJOuRcQLzjXFT+KYD6GB93o04EJcxnQ61lrWDKW" +
		"cKDSKirwl45Nv8Hfpze+L69H0g7HPvQtW/oUMatE9HKuNJhU6NkF0cJj8HvqD2vy9DbbO2PfVLaCOQMAAAAAAKH7qeQAAeECzSUA" +
		"AEr9LN4+MA2LAgAAAAABWVo="
	vmlinuxBzip2 = "QlpoOTFBWSZTWW1CJvMAAU//mf+QvABKZ2XBQwZIQDavn0CgAkAAAEAgCDAAuSGpPRTJo0yaaaBoAPKeoZNB6mm1PUMAAAABoAAA" +
		"AAG1JJkaGQ0NAAAAAANOLPPzjDTi+SzAQQpeoXNG5OZKg84Ek+CSGAyfkhIdlYCKOu8qrAkFaFwhIfZSZ3ETfmFg1k5xGCIvqSTl" +
		"G0cHg/5jUuGFcB1qeQu/4klCVMdVVTBXXEcYGBgsomxCf2LHBtonxigFJHhptOGghemMJUXDNH59QU5CVTHPpUZgSR1mcB/F3JFO" +
		"FCQbUIm8wA=="
)

func decode(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// sized adds the size that a payload unpacks to, as the kernel's build does to
// all but gzip.
func sized(packed []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(packed), uint32(size))
}

// newBzImage makes a bzImage with a payload, and with code after it.
func newBzImage(payload []byte) []byte {
	const setupSects = 8
	b := make([]byte, (1+setupSects)*512)
	b[0x1f1] = setupSects
	copy(b[0x1fe:], "\x55\xaa")
	copy(b[0x202:], "HdrS")
	le := binary.LittleEndian
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], 0x300)
	le.PutUint16(b[0x236:], 1)
	le.PutUint32(b[0x248:], 0x40)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	copy(b[0x500:], release+" (debian-kernel@lists.debian.org) #1 SMP\x00")
	b = append(b, make([]byte, 0x40)...)
	b = append(b, payload...)
	return append(b, "code after the payload"...)
}

// newImage makes the start of a flat image, with a magic at an offset, and with
// a banner that crosses the border of 64 KiB at which a reader might cut it.
func newImage(offset int, magic string) []byte {
	b := make([]byte, 1<<16+100)
	copy(b[offset:], magic)
	copy(b[1<<16-5:], linux)
	return b
}

// newZboot makes an EFI zboot image.
func newZboot(payload []byte) []byte {
	b := make([]byte, 512)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], 512)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[24:], "gzip")
	b = append(b, payload...)
	return append(b, "after"...)
}

// patched returns a copy of b with other bytes at an offset.
func patched(b []byte, offset int, with string) []byte {
	b = bytes.Clone(b)
	copy(b[offset:], with)
	return b
}

// writeFile writes b to a file of its own, and returns its path.
func writeFile(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "vmlinuz")
	require.NoError(tb, os.WriteFile(path, b, 0o644))
	return path
}

var (
	arm64Image   = newImage(0x38, "ARM\x64")
	riscv64Image = newImage(0x38, "RSC\x05")
	s390xImage   = patched(make([]byte, 0x10020), 0x10008, "S390EP")
)
