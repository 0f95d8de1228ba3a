package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/filelock"
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

// sources is a variable of the environment that is different when the go
// command or a source of the module is. Where it is set, and is what it was
// when a program was made, the go command need not be asked whether the program
// is up to date, which takes it a good part of a kernel's boot.
const sources = "HOTPLUGTEST_SOURCES"

// Build has a go command, as in "build" or "test", "-c", make a static program
// of a package for Linux on an architecture, and returns the program. It is
// kept in the cache under the name, as the go command does not link one anew
// that is up to date, and linking takes longer than all else. What the go
// command says goes to standard error.
func Build(ctx context.Context, name, goarch, pkg string, command ...string) ([]byte, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+"-"+goarch)
	// go test runs packages side by side, so the file is locked until it has
	// been read.
	unlock, err := filelock.Lock(ctx, path+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	// What the program was made from. It is not there while that is not known.
	from, now := path+".sources", os.Getenv(sources)
	if was, err := os.ReadFile(from); err == nil && string(was) == now {
		if program, err := os.ReadFile(path); err == nil {
			return program, nil
		}
	}
	if err := os.Remove(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append(command, "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) } // it removes what it has made then
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("building %s: %w", pkg, err)
	}
	program, err := os.ReadFile(path)
	if err != nil || now == "" {
		return program, err
	}
	return program, os.WriteFile(from, []byte(now), 0o644)
}
