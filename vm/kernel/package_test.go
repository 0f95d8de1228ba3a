package kernel_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

// file is a file in a package.
type file struct {
	name    string
	content []byte
}

// tarOf makes a tar archive.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.content))}))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// ar makes an ar archive.
func ar(members ...file) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.content))
		b = append(b, m.content...)
		if len(m.content)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// newDeb makes a Debian package. suffix is that of its archives' packing.
func newDeb(t testing.TB, control, suffix string, pack func([]byte) []byte, files ...file) []byte {
	t.Helper()
	return ar(file{"debian-binary", []byte("2.0\n")},
		file{"control.tar" + suffix, pack(tarOf(t, file{"./control", []byte(control + "\n")}))},
		file{"data.tar" + suffix, pack(tarOf(t, files...))})
}

const debControl = "Package: linux-image-6.1.0-47-amd64\nVersion: 6.1.170-1\nArchitecture: amd64\nDepends: kmod"

// xzed packs by xz, or skips the test if there is none.
func xzed(t testing.TB) func([]byte) []byte {
	return func(b []byte) []byte {
		if _, err := exec.LookPath("xz"); err != nil {
			t.Skip("there is no xz")
		}
		cmd := exec.Command("xz", "--compress", "--stdout")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		require.NoError(t, err)
		return out
	}
}

func asItIs(b []byte) []byte { return b }

// rpmTag is a value in the header of an RPM: a text or a number.
type rpmTag struct {
	tag    uint32
	text   string
	number uint32
}

// rpmHeader makes a header.
func rpmHeader(tags ...rpmTag) []byte {
	var index, store []byte
	be := binary.BigEndian
	for _, tag := range tags {
		kind := uint32(6)
		if tag.text == "" {
			kind = 4
			store = append(store, make([]byte, -len(store)&3)...)
		}
		for _, n := range []uint32{tag.tag, kind, uint32(len(store)), 1} {
			index = be.AppendUint32(index, n)
		}
		if tag.text == "" {
			store = be.AppendUint32(store, tag.number)
		} else {
			store = append(store, tag.text+"\x00"...)
		}
	}
	head := []byte("\x8e\xad\xe8\x01\x00\x00\x00\x00")
	head = be.AppendUint32(be.AppendUint32(head, uint32(len(tags))), uint32(len(store)))
	return append(append(head, index...), store...)
}

// newRPM makes an RPM.
func newRPM(t testing.TB, name, arch string, pack func([]byte) []byte, more []rpmTag, files ...file) []byte {
	t.Helper()
	var payload bytes.Buffer
	w := cpio.NewWriter(&payload)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&cpio.Header{Name: f.name, Mode: cpio.TypeReg | 0o644, Size: int64(len(f.content))}))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	header := rpmHeader(append([]rpmTag{{1000, name, 0}, {1001, "6.8.5", 0}, {1002, "301.fc40", 0}, {1022, arch, 0}}, more...)...)
	follows := append(header, pack(payload.Bytes())...)
	b := append(make([]byte, 0, 1<<16), "\xed\xab\xee\xdb\x03\x00"...)
	b = append(b, make([]byte, 96-len(b))...)
	b = append(b, rpmHeader(rpmTag{1000, "", uint32(len(follows))})...)
	b = append(b, make([]byte, -len(b)&7)...)
	return append(b, follows...)
}

var (
	bzImage    = newBzImage(gzipped(vmlinux))
	config     = []byte("# Linux/x86 6.1.170 Kernel Configuration\nCONFIG_SMP=y\n# CONFIG_HOTPLUG_CPU is not set\nCONFIG_SERIAL_8250=m\n")
	debFiles   = []file{{"./boot/config-" + release, config}, {"./boot/vmlinuz-" + release, bzImage}, {"./lib/modules/module.ko", nil}}
	fedoraDir  = "./lib/modules/6.8.5-301.fc40.x86_64/"
	fedora     = []file{{fedoraDir + ".vmlinuz.hmac", []byte("x")}, {fedoraDir + "config", config}, {fedoraDir + "vmlinuz", bzImage}}
	suse       = []file{{"./boot/vmlinux-6.4.0-1-default.gz", []byte("x")}, {"./usr/lib/modules/6.4.0-1-default/vmlinuz", bzImage}, {"./usr/lib/modules/6.4.0-1-default/config", config}}
	noConfig   = []file{{"./usr/lib/modules/6.1/vmlinuz", bzImage}}
	modules    = []file{{"./lib/modules/6.1/kernel/a.ko", []byte("x")}, {"./lib/modules/6.1/modules.order", []byte("x")}}
	debSources = []file{{"./usr/src/linux/Makefile", []byte("x")}}
)

func TestResolvePackage(t *testing.T) {
	const deb, rpm = "linux-image-6.1.0-47-amd64 6.1.170-1", "kernel-core 6.8.5-301.fc40"
	for _, tt := range []struct {
		name, source string
		content      []byte
		config       bool
	}{
		{"gzip.deb", deb, newDeb(t, debControl, ".gz", gzipped, debFiles...), true},
		{"zstd.deb", deb, newDeb(t, debControl, ".zst", zstded, debFiles...), true},
		{"plain.deb", deb, newDeb(t, debControl, "", asItIs, debFiles...), true},
		{"without config.deb", deb, newDeb(t, debControl, ".gz", gzipped, noConfig...), false},
		{"zstd.rpm", rpm, newRPM(t, "kernel-core", "x86_64", zstded, nil, fedora...), true},
		{"gzip.rpm", rpm, newRPM(t, "kernel-core", "x86_64", gzipped, nil, fedora...), true},
		{"suse.rpm", "kernel-default 1:6.8.5-301.fc40", newRPM(t, "kernel-default", "x86_64", zstded, []rpmTag{{1003, "", 1}}, suse...), true},
	} {
		t.Run(tt.name, func(t *testing.T) { checkPackage(t, tt.name, tt.content, tt.source, tt.config) })
	}
	t.Run("xz.deb", func(t *testing.T) {
		checkPackage(t, "xz.deb", newDeb(t, debControl, ".xz", xzed(t), debFiles...), deb, true)
	})
	t.Run("xz.rpm", func(t *testing.T) {
		checkPackage(t, "xz.rpm", newRPM(t, "kernel-core", "x86_64", xzed(t), nil, fedora...), rpm, true)
	})
}

func checkPackage(t *testing.T, name string, content []byte, source string, hasConfig bool) {
	t.Helper()
	path, cache := filepath.Join(t.TempDir(), name), t.TempDir()
	require.NoError(t, os.WriteFile(path, content, 0o644))
	img, err := kernel.Resolve(t.Context(), path, "amd64", cache, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, source, img.Source)
	assert.Equal(t, release, img.Release)
	assert.Equal(t, path, img.Named)
	given, err := os.ReadFile(img.Given)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(bzImage, given), "the kernel is not that of the package")
	boot, err := os.ReadFile(img.Boot)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(vmlinux, boot), "it is not unpacked")
	lacks, err := img.Lacks("SMP", "HOTPLUG_CPU", "SERIAL_8250", "NET")
	require.NoError(t, err)
	if hasConfig {
		assert.Equal(t, []string{"CONFIG_HOTPLUG_CPU is not set", "CONFIG_SERIAL_8250=m", "CONFIG_NET is not set"}, lacks)
	} else {
		assert.Empty(t, lacks)
	}

	// The second time it comes from the cache, also if an entry is damaged.
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(img.Given), "kernel.json")))
	for range 2 {
		again, err := kernel.Resolve(t.Context(), path, "amd64", cache, io.Discard)
		require.NoError(t, err)
		assert.Equal(t, img, again)
	}
	entries, err := os.ReadDir(filepath.Join(cache, "packages"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// What cannot be tested is refused in one line that says why.
func TestRefusePackage(t *testing.T) {
	control := func(name, arch, depends string) string {
		return fmt.Sprintf("Package: %s\nVersion: 6.1.170-1\nArchitecture: %s\nDepends: %s", name, arch, depends)
	}
	deb := func(control string, files ...file) []byte { return newDeb(t, control, ".gz", gzipped, files...) }
	rpm := func(name, arch string, more []rpmTag, files ...file) []byte {
		return newRPM(t, name, arch, gzipped, more, files...)
	}
	good, goodRPM := deb(debControl, debFiles...), rpm("kernel-core", "x86_64", nil, fedora...)
	const give = ": give a linux-image or kernel-core package"
	for _, tt := range []struct {
		name    string
		content []byte
		want    string // after "kernel PATH: "
	}{
		{"headers.deb", deb(control("linux-headers-6.1.0-47-amd64", "amd64", ""), debSources...), "package linux-headers-6.1.0-47-amd64 6.1.170-1 has headers for building modules, and no kernel" + give},
		{"debug.deb", deb(control("linux-image-6.1.0-47-amd64-dbg", "amd64", ""), file{"./usr/lib/debug/boot/vmlinux-6.1", vmlinux}), "package linux-image-6.1.0-47-amd64-dbg 6.1.170-1 has debug symbols, and no kernel that boots" + give},
		{"modules.deb", deb(control("linux-modules-6.8.0-31-generic", "amd64", ""), modules...), "package linux-modules-6.8.0-31-generic 6.1.170-1 has modules, and no kernel" + give},
		{"meta.deb", deb(control("linux-image-amd64", "amd64", "linux-image-6.1.0-47-amd64 (= 6.1.170-1)")), "package linux-image-amd64 6.1.170-1 holds no kernel: it depends on linux-image-6.1.0-47-amd64, which may have it"},
		{"arm64.deb", deb(control("linux-image-6.1.0-47-arm64", "arm64", ""), debFiles...), "package linux-image-6.1.0-47-arm64 6.1.170-1 is for arm64, not for amd64"},
		{"i386.deb", deb(control("linux-image-6.1.0-47-686", "i386", ""), debFiles...), "package linux-image-6.1.0-47-686 6.1.170-1 is for i386, not for amd64"},
		{"other.deb", deb(control("hello", "amd64", "libc6"), debSources...), "package hello 6.1.170-1 holds no kernel" + give},
		{"wrong kernel.deb", deb(debControl, file{"./boot/vmlinuz-6", arm64Image}), "built for arm64, not for amd64"},
		{"text for a kernel.deb", deb(debControl, file{"./boot/vmlinuz-6", []byte("x")}), "not a kernel image that QEMU boots (want an x86 bzImage, an ELF vmlinux, or an arm64 Image)"},
		{"cut.deb", good[:len(good)-300], fmt.Sprintf("the package is cut off after %d bytes, within data.tar.gz", len(good)-300)},
		{"cut in a header.deb", good[:30], "the package is cut off after 30 bytes"},
		{"cut before the data.deb", good[:72], "an ar archive that is no Debian package, or cut off: it has no control.tar and data.tar"},
		{"library.a", ar(file{"a.o", []byte("x")}), "an ar archive that is no Debian package, or cut off: it has no control.tar and data.tar"},
		{"damaged.deb", patched(good, 8+48, "x"), "the package is damaged at byte 8"},
		{"lz4.deb", newDeb(t, debControl, ".lz4", func([]byte) []byte { return []byte("\x02\x21\x4c\x18") }), "control.tar.lz4: packed with lz4: unsupported operation"},
		{"devel.rpm", rpm("kernel-devel", "x86_64", nil, debSources...), "package kernel-devel 6.8.5-301.fc40 has headers for building modules, and no kernel" + give},
		{"debuginfo.rpm", rpm("kernel-debuginfo", "x86_64", nil, file{"./usr/lib/debug/lib/modules/6.8/vmlinux", vmlinux}), "package kernel-debuginfo 6.8.5-301.fc40 has debug symbols, and no kernel that boots" + give},
		{"modules.rpm", rpm("kernel-modules-core", "x86_64", nil, modules...), "package kernel-modules-core 6.8.5-301.fc40 has modules, and no kernel" + give},
		{"meta.rpm", rpm("kernel", "x86_64", []rpmTag{{1049, "kernel-core-uname-r", 0}}), "package kernel 6.8.5-301.fc40 holds no kernel: it depends on kernel-core-uname-r, which may have it"},
		{"source.rpm", rpm("kernel", "s390x", []rpmTag{{1106, "", 1}}, debSources...), "package kernel 6.8.5-301.fc40 is a source package, and holds no kernel" + give},
		{"aarch64.rpm", rpm("kernel-core", "aarch64", nil, fedora...), "package kernel-core 6.8.5-301.fc40 is for arm64, not for amd64"},
		{"i686.rpm", rpm("kernel-core", "i686", nil, fedora...), "package kernel-core 6.8.5-301.fc40 is for i686, not for amd64"},
		{"cut.rpm", goodRPM[:len(goodRPM)-10], fmt.Sprintf("the package is cut off after %d of %d bytes", len(goodRPM)-10, len(goodRPM))},
		{"cut in its header.rpm", goodRPM[:130], "the package is cut off after 130 bytes"},
		{"cut in its lead.rpm", goodRPM[:50], "the package is cut off after 50 bytes"},
		{"damaged.rpm", patched(goodRPM, 96, "x"), "the package is damaged at byte 96"},
		// The index of its second header begins at byte 152.
		{"an index of 1 GB.rpm", patched(goodRPM, 144, "\x03\xff\xff\xff"), "the package is damaged at byte 136"},
		{"values of 4 GB.rpm", patched(goodRPM, 148, "\xff\xff\xff\xff"), "the package is damaged at byte 136"},
		{"a value outside.rpm", patched(goodRPM, 160, "\x00\x01\x00\x00"), "the package is damaged at byte 136"},
		{"2 GB of values.rpm", patched(goodRPM, 164, "\x7f\xff\xff\xff"), "the package is damaged at byte 136"},
		{"no such kind.rpm", patched(goodRPM, 156, "\x00\x00\x00\x0f"), "the package is damaged: its header has values that are none"},
		{"a text without an end.rpm", patched(patched(goodRPM, 212, "\x00\x00\x00\x02"), 249, "x"), "the package is damaged: its header has values that are none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.name)
			require.NoError(t, os.WriteFile(path, tt.content, 0o644))
			cache := t.TempDir()
			_, err := kernel.Resolve(t.Context(), path, "amd64", cache, io.Discard)
			require.EqualError(t, err, "kernel "+path+": "+tt.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func FuzzResolvePackage(f *testing.F) {
	f.Add(newDeb(f, debControl, ".gz", gzipped, debFiles...))
	f.Add(newDeb(f, debControl, "", asItIs, noConfig...))
	f.Add(newRPM(f, "kernel-core", "x86_64", gzipped, nil, fedora...))
	f.Add(newRPM(f, "kernel-core", "x86_64", zstded, nil, suse...))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "package")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		img, err := kernel.Resolve(t.Context(), path, "amd64", dir, io.Discard)
		if err != nil {
			return
		}
		assert.FileExists(t, img.Boot)
		_, _ = img.Lacks("SMP")
	})
}

// lay puts files below a directory.
func lay(t testing.TB, dir string, files ...file) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, f.content, 0o644))
	}
}

func TestResolveDirectory(t *testing.T) {
	of := func(name string) file { return file{name, bzImage} }
	conf := func(name string) file { return file{name, config} }
	tree := []file{conf(".config"), of("arch/x86/boot/bzImage"), {"include/config/kernel.release", []byte(release + "\n")}}
	for _, tt := range []struct {
		name         string
		files        []file
		want, config string // paths
	}{
		{"a kernel tree", tree, "arch/x86/boot/bzImage", ".config"},
		{"an unpacked kernel in a tree", []file{conf(".config"), {"vmlinux", vmlinux}}, "vmlinux", ".config"},
		{"INSTALL_PATH", []file{of("vmlinuz-6.1"), of("vmlinuz-6.1.old"), conf("config-6.1"), {"System.map-6.1", nil}}, "vmlinuz-6.1", "config-6.1"},
		{"INSTALL_PATH without a version", []file{of("vmlinuz"), {"System.map", nil}}, "vmlinuz", ""},
		{"tar-pkg", append([]file{of("boot/vmlinuz-6.1"), {"boot/vmlinux-6.1", vmlinux}, conf("boot/config-6.1")}, modules...), "boot/vmlinuz-6.1", "boot/config-6.1"},
		{"modules with their kernel", append([]file{of("lib/modules/6.1/vmlinuz"), conf("lib/modules/6.1/config")}, modules...), "lib/modules/6.1/vmlinuz", "lib/modules/6.1/config"},
		{"the modules' own directory", []file{of("vmlinuz"), conf("config"), {"modules.order", nil}}, "vmlinuz", "config"},
		{"boot, and modules with the configuration", append([]file{of("boot/vmlinuz-6.1"), conf("usr/lib/modules/6.1/config")}, modules...), "boot/vmlinuz-6.1", "usr/lib/modules/6.1/config"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			lay(t, dir, tt.files...)
			img, err := kernel.Resolve(t.Context(), dir, "amd64", t.TempDir(), io.Discard)
			require.NoError(t, err)
			assert.Equal(t, filepath.Join(dir, tt.want), img.Named)
			assert.Equal(t, dir+": "+tt.want+" "+release, img.Source)
			if tt.config != "" {
				tt.config = filepath.Join(dir, tt.config)
			}
			assert.Equal(t, tt.config, img.Config)
		})
	}

	t.Run("modules_install from a tree", func(t *testing.T) {
		built, dir := t.TempDir(), t.TempDir()
		lay(t, built, tree...)
		lay(t, filepath.Join(dir, "lib/modules", release), file{"modules.order", nil}, file{"modules.builtin", nil})
		require.NoError(t, os.Symlink(built, filepath.Join(dir, "lib/modules", release, "build")))
		img, err := kernel.Resolve(t.Context(), dir, "amd64", t.TempDir(), io.Discard)
		require.NoError(t, err)
		named, err := os.Stat(img.Named)
		require.NoError(t, err)
		want, err := os.Stat(filepath.Join(built, "arch/x86/boot/bzImage"))
		require.NoError(t, err)
		assert.True(t, os.SameFile(want, named))
	})
}

func TestRefuseDirectory(t *testing.T) {
	of := func(name string) file { return file{name, bzImage} }
	for _, tt := range []struct {
		name  string
		files []file
		want  string // after "kernel PATH: "
	}{
		{"empty", nil, "no kernel in this directory: neither a kernel tree, nor vmlinuz-VERSION, boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz"},
		{"a tree that is not built", []file{{".config", config}, {"Kconfig", nil}}, "a kernel tree that is not built: it has no arch/x86/boot/bzImage or vmlinux; run make"},
		{"a tree for another architecture", []file{{".config", config}, {"arch/arm64/boot/Image", arm64Image}}, "a kernel tree that is built for arm64, not for amd64"},
		{"modules alone", modules, "it has the modules of 6.1, and no kernel: give the tree that they were built in, or what make install wrote"},
		{"two kernels", []file{of("boot/vmlinuz-6.1"), of("boot/vmlinuz-6.2")}, "it has 2 kernels: give one of DIR/boot/vmlinuz-6.1, DIR/boot/vmlinuz-6.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			lay(t, dir, tt.files...)
			_, err := kernel.Resolve(t.Context(), dir, "amd64", t.TempDir(), io.Discard)
			assert.EqualError(t, err, "kernel "+dir+": "+strings.ReplaceAll(tt.want, "DIR", dir))
		})
	}
}

// A directory does not hide the suite of its name, except if it is a kernel
// tree.
func TestIsPath(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, file{"trixie/vmlinux", nil}, file{"linux/.config", nil}, file{"bzImage", nil}, file{"linux-6.1/notes", nil})
	for name, want := range map[string]bool{
		"trixie": false, "./trixie": true, "linux": true, "bzImage": true, "bookworm": false, "linux-6.1": true, dir: true, dir + "/none": false,
	} {
		assert.Equal(t, want, kernel.IsPath(name, dir), name)
	}
}

func TestFrom(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, file{"trixie/vmlinux", nil}, file{"linux/.config", nil}, file{"bzImage", nil})
	for name, want := range map[string]string{
		"trixie": "trixie", "./trixie": dir + "/trixie", "linux": dir + "/linux", "bzImage": dir + "/bzImage", "./none": dir + "/none", "/none": "/none", "sid/rt": "sid/rt", "": "",
	} {
		assert.Equal(t, want, kernel.From(dir, name), name)
	}
	t.Chdir(dir)
	for _, here := range []string{"", ".", "./"} {
		assert.Equal(t, "./trixie", kernel.From(here, "./trixie"), "without the dot it would be a suite")
	}
}

// A file that is no configuration does not say that everything is missing.
func TestConfigError(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, file{".config", []byte("nothing\n")}, file{"vmlinux", vmlinux})
	img, err := kernel.Resolve(t.Context(), dir, "amd64", t.TempDir(), io.Discard)
	require.NoError(t, err)
	_, err = img.Lacks("SMP")
	assert.EqualError(t, err, "kernel: "+dir+"/.config is no configuration of a kernel")
}
