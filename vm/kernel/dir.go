package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// IsPath reports whether a name is that of a file or directory to take a kernel
// from, relative to dir or, if that is "", to the working directory. A directory
// whose name could be a suite's must be a kernel tree.
func IsPath(name, dir string) bool {
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return false
	case !info.IsDir():
		return true
	case !suiteName.MatchString(name):
		return true
	}
	return exists(filepath.Join(path, ".config")) || exists(filepath.Join(path, "Kconfig"))
}

// From returns a kernel's name as it is in the working directory, if it was given
// in dir: only a path is another.
func From(dir, name string) string {
	if name == "" || filepath.Clean(dir) == "." || filepath.IsAbs(name) || !IsPath(name, dir) && !strings.HasPrefix(name, ".") {
		return name
	}
	return filepath.Join(dir, name)
}

// built are where the build leaves the kernel, by architecture. If there are
// several, the newest counts, and of those of the same age the first.
var built = map[string][]string{
	"amd64":   {"arch/x86/boot/bzImage", "vmlinux"},
	"arm64":   {"arch/arm64/boot/Image", "arch/arm64/boot/vmlinuz.efi", "arch/arm64/boot/Image.gz"},
	"ppc64le": {"vmlinux"},
	"riscv64": {"arch/riscv/boot/Image", "arch/riscv/boot/vmlinuz.efi", "arch/riscv/boot/Image.gz"},
	"s390x":   {"arch/s390/boot/bzImage"},
}

// found is a kernel in a directory.
type found struct {
	path, config string
	release      string // as the directory says; "": it does not
}

// fromDir makes an Image of the kernel in a directory.
func fromDir(dir, goarch, cache string, log io.Writer) (*Image, error) {
	k, err := search(dir, goarch)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", dir, err)
	}
	img, err := open(k.path, k.path, goarch, cache, log)
	if err != nil {
		return nil, err
	}
	if img.Release == "" {
		img.Release = k.release
	}
	img.Config = k.config
	rel, err := filepath.Rel(dir, k.path)
	if err != nil {
		rel = k.path
	}
	img.Source = strings.TrimSpace(fmt.Sprintf("%s: %s %s", dir, rel, img.Release))
	img.modules = &moduleSource{from: img.Source, opener: installation{dir, img.Release}}
	return img, nil
}

// search finds the kernel in a directory.
func search(dir, goarch string) (*found, error) {
	if exists(filepath.Join(dir, ".config")) || exists(filepath.Join(dir, "Kconfig")) {
		return inTree(dir, goarch)
	}
	list, err := installed(dir)
	if err != nil {
		return nil, err
	}
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		return besideModules(dir, goarch)
	}
	var names []string
	for _, k := range list {
		names = append(names, k.path)
	}
	return nil, fmt.Errorf("it has %d kernels: give one of %s", len(list), strings.Join(names, ", "))
}

// inTree finds the kernel in a tree that it is built in.
func inTree(dir, goarch string) (*found, error) {
	k := &found{}
	var newest os.FileInfo
	for _, name := range built[goarch] {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && (newest == nil || info.ModTime().After(newest.ModTime())) {
			k.path, newest = path, info
		}
	}
	if newest == nil {
		for other, names := range built {
			if other != goarch && exists(filepath.Join(dir, names[0])) {
				return nil, fmt.Errorf("a kernel tree that is built for %s, not for %s", other, goarch)
			}
		}
		return nil, fmt.Errorf("a kernel tree that is not built: it has no %s; run make", strings.Join(built[goarch], " or "))
	}
	if config := filepath.Join(dir, ".config"); exists(config) {
		k.config = config
	}
	release, err := os.ReadFile(filepath.Join(dir, "include/config/kernel.release"))
	if err == nil {
		k.release = strings.TrimSpace(string(release))
	}
	return k, nil
}

// installed finds the kernels that were installed below a directory: by
// INSTALL_PATH, with modules, or by tar-pkg. Of several files with the same
// kernel, the packed one counts.
func installed(dir string) (list []*found, err error) {
	places := []string{".", "boot", "lib/modules/*", "usr/lib/modules/*"}
	for _, pattern := range []string{"vmlinuz*", "Image*", "bzImage*", "vmlinux*"} {
		for _, place := range places {
			paths, err := filepath.Glob(filepath.Join(quoteGlob(dir), place, pattern))
			if err != nil {
				return nil, err
			}
			for _, path := range paths {
				info, err := os.Stat(path)
				if err != nil || !info.Mode().IsRegular() || isPacked(path) {
					continue
				}
				k := &found{path: path}
				if _, version, ok := strings.Cut(filepath.Base(path), "-"); ok {
					k.release = version
				} else if strings.Contains(place, "modules") {
					k.release = filepath.Base(filepath.Dir(path))
				}
				if !slices.ContainsFunc(list, func(other *found) bool { return other.release == k.release }) {
					k.findConfig(dir)
					list = append(list, k)
				}
			}
		}
	}
	return list, nil
}

// findConfig looks for the configuration of an installed kernel.
func (k *found) findConfig(dir string) {
	beside := filepath.Dir(k.path)
	candidates := []string{filepath.Join(beside, "config"), filepath.Join(beside, ".config")}
	if k.release != "" {
		candidates = []string{
			filepath.Join(beside, "config-"+k.release), filepath.Join(dir, "boot", "config-"+k.release),
			filepath.Join(dir, "lib/modules", k.release, "config"), filepath.Join(dir, "usr/lib/modules", k.release, "config"),
		}
	}
	for _, path := range candidates {
		if exists(path) {
			k.config = path
			return
		}
	}
}

// besideModules finds the kernel that modules were built with: modules_install
// leaves a link to the tree.
func besideModules(dir, goarch string) (*found, error) {
	for _, place := range []string{".", "lib/modules/*", "usr/lib/modules/*"} {
		paths, err := filepath.Glob(filepath.Join(quoteGlob(dir), place, "modules.order"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			of := filepath.Dir(path)
			if abs, err := filepath.Abs(of); err == nil {
				of = abs
			}
			k, err := inTree(filepath.Join(of, "build"), goarch)
			if release := filepath.Base(of); err == nil && k.release == release {
				return k, nil
			} else if place != "." || exists(filepath.Join(of, "modules.builtin")) {
				return nil, fmt.Errorf("it has the modules of %s, and no kernel: give the tree that they were built in, or what make install wrote", release)
			}
		}
	}
	return nil, errors.New("no kernel in this directory: neither a kernel tree, nor vmlinuz-VERSION, boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// quoteGlob makes a pattern that matches a path alone.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
