package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lifeline makes a pipe that ends when it is cut, or when this process has
// ended. stream then ends its VMs, and gotestsum, which has no more to read,
// writes its reports.
func (p *plan) lifeline(path string) (cut func() error, err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	// Opened for writing alone, it would wait for its reader.
	line, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	p.Lifeline = path
	return line.Close, nil
}

// untilCut returns a context that ends when the lifeline does.
func (p *plan) untilCut(ctx context.Context) (context.Context, error) {
	// It may have been cut already, and would wait for a writer.
	line, err := os.OpenFile(p.Lifeline, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer line.Close()
		_, _ = io.Copy(io.Discard, line)
		cancel()
	}()
	return ctx, nil
}
