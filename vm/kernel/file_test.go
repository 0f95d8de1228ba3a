package kernel_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

const (
	release = "6.1.0-47-amd64"
	linux   = "Linux version " + release + " (debian-kernel@lists.debian.org) #1 SMP\n"
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
			assert.Equal(t, &kernel.Image{Given: path, Named: path, Source: path, Release: tt.release, Arch: tt.goarch}, img)
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
		"./linux-6.1":    "kernel ./linux-6.1: no kernel in this directory: neither a kernel tree, nor vmlinuz-VERSION, boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz",
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
