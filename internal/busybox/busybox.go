// Package busybox finds a busybox that needs no libraries, for guests.
package busybox

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/hotplugtest/hotplugtest/internal/debian"
)

// Find returns the path of a busybox for an architecture, by the name that Go
// has for that: the one that is installed, or that of Debian's package
// busybox-static, which it downloads and does not install.
func Find(ctx context.Context, goarch string) (string, error) {
	if path, err := exec.LookPath("busybox"); err == nil && goarch == runtime.GOARCH && static(path) {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "hotplugtest", "busybox-"+goarch)
	path := filepath.Join(dir, "bin", "busybox")
	if static(path) {
		return path, nil
	}
	if goarch != runtime.GOARCH {
		return "", fmt.Errorf("there is no static busybox for %s: put one at %s", goarch, path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := debian.Command(ctx, "apt-get", "download", "-qq", "busybox-static")
	cmd.Dir = dir
	if err := debian.Do(ctx, cmd); err != nil {
		return "", fmt.Errorf("there is no static busybox here: %w", err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) == 0 {
		return "", errors.New("apt-get download busybox-static: no package came")
	}
	if err := debian.Run(ctx, os.Stderr, "dpkg-deb", "-x", debs[0], dir); err != nil {
		return "", err
	}
	return path, nil
}

// static reports whether a program is there and needs no libraries.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}
