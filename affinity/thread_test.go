package affinity_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestRun(t *testing.T) {
	var mine affinity.CPUSet
	require.NoError(t, affinity.Thread(func() (err error) {
		mine, err = affinity.Get(0)
		return err
	}))

	for cpu := range mine.All() {
		ran := false
		require.NoError(t, affinity.Run(affinity.Of(cpu), func() error {
			ran = true
			got, err := affinity.Get(0)
			require.NoError(t, err)
			assert.Equal(t, affinity.Of(cpu).String(), got.String())
			on, _, err := affinity.Current()
			require.NoError(t, err)
			assert.Equal(t, cpu, on)
			return nil
		}))
		assert.True(t, ran)
	}
}

func TestRunOnAbsentCPU(t *testing.T) {
	err := affinity.Run(affinity.Of(absent), func() error {
		t.Error("called on a thread that could not be pinned")
		return nil
	})
	assert.ErrorIs(t, err, unix.EINVAL)
}

func TestErrorOfF(t *testing.T) {
	want := errors.New("of f")
	assert.Equal(t, want, affinity.Thread(func() error { return want }))
	require.NoError(t, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(t, err)
		assert.Equal(t, want, affinity.Run(mine, func() error { return want }))
		return nil
	}))
}

// Whatever f does to its thread, no other goroutine may come to run on it: each
// thread carries a mark, and no goroutine sees the mark of another.
func TestThreadIsNotReused(t *testing.T) {
	const mark = "thrown-away"
	for range 50 {
		require.NoError(t, affinity.Thread(func() error {
			assert.NotEqual(t, mark, threadName(t))
			return os.WriteFile("/proc/thread-self/comm", []byte(mark), 0)
		}))
		done := make(chan string)
		for range 2 * runtime.GOMAXPROCS(0) {
			go func() {
				name := ""
				defer func() { done <- name }()
				name = threadName(t)
			}()
		}
		for range 2 * runtime.GOMAXPROCS(0) {
			require.NotEqual(t, mark, <-done)
		}
	}
}

// onMain counts the goroutines of Thread that ran on the process's main thread.
var onMain int

// The main goroutine has the main thread while init functions run, and with the
// lock until TestMain: from there a new goroutine is likely to run on it next.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	runtime.UnlockOSThread()
	for range 10 {
		_ = affinity.Thread(func() error {
			if unix.Gettid() == unix.Getpid() {
				onMain++
			}
			return nil
		})
	}
	os.Exit(machine.Main(m.Run))
}

// The runtime never ends the main thread: it must not be the one that f
// changes.
func TestThreadIsNotMain(t *testing.T) {
	assert.Zero(t, onMain)
}

// t.FailNow in f must end the test, not hang it or let it go on.
func TestThreadGoexit(t *testing.T) {
	ended := make(chan bool)
	go func() {
		goesOn := false
		defer func() { ended <- !goesOn }()
		_ = affinity.Thread(func() error {
			runtime.Goexit()
			return nil
		})
		goesOn = true
	}()
	assert.True(t, <-ended, "Thread returned")
}

func TestThreadPanic(t *testing.T) {
	for _, value := range []any{"a value", fs.ErrInvalid} {
		func() {
			defer func() {
				v := recover()
				require.IsType(t, &affinity.PanicError{}, v)
				err := v.(*affinity.PanicError)
				assert.Equal(t, value, err.Value)
				assert.Contains(t, err.Error(), "panicsHere", "where it panicked")
				if want, ok := value.(error); ok {
					assert.ErrorIs(t, err, want)
				}
			}()
			_ = affinity.Thread(func() error { return panicsHere(value) })
			t.Error("the panic is lost")
		}()
	}
}

//go:noinline
func panicsHere(value any) error { panic(value) }

func threadName(t *testing.T) string {
	t.Helper()
	name, err := os.ReadFile("/proc/thread-self/comm")
	require.NoError(t, err)
	return strings.TrimSpace(string(name))
}
