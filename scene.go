package hotplugtest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// Actor is what goes on, on threads of its own, while CPUs come and go.
type Actor struct {
	Name string

	// Count is on how many threads it does so. nil: on one.
	Count func(x *Scene) int

	// Begin is called on each of the threads, and returns its turn, which is called over and over until the scene ends.
	Begin func(a *Act) (turn func() error, err error)
}

// Act is one thread of an [Actor].
type Act struct {
	Scene *Scene
	N     int // which of the threads it is, from 0

	name     string
	thread   int // its id
	turns    atomic.Uint64
	began    chan error
	ended    chan error
	cleanups undoList
}

// Cleanup adds what is to be done on the thread after its last turn.
func (a *Act) Cleanup(f func() error) { a.cleanups.add(f) }

// Scene is CPUs that come and go, and actors.
type Scene struct {
	suite *Suite
	acts  []*Act
	over  atomic.Bool
	ended chan struct{} // closed when it is over, for those who wait for that
	procs int           // GOMAXPROCS before it
	undo  undoList

	begin time.Time
	group *cpuset.Cpuset // of the scenario's own

	mu    sync.Mutex
	notes map[string]time.Duration // what was measured: the longest of each
	seen  map[int]int              // how often something ran on a CPU
}

func (s *Suite) newScene() *Scene {
	return &Scene{suite: s, begin: time.Now(), ended: make(chan struct{}), notes: make(map[string]time.Duration), seen: make(map[int]int)}
}

// Targets are the CPUs that come and go.
func (x *Scene) Targets() []int { return x.suite.targets }

// stays is a CPU that is online and does not go, or -1.
func (x *Scene) stays() (int, error) {
	shared, err := x.suite.shared()
	cpu, ok := shared.Difference(affinity.Of(x.suite.targets...)).First()
	if !ok {
		cpu = -1
	}
	return cpu, err
}

// note keeps the longest of the durations that have a name.
func (x *Scene) note(name string, d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notes[name] = max(x.notes[name], d)
}

// start starts actors. When it returns, all have begun.
func (x *Scene) start(actors []Actor) error {
	for _, actor := range actors {
		count := 1
		if actor.Count != nil {
			count = actor.Count(x)
		}
		for n := range count {
			x.acts = append(x.acts, &Act{Scene: x, N: n, name: actor.Name, began: make(chan error, 1), ended: make(chan error, 1)})
		}
	}
	// Those that compute all the time are not to keep the Go scheduler from running those that look.
	x.procs = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(x.procs + len(x.acts))
	i := 0
	var errs []error
	for _, actor := range actors {
		for ; i < len(x.acts) && x.acts[i].name == actor.Name; i++ {
			act := x.acts[i]
			go func() { act.ended <- affinity.Thread(func() error { return act.play(actor.Begin) }) }()
			if err := <-act.began; err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", act.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// play is the life of an actor's thread.
func (a *Act) play(begin func(*Act) (func() error, error)) (err error) {
	a.thread = unix.Gettid()
	defer func() { err = errors.Join(err, a.cleanups.run()) }()
	turn, err := begin(a)
	a.began <- err
	for err == nil && !a.Scene.over.Load() {
		err = turn()
		a.turns.Add(1)
	}
	return err
}

// stop ends the actors and undoes what was set up for them. The error tells what went wrong with them.
func (x *Scene) stop() error {
	x.over.Store(true)
	close(x.ended)
	var errs []error
	var late []string
	// The limit is for the turn that each of them is at.
	limit := time.After(opLimit)
	for _, act := range x.acts {
		select {
		case err := <-act.ended:
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", act.name, err))
			}
		case <-limit:
			late = append(late, fmt.Sprintf("%s, thread %d, turn %d", act.name, act.thread, act.turns.Load()+1))
			// The others have had the same time.
			limit = closed
		}
	}
	if late != nil {
		errs = append(errs, x.suite.stuck(strings.Join(late, "; "), opLimit))
	}
	if x.procs > 0 {
		runtime.GOMAXPROCS(x.procs)
	}
	if x.suite.hung.any() {
		return errors.Join(errs...)
	}
	errs = append(errs, x.undo.run())
	return errors.Join(errs...)
}

// closed is a time that has come.
var closed = func() chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// do calls f on a thread of its own, and does not wait beyond the limit of an operation: it can hang in the kernel for good.
func (x *Scene) do(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- affinity.Thread(f) }()
	select {
	case err := <-done:
		return err
	case <-time.After(opLimit):
		return x.suite.stuck(what, opLimit)
	}
}

// set takes a CPU offline or online.
func (x *Scene) set(cpu int, state State) error {
	begin := time.Now()
	err := x.do(fmt.Sprintf("taking cpu%d %v", cpu, state), func() error { return x.suite.cpus.SetOnline(cpu, state == Online) })
	x.note("longest-"+state.String(), time.Since(begin))
	return err
}

// there and back is what a CPU does in a scene that has no more to say of it.
func (x *Scene) thereAndBack(cpu int) error {
	if err := x.set(cpu, Offline); err != nil {
		return err
	}
	return x.set(cpu, Online)
}

// enter moves the calling thread to the child cpuset, as the kernel has more to do for those. Where there is none that
// keeps its CPUs it stays where it is.
func (x *Scene) enter() error {
	if needsChild(x.suite) == "" {
		return x.suite.places[1].cpuset.AttachThread(0)
	}
	return nil
}

// stuck is the error of something that has not come to its end within the limit, with what the kernel knows of it.
func (s *Suite) stuck(what string, limit time.Duration) error {
	s.hung.note(what)
	var b strings.Builder
	fmt.Fprintf(&b, "%s has not come to its end within %v", what, limit)
	if present, err := s.cpus.Present(); err == nil {
		for cpu := range present.All() {
			if state, target, err := s.cpus.State(cpu); err == nil {
				fmt.Fprintf(&b, "\n    cpu%d hotplug state %d, target %d", cpu, state, target)
			}
		}
	}
	b.WriteString(s.said.blockedTasks())
	return errors.New(b.String())
}

// waitFor waits for f to be true, and returns whether that was so within the limit.
func waitFor(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// has tells whether there is such a file.
func has(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
