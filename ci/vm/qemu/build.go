package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cacheDir is the directory of what outlives a run; it is made.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "hotplugtest")
	return cache, os.MkdirAll(cache, 0o755)
}

// Build has a go command, as in "build" or "test", "-c", make a static program of a package for Linux on an architecture, and
// returns the program. It is kept in the cache under the name, as the go command does not link one anew that is up to date,
// and linking takes longer than all else. What the go command says goes to standard error.
func Build(ctx context.Context, name, goarch, pkg string, command ...string) ([]byte, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+"-"+goarch)
	// go test runs packages side by side, so the file is locked until it has been read.
	lock, err := os.Create(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("flock %s: %w", lock.Name(), err)
	}
	cmd := exec.CommandContext(ctx, "go", append(command, "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("building %s: %w", pkg, err)
	}
	return os.ReadFile(path)
}
