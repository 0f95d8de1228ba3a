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
	if err := download(ctx, dir, goarch); err != nil {
		return "", fmt.Errorf("there is no static busybox for %s: put one at %s, or see to it that Debian's can be had: %w", goarch, path, err)
	}
	return path, nil
}

// download brings Debian's busybox-static into dir.
func download(ctx context.Context, dir, goarch string) error {
	// These two have Go's names in Debian, too.
	if goarch != "amd64" && goarch != "arm64" {
		return fmt.Errorf("there is busybox for amd64 and arm64, not for %s", goarch)
	}
	lists := filepath.Join(dir, "apt")
	defer os.RemoveAll(lists)
	a, err := debian.NewAPT(ctx, lists, "stable", goarch)
	if err != nil {
		return err
	}
	if err := a.Update(ctx); err != nil {
		return err
	}
	deb, err := a.Download(ctx, "busybox-static")
	if err != nil {
		return err
	}
	if err := debian.Run(ctx, os.Stderr, "dpkg-deb", "-x", deb, dir); err != nil {
		return err
	}
	// Newer suites have it below usr.
	path := filepath.Join(dir, "bin", "busybox")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Rename(filepath.Join(dir, "usr/bin/busybox"), path))
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
