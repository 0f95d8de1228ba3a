package kernel_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// The commands of a mirror that is a directory, $MIRROR: packages as NAME,
// their control stanza, and NAME.tar, their contents. Each logs its call.
var fakeCommands = map[string]string{
	"apt-get": `#!/bin/sh
echo "$0 $*" >> "$MIRROR/calls"
for last; do :; done
case $1 in
indextargets) cat "$MIRROR/targets$2" ;;
update) if test -e "$MIRROR/update-error"; then cat "$MIRROR/update-error" >&2; exit 100; fi ;;
download) cp "$MIRROR/${last%%=*}.tar" "${last%%=*}.deb" ;;
esac
`,
	"apt-cache": `#!/bin/sh
echo "$0 $*" >> "$MIRROR/calls"
for last; do :; done
if test -e "$MIRROR/$last"; then cat "$MIRROR/$last"; else echo "E: No packages found" >&2; exit 100; fi
`,
	"dpkg-deb": `#!/bin/sh
echo "$0 $*" >> "$MIRROR/calls"
exec cat "$2"
`,
}

// A mirror is what the fake commands serve.
type mirror struct {
	tb         testing.TB
	dir, cache string
}

// newMirror puts the fake commands in PATH for the test, with an empty suite.
func newMirror(t *testing.T) *mirror {
	m := &mirror{t, t.TempDir(), t.TempDir()}
	bin := t.TempDir()
	for name, script := range fakeCommands {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755))
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("MIRROR", m.dir)
	m.write("targets--release-info", "http://mirror.example/debian/|Debian|Debian|main\n")
	m.write("targets--no-release-info", "")
	return m
}

func (m *mirror) write(name, text string) {
	require.NoError(m.tb, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644))
}

// add puts a package on the mirror, with one file in it.
func (m *mirror) add(name, version, depends, path string, content []byte) {
	m.write(name, fmt.Sprintf("Package: %s\nVersion: %s\nDepends: %s\nDescription: Linux\n a kernel\n\nPackage: other\n", name, version, depends))
	f, err := os.Create(filepath.Join(m.dir, name+".tar"))
	require.NoError(m.tb, err)
	w := tar.NewWriter(f)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/share/doc/vmlinuz-doc", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))},
		{Name: "./lib/modules/module.ko", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		require.NoError(m.tb, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write(content)
			require.NoError(m.tb, err)
		}
	}
	require.NoError(m.tb, errors.Join(w.Close(), f.Close()))
}

// calls returns the commands that ran since the last time: name and verb.
func (m *mirror) calls() []string {
	path := filepath.Join(m.dir, "calls")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(m.tb, err)
	require.NoError(m.tb, os.Remove(path))
	var calls []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		calls = append(calls, filepath.Base(f[0])+" "+f[1])
	}
	return calls
}

func (m *mirror) resolve(name, goarch string) (*kernel.Image, string, error) {
	var log strings.Builder
	img, err := kernel.Resolve(m.tb.Context(), name, goarch, m.cache, &log)
	return img, log.String(), err
}

// outdate makes the kernel in the cache one that the mirror was last asked for
// a while ago.
func (m *mirror) outdate(suite, flavour, goarch string) {
	asked := time.Date(2026, 5, 20, 12, 0, 0, 0, time.Local)
	require.NoError(m.tb, os.Chtimes(filepath.Join(m.cache, "debian", suite, flavour, goarch, "kernel.json"), asked, asked))
}

func TestResolveSuite(t *testing.T) {
	m := newMirror(t)
	amd64, arm64 := newBzImage(gzipped(vmlinux)), arm64Image
	m.add("linux-image-amd64", "6.1.170-1", "linux-image-6.1.0-47-amd64 (= 6.1.170-1)", "./none", nil)
	m.add("linux-image-6.1.0-47-amd64", "6.1.170-1", "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool", "./boot/vmlinuz-6.1.0-47-amd64", amd64)
	m.add("linux-image-rt-amd64", "7.2.13-1", "linux-base-rt-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-rt-amd64 (= 7.2.13-1)", "./none", nil)
	m.add("linux-image-7.2.13+deb14-rt-amd64", "7.2.13-1", "dracut | linux-initramfs-tool, linux-binary-7.2.13+deb14-rt-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-rt-amd64 (= 7.2.13-1)", "./none", nil)
	m.add("linux-binary-7.2.13+deb14-rt-amd64", "7.2.13-1", "linux-base-7.2.13+deb14-rt-amd64 (= 7.2.13-1)", "./usr/lib/modules/7.2.13+deb14-rt-amd64/vmlinuz", amd64)
	m.add("linux-image-cloud-arm64", "6.12.107-1", "linux-image-6.12.107+deb13-cloud-arm64 (= 6.12.107-1)", "./none", nil)
	m.add("linux-image-6.12.107+deb13-cloud-arm64", "6.12.107-1", "kmod", "./boot/vmlinuz-6.12.107+deb13-cloud-arm64", arm64)
	m.add("linux-image-powerpc64le", "6.1.170-1", "linux-image-6.1.0-47-powerpc64le (= 6.1.170-1)", "./none", nil)
	m.add("linux-image-6.1.0-47-powerpc64le", "6.1.170-1", "", "./boot/vmlinux-6.1.0-47-powerpc64le", newELF(21, 2, nil))

	for _, tt := range []struct {
		name, goarch string
		entry        string // in the cache
		sources      string // for APT
		image        kernel.Image
	}{
		{"bookworm", "amd64", "bookworm/default/amd64", "arch=amd64", kernel.Image{Source: "Debian bookworm linux-image-6.1.0-47-amd64 6.1.170-1", Release: "6.1.0-47-amd64"}},
		{"sid/rt", "amd64", "sid/rt/amd64", "arch=amd64", kernel.Image{Source: "Debian sid linux-binary-7.2.13+deb14-rt-amd64 7.2.13-1", Release: "7.2.13+deb14-rt-amd64"}},
		{"trixie/cloud", "arm64", "trixie/cloud/arm64", "arch=arm64", kernel.Image{Source: "Debian trixie linux-image-6.12.107+deb13-cloud-arm64 6.12.107-1", Release: "6.12.107+deb13-cloud-arm64"}},
		{"bookworm", "ppc64le", "bookworm/default/ppc64le", "arch=ppc64el", kernel.Image{Source: "Debian bookworm linux-image-6.1.0-47-powerpc64le 6.1.170-1", Release: "6.1.0-47-powerpc64le"}},
	} {
		t.Run(tt.name+" "+tt.goarch, func(t *testing.T) {
			img, log, err := m.resolve(tt.name, tt.goarch)
			require.NoError(t, err)
			tt.image.Arch, tt.image.Given = tt.goarch, filepath.Join(m.cache, "debian", tt.entry, "vmlinuz")
			tt.image.Boot, tt.image.Named = tt.image.Given, tt.image.Given
			if tt.goarch == "amd64" {
				tt.image.Boot = img.Boot
				assert.Equal(t, filepath.Join(m.cache, "unpacked"), filepath.Dir(img.Boot))
			}
			assert.EqualExportedValues(t, tt.image, *img)
			assert.Contains(t, log, "kernel "+tt.name+": downloading linux-")
			assert.Contains(t, log, " from http://mirror.example/debian/\n")
			m.calls()

			sources, err := os.ReadFile(filepath.Join(m.cache, "debian", tt.entry, "apt", "sources.list"))
			require.NoError(t, err)
			suite, _, _ := strings.Cut(tt.name, "/")
			assert.Regexp(t, `^deb \[`+tt.sources+` target=Packages lang=none.*\] http://mirror\.example/debian/ `+suite+` main\n$`, string(sources))
			conf, err := os.ReadFile(filepath.Join(m.cache, "debian", tt.entry, "apt", "apt.conf"))
			require.NoError(t, err)
			assert.Contains(t, string(conf), "#clear APT::Update;", "the machine's hooks run")
			for _, dir := range regexp.MustCompile(`"(/.*)";`).FindAllStringSubmatch(string(conf), -1) {
				assert.True(t, dir[1] == "/dev/null" || strings.HasPrefix(dir[1], m.cache), "APT uses %s", dir[1])
			}
			assert.NoDirExists(t, filepath.Join(m.cache, "debian", tt.entry, "apt", "cache"), "the package is kept")

			again, log, err := m.resolve(tt.name, tt.goarch)
			require.NoError(t, err)
			assert.Equal(t, img, again)
			assert.Empty(t, log)
			assert.Empty(t, m.calls(), "the mirror is asked although the kernel is fresh")
		})
	}
}

func TestResolveSuiteRefresh(t *testing.T) {
	m := newMirror(t)
	m.add("linux-image-amd64", "1", "linux-image-6.1.0-47-amd64 (= 1)", "./none", nil)
	m.add("linux-image-6.1.0-47-amd64", "1", "", "./boot/vmlinuz-6.1.0-47-amd64", newBzImage(gzipped(vmlinux)))
	first, _, err := m.resolve("bookworm", "amd64")
	require.NoError(t, err)
	m.calls()

	t.Run("unchanged", func(t *testing.T) {
		m.outdate("bookworm", "default", "amd64")
		img, log, err := m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Equal(t, first, img)
		assert.Empty(t, log)
		assert.Equal(t, []string{"apt-get indextargets", "apt-get update", "apt-cache show", "apt-cache show"}, m.calls())
		_, _, err = m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Empty(t, m.calls(), "asked again at once")
	})

	t.Run("offline", func(t *testing.T) {
		m.outdate("bookworm", "default", "amd64")
		m.write("update-error", "W: a warning\nE: Failed to fetch http://mirror.example/debian/dists/bookworm/InRelease  Could not resolve 'mirror.example'\nE: Some index files failed to download.\n")
		defer os.Remove(filepath.Join(m.dir, "update-error"))
		img, log, err := m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Equal(t, first, img)
		assert.Equal(t, "kernel bookworm: using linux-image-6.1.0-47-amd64 1, as of 2026-05-20: apt-get update: "+
			"Failed to fetch http://mirror.example/debian/dists/bookworm/InRelease  Could not resolve 'mirror.example'\n", log)

		_, _, err = m.resolve("trixie", "amd64")
		assert.EqualError(t, err, `kernel "trixie": apt-get update: `+
			"Failed to fetch http://mirror.example/debian/dists/bookworm/InRelease  Could not resolve 'mirror.example'")
	})

	t.Run("newer", func(t *testing.T) {
		m.outdate("bookworm", "default", "amd64")
		m.add("linux-image-amd64", "2", "linux-image-6.1.0-50-amd64 (= 2)", "./none", nil)
		m.add("linux-image-6.1.0-50-amd64", "2", "", "./boot/vmlinuz-6.1.0-50-amd64", newBzImage(sized(zstded(vmlinux), len(vmlinux))))
		img, log, err := m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Equal(t, "Debian bookworm linux-image-6.1.0-50-amd64 2", img.Source)
		assert.Equal(t, "6.1.0-50-amd64", img.Release)
		assert.NotEqual(t, first.Boot, img.Boot)
		assert.Equal(t, "kernel bookworm: downloading linux-image-6.1.0-50-amd64 2 from http://mirror.example/debian/\n", log)
	})

	t.Run("newer under the same name", func(t *testing.T) {
		m.outdate("bookworm", "default", "amd64")
		m.add("linux-image-6.1.0-50-amd64", "3", "", "./boot/vmlinuz-6.1.0-50-amd64", newBzImage(gzipped(vmlinux)))
		img, _, err := m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Equal(t, "Debian bookworm linux-image-6.1.0-50-amd64 3", img.Source)
		assert.Equal(t, first.Boot, img.Boot)
	})

	t.Run("record damaged", func(t *testing.T) {
		path := filepath.Join(m.cache, "debian", "bookworm", "default", "amd64", "kernel.json")
		require.NoError(t, os.Truncate(path, 10))
		m.calls()
		_, _, err := m.resolve("bookworm", "amd64")
		require.NoError(t, err)
		assert.Contains(t, m.calls(), "apt-get download")
	})
}

func TestResolveSuiteErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		goarch string
		set    func(t *testing.T, m *mirror)
		want   string // after `kernel "bookworm": `
	}{
		{"no such suite", "amd64", func(t *testing.T, m *mirror) {
			m.write("update-error", "E: The repository 'http://mirror.example/debian bookworm Release' does not have a Release file.\n")
		}, "neither a file nor a Debian suite that http://mirror.example/debian/ has"},
		{"no such package", "s390x", func(*testing.T, *mirror) {}, "http://mirror.example/debian/ has no linux-image-s390x in bookworm"},
		{"no such architecture", "mips", func(*testing.T, *mirror) {}, "Debian has none for mips"},
		{"no kernel in the package", "amd64", func(t *testing.T, m *mirror) {
			m.add("linux-image-amd64", "6.1.170-1", "", "./usr/share/doc/linux-image-amd64", nil)
		}, "package linux-image-amd64 6.1.170-1: holds no kernel"},
		{"package damaged", "amd64", func(t *testing.T, m *mirror) {
			m.add("linux-image-amd64", "6.1.170-1", "", "./boot/vmlinuz-6", newBzImage(nil))
			require.NoError(t, os.Truncate(filepath.Join(m.dir, "linux-image-amd64.tar"), 2000))
		}, "package linux-image-amd64 6.1.170-1: it is cut off: unexpected EOF"},
		{"dependencies without end", "amd64", func(t *testing.T, m *mirror) {
			m.add("linux-image-amd64", "6.1.170-1", "linux-image-amd64", "./none", nil)
		}, "package linux-image-amd64: no kernel package within its dependencies"},
		{"no APT", "amd64", func(t *testing.T, m *mirror) {
			t.Setenv("PATH", t.TempDir())
		}, "no Debian mirror: no apt-get here: give -kernel a path to a kernel image"},
		{"no mirror", "amd64", func(t *testing.T, m *mirror) {
			m.write("targets--release-info", "http://archive.ubuntu.com/ubuntu/|Ubuntu|Ubuntu|main\n")
		}, "no Debian mirror: APT has none for bookworm in its sources here: give -kernel a path to a kernel image"},
		{"APT fails without a word", "amd64", func(t *testing.T, m *mirror) {
			m.write("update-error", "")
		}, "apt-get update: exit status 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			tt.set(t, m)
			_, _, err := m.resolve("bookworm", tt.goarch)
			require.EqualError(t, err, `kernel "bookworm": `+tt.want)
		})
	}
}

func TestResolveSuiteBeforeUpdate(t *testing.T) {
	m := newMirror(t)
	m.write("targets--release-info", "")
	m.write("targets--no-release-info", "http://guessed.example/debian/|$(ORIGIN)|$(LABEL)|main\n")
	_, _, err := m.resolve("bookworm", "amd64")
	assert.EqualError(t, err, `kernel "bookworm": http://guessed.example/debian/ has no linux-image-amd64 in bookworm`)
}

func TestResolveSuiteCancel(t *testing.T) {
	m := newMirror(t)
	// The read end opens in apt-get update, which then waits.
	fifo := filepath.Join(m.dir, "update-error")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	go func() {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err == nil {
			defer f.Close()
		}
		cancel(stopped)
	}()
	_, err := kernel.Resolve(ctx, "bookworm", "amd64", m.cache, io.Discard)
	require.ErrorIs(t, err, stopped)
	assert.EqualError(t, err, `kernel "bookworm": apt-get update: stopped`)
}

func TestResolveSuiteLocked(t *testing.T) {
	m := newMirror(t)
	m.add("linux-image-amd64", "1", "", "./boot/vmlinuz-6.1.0-47-amd64", newBzImage(gzipped(vmlinux)))
	dir := filepath.Join(m.cache, "debian", "bookworm", "default", "amd64")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	other, err := os.Create(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = kernel.Resolve(ctx, "bookworm", "amd64", m.cache, io.Discard)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, filepath.Join(dir, "lock")+": locked by another process")
	assert.Empty(t, m.calls())

	require.NoError(t, other.Close())
	_, _, err = m.resolve("bookworm", "amd64")
	assert.NoError(t, err)
}

// TestDebian gets a kernel of 14 MB, and package lists of 11 MB, from the
// mirror that this machine's APT is set up with.
func TestDebian(t *testing.T) {
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("downloads from the Debian mirror: set HOTPLUGTEST_VM=1")
	}
	state := func() map[string]string {
		files := make(map[string]string)
		for _, dir := range []string{"/var/lib/apt", "/var/cache/apt"} {
			filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return nil // no permission, or no APT
				}
				if fi, err := d.Info(); err == nil {
					files[path] = fmt.Sprint(fi.Size(), fi.ModTime())
				}
				return nil
			})
		}
		return files
	}
	before := state()
	var log strings.Builder
	img, err := kernel.Resolve(t.Context(), "sid", "amd64", t.TempDir(), &log)
	require.NoError(t, err)
	assert.Equal(t, before, state(), "APT's own state changed")
	assert.Regexp(t, `^Debian sid linux-binary-\S+-amd64 \S+$`, img.Source)
	assert.Regexp(t, `^\d+\.\d+\.\d+\S*-amd64$`, img.Release)
	assert.Equal(t, "amd64", img.Arch)
	assert.Contains(t, img.Boot, "/unpacked/", "not booted by its PVH note:\n%s", log.String())
}
