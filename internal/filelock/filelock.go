// Package filelock has processes that share a file take turns, by flock(2).
package filelock

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes the lock file at path, which it makes, for this process alone, and
// waits for others that have it, until the context ends.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if err != unix.EINTR {
				locked <- os.NewSyscallError("flock", err)
				return
			}
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-locked; f.Close() }() // flock cannot be interrupted
		return nil, fmt.Errorf("%s: locked by another process: %w", path, context.Cause(ctx))
	}
}
