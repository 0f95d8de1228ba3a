package suite

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Actor is what goes on, on threads of its own, while CPUs go offline and
// online.
type Actor struct {
	Name string

	// Count returns on how many threads it acts. nil: on one.
	Count func(x *Scene) int

	// Begin is called on each of the threads, and returns its turn, which is
	// called over and over until the scene ends.
	Begin func(a *Act) (turn func() error, err error)
}

// Act is one thread of an [Actor].
type Act struct {
	Scene *Scene
	N     int // which of the threads it is, from 0

	name     string
	begin    func(*Act) (func() error, error)
	thread   atomic.Int32 // its id
	turns    atomic.Uint64
	began    chan error
	ended    chan error
	cleanups undoList
}

// Cleanup adds what must be done on the thread after its last turn. The last is
// done first.
func (a *Act) Cleanup(f func() error) { a.cleanups.add(f) }

// Scene is CPUs that go offline and online, and actors.
type Scene struct {
	Machine *Machine

	// Data is the scenario's own: what its Setup leaves to its actors.
	Data any

	acts  []*Act
	over  atomic.Bool
	ended chan struct{} // closed when it is over
	fewer func()        // undoes moreProcs
	undo  undoList
	begin time.Time

	mu    sync.Mutex
	stuck error                    // what Do did not wait for
	notes map[string]time.Duration // what was measured: the longest of each
	seen  map[int]int              // how often something ran on a CPU
}

// NewScene returns a scene with no actors.
func (m *Machine) NewScene() *Scene {
	return &Scene{
		Machine: m, begin: time.Now(), ended: make(chan struct{}), notes: make(map[string]time.Duration), seen: make(map[int]int),
	}
}

// Targets returns the CPUs that go offline and online.
func (x *Scene) Targets() []int { return x.Machine.Targets }

// Hangs reports whether something has not finished and never will. What waits
// for the kernel's locks is not to be waited for then.
func (x *Scene) Hangs() bool { return x.Machine.hang.any() }

// Staying returns a CPU that is online and does not go offline, or -1.
func (x *Scene) Staying() (int, error) {
	shared, err := x.Machine.Shared()
	cpu, ok := shared.Difference(affinity.Of(x.Targets()...)).First()
	if !ok {
		cpu = -1
	}
	return cpu, err
}

// Cleanup adds what must be done when the actors have ended. The last is done
// first.
func (x *Scene) Cleanup(f func() error) { x.undo.add(f) }

// Over reports whether the scene has ended.
func (x *Scene) Over() bool { return x.over.Load() }

// Done returns a channel that is closed when the scene ends.
func (x *Scene) Done() <-chan struct{} { return x.ended }

// Elapsed returns the time since the scene began.
func (x *Scene) Elapsed() time.Duration { return time.Since(x.begin) }

// Threads returns the number of threads that act.
func (x *Scene) Threads() int { return len(x.acts) }

// Turns returns how many turns the actors have had so far, all threads
// together.
func (x *Scene) Turns() (n uint64) {
	for _, act := range x.acts {
		n += act.turns.Load()
	}
	return n
}

// Note keeps the longest of the durations of a name. It becomes an attribute of
// the scenario's test.
func (x *Scene) Note(name string, d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notes[name] = max(x.notes[name], d)
}

// noted returns what was noted. Threads that hang may still note something.
func (x *Scene) noted() map[string]time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.notes)
}

// Ran notes that something runs on a CPU.
func (x *Scene) Ran(cpu int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen[cpu]++
}

// HaveRun returns how often something was noted to run on the CPU.
func (x *Scene) HaveRun(cpu int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen[cpu]
}

// Do calls f on a thread of its own, and waits no longer than [OpTimeout]: it
// can hang in the kernel for good. what names it in the error.
func (x *Scene) Do(what string, f func() error) error {
	defer x.Machine.Progress()
	done := make(chan error, 1)
	go func() { done <- affinity.Thread(f) }()
	select {
	case err := <-done:
		return err
	case <-time.After(x.Machine.limits.op):
		err := x.Machine.stuck(what, x.Machine.limits.op)
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.stuck == nil {
			x.stuck = err
		}
		return err
	}
}

// unlessStuck calls f, which calls [Scene.Do]. When something hangs there, f may
// try one thing more, such as to bring a CPU online. If it does not return after
// that, what it undoes waits for the kernel's locks, and is not waited for.
func (x *Scene) unlessStuck(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	look := time.NewTicker(min(time.Second, x.Machine.limits.op))
	defer look.Stop()
	for since := (time.Time{}); ; {
		select {
		case err := <-done:
			return err
		case <-look.C:
		}
		x.mu.Lock()
		stuck := x.stuck
		x.mu.Unlock()
		switch {
		case stuck == nil:
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > 2*x.Machine.limits.op:
			return fmt.Errorf("%w\nand what the scenario undoes has not finished", stuck)
		}
	}
}

// Set takes a CPU offline or online, on a thread of its own.
func (x *Scene) Set(cpu int, state State) error {
	begin := time.Now()
	err := x.Do(fmt.Sprintf("taking cpu%d %v", cpu, state), func() error { return x.Machine.CPUs.SetOnline(cpu, state == Online) })
	x.Note("longest-"+state.String(), time.Since(begin))
	return err
}

// OffAndOn takes a CPU offline and online.
func (x *Scene) OffAndOn(cpu int) error {
	if err := x.Set(cpu, Offline); err != nil {
		return err
	}
	return x.Set(cpu, Online)
}

// Enter moves the calling thread to the child cpuset, since the kernel has more
// to do for its threads. If there is no child that keeps its CPUs, the thread
// stays where it is.
func (x *Scene) Enter() error {
	switch err := NeedsChild(x.Machine); {
	case err == nil:
		return x.Machine.Child.Group.AttachThread(0)
	case IsUnsupported(err):
		return nil
	default:
		return err
	}
}

// Start starts actors. When it returns, all have begun. It must be called once.
func (x *Scene) Start(actors []Actor) error {
	var errs []error
	for _, actor := range actors {
		count := 1
		if actor.Count != nil {
			count = actor.Count(x)
		}
		for n := range count {
			x.acts = append(x.acts, &Act{
				Scene: x, N: n, name: actor.Name, begin: actor.Begin, began: make(chan error, 1), ended: make(chan error, 1),
			})
		}
	}
	x.fewer = moreProcs(len(x.acts))
	for _, act := range x.acts {
		go func() { act.ended <- affinity.Thread(act.play) }()
		if err := x.Machine.bounded("the beginning of "+act.name, func() error { return <-act.began }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", act.name, err))
		}
	}
	return errors.Join(errs...)
}

// moreProcs has the Go scheduler run n goroutines more at a time, and returns
// what undoes that. If fewer may run than compute or wait in a loop, the thread
// that comes back from write(2) waits for tens of ms, and so does its look.
func moreProcs(n int) (undo func()) {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + n)
	return func() { runtime.GOMAXPROCS(before) }
}

// play is the life of an actor's thread.
func (a *Act) play() (err error) {
	a.thread.Store(int32(unix.Gettid()))
	defer func() { err = errors.Join(err, a.cleanups.run()) }()
	turn, err := a.begin(a)
	a.began <- err
	for err == nil && !a.Scene.over.Load() {
		err = turn()
		a.turns.Add(1)
	}
	return err
}

// Failed returns the error of an actor that has ended before the scene, once.
func (x *Scene) Failed() error {
	for _, act := range x.acts {
		select {
		case err := <-act.ended:
			act.ended <- nil
			if err != nil {
				return fmt.Errorf("%s: %w", act.name, err)
			}
		default:
		}
	}
	return nil
}

// Stop ends the actors and calls the cleanups. The error says what went wrong
// with them. The runner calls it for a scenario. A second call does nothing.
func (x *Scene) Stop() error {
	if x.over.Swap(true) {
		return nil
	}
	close(x.ended)
	var errs []error
	var late []string
	// The limit is for the turn that each of them is at. What waits for an
	// operation that hangs does not end either.
	hangs := x.Machine.hang.any()
	most := x.Machine.limits.op
	if hangs {
		most = min(most, time.Second)
	}
	limit := time.After(most)
	for _, act := range x.acts {
		select {
		case err := <-act.ended:
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", act.name, err))
			}
		case <-limit:
			late = append(late, fmt.Sprintf("%s, thread %d, turn %d", act.name, act.thread.Load(), act.turns.Load()+1))
			// The others have had the same time.
			limit = closed
		}
	}
	switch {
	case late != nil && hangs:
		errs = append(errs, fmt.Errorf("nor have these finished: %s", strings.Join(late, "; ")))
	case late != nil:
		errs = append(errs, x.Machine.stuck(strings.Join(late, "; "), most))
	}
	if x.fewer != nil {
		x.fewer()
	}
	if x.Machine.hang.any() {
		return errors.Join(errs...)
	}
	errs = append(errs, x.Machine.bounded("what the scene undoes", x.undo.run))
	return errors.Join(errs...)
}

// closed is a time that has come.
var closed = func() chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// WaitAsleep is [WaitFor] for what a thread that spins would keep from
// happening, or for what takes long: it sleeps between two looks.
func WaitAsleep(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// WaitFor waits for f to be true, and returns whether that was so within the
// limit. It spins.
func WaitFor(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
