// Package kernel turns what people call a kernel into a file that QEMU boots:
// a bzImage, vmlinux or Image of one's own, the kernel in a package or a
// directory, or that of a Debian suite, which it gets from the mirror that this
// machine's APT uses.
//
// An x86-64 kernel boots in well under half the time as an uncompressed
// vmlinux, entered by its PVH note, so a bzImage is unpacked wherever it has
// one.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrNotKernel says that a file is not a kernel image, or not one that QEMU
// boots.
var ErrNotKernel = errors.New("not a kernel image that QEMU boots")

// Image is a kernel ready to boot.
type Image struct {
	// Boot is the file for qemu-system's -kernel: the uncompressed kernel, in
	// the cache, where there is one that boots, otherwise the kernel as given.
	Boot string

	// Given is the kernel as given or downloaded, packed or not.
	Given string

	// Named is the file that the kernel was named by or found in: the package,
	// or Given.
	Named string

	// Source is where the kernel comes from, for people: its path as given, a
	// package and its version, or "Debian bookworm linux-image-6.1.0-47-amd64
	// 6.1.170-1".
	Source string

	// Config is the file with the kernel's configuration, or "" if there is
	// none with it.
	Config string

	// Release is what uname -r says in this kernel, such as "6.1.0-47-amd64".
	// It is empty where the file does not tell.
	Release string

	// Arch is the architecture by its GOARCH name, such as "arm64".
	Arch string

	modules *moduleSource // nil: it has none, as far as is known
}

// suiteName is a Debian suite with an optional flavour.
var suiteName = regexp.MustCompile(`^([a-z][a-z0-9-]*)(?:/(rt|cloud))?$`)

// Resolve finds the kernel called name for the architecture goarch.
//
// The name is a path, a Debian suite, such as "bookworm", "stable" or "sid", or
// a flavour of one: "trixie/rt", "bookworm/cloud". A path is that of
//
//   - a kernel: an x86 bzImage, an ELF vmlinux (x86-64 with CONFIG_PVH,
//     ppc64le, s390x, riscv64), an s390x bzImage, or an arm64 or riscv64 Image,
//     which may be gzipped or an EFI zboot image;
//   - a package with one: a .deb, or an .rpm;
//   - a directory with one: a kernel tree that is built, or what was installed
//     by make install, modules_install, or tar-pkg.
//
// A path goes before a suite, except that of a directory whose name could be a
// suite's and that is no kernel tree.
//
// What is unpacked or downloaded goes below the directory cache, which is
// created as needed; of the kernels unpacked it keeps the ten used last. Any
// number of processes may share it. The mirror is asked for a suite's kernel
// when that was last done more than 24 hours ago. If it cannot be, the kernel
// in the cache serves, and a line on log says so; another announces a download,
// and another a bzImage that has to boot as it is. The state of the machine's
// APT is left alone, and no privilege is needed.
//
// Resolve fails with ErrNotKernel for a file that is no kernel image, or cannot
// be booted as it is.
func Resolve(ctx context.Context, name, goarch, cache string, log io.Writer) (*Image, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	fi, err := os.Stat(name)
	switch {
	case err == nil && fi.Mode().IsRegular():
		return fromFile(name, goarch, cache, log)
	case err == nil && fi.IsDir() && IsPath(name, ""):
		return fromDir(name, goarch, cache, log)
	}
	if m := suiteName.FindStringSubmatch(name); m != nil {
		s := suite{name: m[1], flavour: m[2], goarch: goarch}
		return s.resolve(ctx, cache, log)
	}
	switch {
	case err == nil:
		return nil, fmt.Errorf("kernel %s: %w (not a regular file)", name, ErrNotKernel)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("kernel: %w", err)
	case strings.HasPrefix(name, ".") || filepath.IsAbs(name):
		return nil, fmt.Errorf("no kernel file %s", name)
	default:
		return nil, fmt.Errorf("no kernel file %s, and not like a Debian suite: bookworm, bookworm/rt, bookworm/cloud", name)
	}
}

// fromFile makes an Image of a package or a kernel.
func fromFile(name, goarch, cache string, log io.Writer) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	if isPackage(f) {
		return fromPackage(f, name, goarch, cache, log)
	}
	return open(name, name, goarch, cache, log)
}

// open makes an Image of the kernel file at path, which messages call name.
func open(path, name, goarch, cache string, log io.Writer) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	k, err := inspect(f)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	boot := path
	if k.packed != nil {
		file, inner, err := unpacked(f, k, filepath.Join(cache, "unpacked"))
		if err == nil && k.format == bzImage && !inner.pvh {
			err = errors.New("the vmlinux in it has no PVH note")
		}
		switch {
		case err == nil:
			boot, k = file, inner
		case k.format == bzImage:
			fmt.Fprintf(log, "kernel %s: %v: booting the bzImage itself, which takes longer\n", name, err)
		default:
			return nil, fmt.Errorf("kernel %s: %w", name, err)
		}
	}
	if k.arch != goarch {
		return nil, fmt.Errorf("kernel %s: built for %s, not for %s", name, k.arch, goarch)
	}
	if err := k.bootable(); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	return &Image{Boot: boot, Given: path, Named: path, Source: path, Release: k.release, Arch: k.arch}, nil
}
