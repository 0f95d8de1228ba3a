package kernel_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

const (
	release = "6.1.0-47-amd64"
	linux   = "Linux version " + release + " (debian-kernel@lists.debian.org) #1 SMP\n"
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

// newImage makes the start of a flat image, with a magic at an offset, and with a
// banner that crosses the border of 64 KiB at which a reader might cut it.
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

func TestResolveFile(t *testing.T) {
	longNote := note("Xen\x00", 10, strings.Repeat("!writable_page_tables|", 500))
	for _, tt := range []struct {
		name    string
		file    []byte
		goarch  string
		boot    []byte // what the file to boot holds; nil: the file itself is booted
		release string
		log     string
	}{
		{name: "bzImage gzip", file: newBzImage(gzipped(vmlinux)), goarch: "amd64", boot: vmlinux, release: release},
		{name: "bzImage zstd", file: newBzImage(sized(zstded(vmlinux), len(vmlinux))), goarch: "amd64", boot: vmlinux, release: release},
		{name: "bzImage xz", file: newBzImage(sized(decode(vmlinuxXZ), len(vmlinux))), goarch: "amd64", boot: vmlinux, release: release},
		{name: "bzImage bzip2", file: newBzImage(sized(decode(vmlinuxBzip2), len(vmlinux))), goarch: "amd64", boot: vmlinux, release: release},
		{
			name: "bzImage lz4", file: newBzImage(sized([]byte("\x02\x21\x4c\x18 and what follows"), 1000)), goarch: "amd64", release: release,
			log: "packed with lz4: unsupported operation: booting the bzImage itself",
		},
		{
			name: "bzImage without PVH", file: newBzImage(gzipped(plain)), goarch: "amd64", release: release,
			log: "the vmlinux in it has no PVH note: booting the bzImage itself",
		},
		{
			name: "bzImage lzo", file: newBzImage(sized([]byte("\x89LZO and what follows"), 1000)), goarch: "amd64", release: release,
			log: "packed with lzo: unsupported operation: booting the bzImage itself",
		},
		{
			name: "bzImage lzma", file: newBzImage(sized([]byte("\x5d\x00\x00\x80 and what follows"), 1000)), goarch: "amd64", release: release,
			log: "packed with lzma: unsupported operation: booting the bzImage itself",
		},
		{
			name: "bzImage unknown payload", file: newBzImage(sized([]byte("a packing of the future"), 1000)), goarch: "amd64", release: release,
			log: "packed in an unknown format: unsupported operation: booting the bzImage itself",
		},
		{
			name: "bzImage corrupt payload", file: newBzImage(patched(gzipped(vmlinux), 60, "\xff\xff\xff\xff")), goarch: "amd64", release: release,
			log: "unpacking: ",
		},
		{
			name: "bzImage claims the absurd", file: newBzImage(sized(zstded(vmlinux), 1<<31)), goarch: "amd64", release: release,
			log: "unpacking: to 2147483648 bytes, says the header",
		},
		{
			name: "bzImage claims too much", file: newBzImage(sized(zstded(vmlinux), len(vmlinux)+1)), goarch: "amd64", release: release,
			log: fmt.Sprintf("unpacking: %d bytes, %d expected", len(vmlinux), len(vmlinux)+1),
		},
		{
			name: "bzImage claims too little", file: newBzImage(sized(zstded(vmlinux), len(vmlinux)-1)), goarch: "amd64", release: release,
			log: fmt.Sprintf("unpacking: more than %d bytes", len(vmlinux)-1),
		},
		{
			name: "bzImage in bzImage", file: newBzImage(gzipped(newBzImage(gzipped(vmlinux)))), goarch: "amd64", release: release,
			log: "packed again",
		},
		{name: "bzImage 386", file: patched(newBzImage(gzipped(vmlinux)), 0x206, "\x07\x02"), goarch: "386", release: release},
		{name: "vmlinux", file: vmlinux, goarch: "amd64", release: release},
		{name: "vmlinux with a long note", file: newELF(elf.EM_X86_64, elf.ET_EXEC, append(longNote, note("Xen\x00", 18, "\x00\x00\x00\x01")...)), goarch: "amd64", release: release},
		{name: "vmlinux ppc64le", file: newELF(elf.EM_PPC64, elf.ET_DYN, nil), goarch: "ppc64le", release: release},
		{name: "vmlinux s390x", file: newELF(elf.EM_S390, elf.ET_EXEC, nil), goarch: "s390x", release: release},
		{name: "vmlinux riscv64", file: newELF(elf.EM_RISCV, elf.ET_EXEC, nil), goarch: "riscv64", release: release},
		{name: "Image arm64", file: arm64Image, goarch: "arm64", release: release},
		{name: "Image riscv64", file: riscv64Image, goarch: "riscv64", release: release},
		{name: "bzImage s390x", file: s390xImage, goarch: "s390x"},
		{name: "Image.gz", file: gzipped(arm64Image), goarch: "arm64", boot: arm64Image, release: release},
		{name: "Image.gz and more", file: append(gzipped(arm64Image), gzipped(arm64Image)...), goarch: "arm64", boot: arm64Image, release: release},
		{name: "zboot gzip", file: newZboot(gzipped(arm64Image)), goarch: "arm64", boot: arm64Image, release: release},
		{name: "zboot zstd", file: newZboot(zstded(riscv64Image)), goarch: "riscv64", boot: riscv64Image, release: release},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, cache := writeFile(t, tt.file), t.TempDir()
			var log strings.Builder
			img, err := kernel.Resolve(t.Context(), path, tt.goarch, cache, &log)
			require.NoError(t, err)

			if tt.boot == nil {
				assert.Equal(t, path, img.Boot)
			} else {
				assert.Equal(t, filepath.Join(cache, "unpacked", fmt.Sprintf("%x", sha256.Sum256(tt.file))), img.Boot)
				boot, err := os.ReadFile(img.Boot)
				require.NoError(t, err)
				assert.True(t, bytes.Equal(tt.boot, boot), "the unpacked kernel is not the one packed")
			}
			img.Boot = ""
			assert.Equal(t, &kernel.Image{Given: path, Source: path, Release: tt.release, Arch: tt.goarch}, img)
			if tt.log == "" {
				assert.Empty(t, log.String())
			} else {
				assert.Contains(t, log.String(), "kernel "+path+": ")
				assert.Contains(t, log.String(), tt.log)
				assert.Equal(t, 1, strings.Count(log.String(), "\n"))
			}
		})
	}
}

func TestResolveFileErrors(t *testing.T) {
	good := newBzImage(gzipped(vmlinux))
	for _, tt := range []struct {
		name string
		file []byte
		want string // after "kernel PATH: "
	}{
		{"empty", nil, "not a kernel image that QEMU boots (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)"},
		{"text", []byte("CONFIG_HOTPLUG_CPU=y\n"), "not a kernel image that QEMU boots (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)"},
		{"boot sector", good[:0x200], "not a kernel image that QEMU boots (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)"},
		{"bzImage cut in its header", good[:0x240], "not a kernel image that QEMU boots: bzImage cut off after 576 bytes"},
		{"bzImage cut in its payload", good[:len(good)-50], fmt.Sprintf("not a kernel image that QEMU boots: bzImage cut off before the end of its payload, at byte %d", len(good)-22)},
		{"bzImage with an absurd payload", patched(good, 0x248, "\xff\xff\xff\xff\xff\xff\xff\xff"), "not a kernel image that QEMU boots: bzImage cut off before the end of its payload, at byte 8589939198"},
		{"bzImage of 32 bits", patched(good, 0x236, "\x00"), "built for 386, not for amd64"},
		{"vmlinux without PVH", plain, "not a kernel image that QEMU boots: an ELF file without PVH note: build with CONFIG_PVH=y, or give arch/x86/boot/bzImage"},
		{"vmlinux cut", vmlinux[:50], "not a kernel image that QEMU boots: EOF"},
		{"object file", newELF(elf.EM_X86_64, elf.ET_REL, nil), "not a kernel image that QEMU boots: ELF file of type ET_REL"},
		{"ELF of another architecture", newELF(elf.EM_MIPS, elf.ET_EXEC, nil), "not a kernel image that QEMU boots: ELF file for EM_MIPS, ELFCLASS64, ELFDATA2LSB"},
		{"kernel of another architecture", arm64Image, "built for arm64, not for amd64"},
		{"gzip of text", gzipped([]byte("text")), "what is packed in it: not a kernel image that QEMU boots (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)"},
		{"gzip of gzip", gzipped(gzipped(arm64Image)), "what is packed in it: not a kernel image that QEMU boots: packed again"},
		{"gzip cut", gzipped(arm64Image)[:100], "unpacking: unexpected EOF"},
		{"zboot cut", newZboot(nil)[:20], "not a kernel image that QEMU boots: zboot image cut off after 20 bytes"},
		{"zboot lzma", newZboot([]byte("\x5d\x00\x00\x80")), "packed with lzma: unsupported operation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, tt.file)
			_, err := kernel.Resolve(t.Context(), path, "amd64", t.TempDir(), io.Discard)
			require.EqualError(t, err, "kernel "+path+": "+tt.want)
			if strings.Contains(tt.want, kernel.ErrNotKernel.Error()) {
				assert.ErrorIs(t, err, kernel.ErrNotKernel)
			}
		})
	}

	t.Run("vmlinux arm64", func(t *testing.T) {
		path := writeFile(t, newELF(elf.EM_AARCH64, elf.ET_DYN, nil))
		_, err := kernel.Resolve(t.Context(), path, "arm64", t.TempDir(), io.Discard)
		assert.ErrorIs(t, err, kernel.ErrNotKernel)
		assert.ErrorContains(t, err, "give arch/arm64/boot/Image")
	})
}

func TestResolveName(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("linux-6.1", 0o755))
	require.NoError(t, os.WriteFile("bookworm", newBzImage(gzipped(vmlinux)), 0o644))

	for name, want := range map[string]string{
		"./foo/bzImage":  "no kernel file ./foo/bzImage",
		"/nowhere":       "no kernel file /nowhere",
		"foo/bzImage":    "no kernel file foo/bzImage, and not like a Debian suite: bookworm, bookworm/rt, bookworm/cloud",
		"trixie/mips":    "no kernel file trixie/mips, and not like a Debian suite: bookworm, bookworm/rt, bookworm/cloud",
		"./linux-6.1":    "kernel ./linux-6.1: not a kernel image that QEMU boots (not a regular file)",
		"bookworm/x":     "kernel: stat bookworm/x: not a directory",
		"":               "no kernel file , and not like a Debian suite: bookworm, bookworm/rt, bookworm/cloud",
		"suite\nE: oops": "no kernel file suite\nE: oops, and not like a Debian suite: bookworm, bookworm/rt, bookworm/cloud",
	} {
		_, err := kernel.Resolve(t.Context(), name, "amd64", "cache", io.Discard)
		assert.EqualError(t, err, want, "name %q", name)
	}

	img, err := kernel.Resolve(t.Context(), "bookworm", "amd64", "cache", io.Discard)
	require.NoError(t, err, "a file comes before a suite of its name")
	assert.Equal(t, "bookworm", img.Source)
	assert.True(t, filepath.IsAbs(img.Boot), "%s is not absolute", img.Boot)
}

func TestUnpackedCache(t *testing.T) {
	path, cache := writeFile(t, newBzImage(gzipped(vmlinux))), t.TempDir()
	resolve := func() string {
		img, err := kernel.Resolve(t.Context(), path, "amd64", cache, io.Discard)
		require.NoError(t, err)
		return img.Boot
	}
	lastWeek := time.Now().Add(-7 * 24 * time.Hour)

	boot := resolve()
	before, err := os.Stat(boot)
	require.NoError(t, err)
	require.NoError(t, os.Chtimes(boot, lastWeek, lastWeek))
	require.Equal(t, boot, resolve())
	after, err := os.Stat(boot)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "unpacked again")
	assert.WithinDuration(t, time.Now(), after.ModTime(), time.Hour, "use is not recorded")

	require.NoError(t, os.Truncate(boot, 10))
	resolve()
	b, err := os.ReadFile(boot)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(vmlinux, b), "a damaged file in the cache was used")

	// Of twelve others the three used longest ago have to go.
	dir := filepath.Dir(boot)
	for i := range 12 {
		name := filepath.Join(dir, fmt.Sprintf("kernel%02d", i))
		require.NoError(t, os.WriteFile(name, nil, 0o644))
		used := lastWeek.Add(-time.Duration(i) * time.Hour)
		require.NoError(t, os.Chtimes(name, used, used))
	}
	require.NoError(t, os.Remove(boot))
	resolve()
	want := []string{filepath.Base(boot)}
	for i := range 9 {
		want = append(want, fmt.Sprintf("kernel%02d", i))
	}
	var have []string
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		have = append(have, e.Name())
	}
	assert.ElementsMatch(t, want, have)
}

func FuzzResolveFile(f *testing.F) {
	for _, b := range [][]byte{
		nil, []byte("text"), vmlinux, plain, arm64Image[:100], riscv64Image[:100], gzipped(arm64Image[:100]), newZboot(gzipped(arm64Image[:100])),
		newBzImage(gzipped(vmlinux)), newBzImage(sized(zstded(vmlinux), len(vmlinux))),
		newBzImage(sized(decode(vmlinuxXZ), len(vmlinux))),
	} {
		f.Add(b)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "vmlinuz")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		for _, goarch := range []string{"amd64", "arm64"} {
			img, err := kernel.Resolve(t.Context(), path, goarch, dir, io.Discard)
			if err != nil {
				continue
			}
			assert.Equal(t, goarch, img.Arch)
			assert.FileExists(t, img.Boot)
			assert.LessOrEqual(t, len(img.Release), 1<<16)
		}
	})
}
