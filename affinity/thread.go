package affinity

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Run calls f on a thread of its own that may run on the CPUs in set alone, and
// returns the error of f. When the thread cannot be pinned, Run returns the
// error of [Set] and does not call f. Otherwise it is [Thread].
func Run(set CPUSet, f func() error) error {
	return Thread(func() error {
		if err := Set(0, set); err != nil {
			return err
		}
		return f()
	})
}

// Thread calls f in a goroutine that has a thread to itself, and returns the
// error of f. The thread ends with f and no other goroutine ever gets it, so f
// may leave it in any state: pinned, in another cpuset, of another scheduling
// class.
//
// The thread may take a moment longer to end than Thread to return. A cpuset
// that is to be removed right away is better left by f itself.
//
// [runtime.Goexit] in f, which is what t.FailNow is, ends the caller of Thread
// in the same way. A panic in f becomes a panic in the caller, with a
// [*PanicError].
func Thread(f func() error) error {
	var (
		err      error
		panicked *PanicError
		returned bool
	)
	done := make(chan struct{})
	goLocked(func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				panicked = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		err = f()
		returned = true
	})
	<-done

	switch {
	case panicked != nil:
		panic(panicked)
	case !returned:
		runtime.Goexit()
	}
	return err
}

// A PanicError is what [Run] and [Thread] panic with when f did.
type PanicError struct {
	Value any    // what f panicked with
	Stack []byte // where, as runtime/debug.Stack has it
}

// Error returns the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// goLocked calls f in a goroutine locked to its thread, and the thread ends
// with it.
func goLocked(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread is the one that the runtime parks for ever instead of
		// ending it. Hold it until another goroutine has another thread.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}
