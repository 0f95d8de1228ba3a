package uring

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Two requests that block have a worker each, and both may run where the ring
// says, though the thread is sent signals all the time.
func TestWorkers(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the workers end with the thread
	defer sendSignals(unix.Gettid())()
	ring, err := Open()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { assert.NoError(t, ring.Close()) }()
	allowed, err := affinity.Get(0)
	require.NoError(t, err)
	last, _ := allowed.Last()
	require.NoError(t, ring.SetAffinity(affinity.Of(last)))
	for n := range 2 {
		fifo := filepath.Join(t.TempDir(), "fifo")
		require.NoError(t, unix.Mkfifo(fifo, 0o600))
		require.NoError(t, ring.OpenFIFO(fifo))
		defer func() {
			// Opened for writing, it lets go of the worker. ENXIO: the worker
			// has not opened it yet.
			require.Eventually(t, func() bool {
				file, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0)
				return err == nil && file.Close() == nil
			}, 10*time.Second, time.Millisecond)
			require.Eventually(t, func() bool {
				ended, err := ring.Reap()
				return err == nil && ended == 1
			}, 10*time.Second, time.Millisecond)
		}()
		require.Eventually(t, func() bool {
			workers, err := ring.Workers()
			if err != nil || len(workers) != n+1 {
				return false
			}
			for _, cpus := range workers {
				if !cpus.Equal(affinity.Of(last)) {
					return false
				}
			}
			return true
		}, 10*time.Second, time.Millisecond)
	}
}

// sendSignals sends SIGURG to a thread, over and over, until it is stopped.
func sendSignals(thread int) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	}()
	return func() { close(over); <-ended }
}
