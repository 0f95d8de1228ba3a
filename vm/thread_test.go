package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// QEMU ends with the thread that started it. A goroutine that is locked to its
// thread ends that, as those of package affinity do, and must not get this one.
func TestStartKeepsItsThread(t *testing.T) {
	vm := fakeVM(t, "echoes")
	echoes, err := net.Listen("unix", filepath.Join(filepath.Dir(vm.line), "hangs"))
	require.NoError(t, err)
	defer echoes.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	started := make(chan error)
	goElsewhere(func() {
		_, _, err := vm.start(ctx, tcg, time.Minute, io.Discard)
		started <- err
	})
	conn, err := echoes.Accept()
	require.NoError(t, err)
	defer conn.Close()
	endThreads(100)

	// If it was killed, it was before the thread was gone.
	_, err = conn.Write([]byte("x"))
	assert.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	assert.NoError(t, err, "QEMU was killed")
	cancel(errors.New("that is enough"))
	assert.EqualError(t, <-started, "the VM was ended: that is enough")
}

// goElsewhere calls f in a goroutine that is not on the main thread, which never
// ends.
func goElsewhere(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done := make(chan struct{})
			goElsewhere(func() { defer close(done); f() })
			<-done // holds it
			runtime.UnlockOSThread()
			return
		}
		runtime.UnlockOSThread()
		f()
	}()
}

// endThreads ends so many threads of the process, those that are idle among
// them, and returns when they are gone.
func endThreads(n int) {
	var locked sync.WaitGroup
	end, tids := make(chan struct{}), make(chan int, n)
	for range n {
		locked.Add(1)
		go func() {
			runtime.LockOSThread()
			tids <- unix.Gettid()
			locked.Done()
			<-end
		}()
	}
	locked.Wait()
	close(end)
	for range n {
		tid := <-tids
		if tid == unix.Getpid() {
			continue // the main thread never ends
		}
		for gone := false; !gone; runtime.Gosched() {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			gone = errors.Is(err, os.ErrNotExist)
		}
	}
}

func TestRunNothing(t *testing.T) {
	_, err := Run(t.Context(), Options{}, nil, io.Discard, io.Discard)
	assert.EqualError(t, err, "no program to run")
}
