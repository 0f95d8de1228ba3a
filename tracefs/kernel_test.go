package tracefs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

// The tests in this file hold the package against a kernel. They are for root,
// and need tracefs, mounted or not. They leave all tracing as they found it.

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// open returns the machine's tracefs, or skips the test if it has none.
func open(t *testing.T) *tracefs.FS {
	t.Helper()
	machine.Claim(t)
	f, err := tracefs.Open("/")
	if errors.Is(err, tracefs.ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	return f
}

func create(t *testing.T, f *tracefs.FS, opts *tracefs.Options) *tracefs.Instance {
	t.Helper()
	i, err := f.Create(name(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, i.Close()) })
	return i
}

func name() string { return fmt.Sprintf("%s%d", tracefs.NamePrefix, os.Getpid()) }

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// named returns the events of a name.
func named(events []tracefs.Event, name string) (found []tracefs.Event) {
	for _, e := range events {
		if e.Name == name {
			found = append(found, e)
		}
	}
	return found
}

// Marks come back with their thread, CPU, context and time, and nothing else
// does.
func TestKernelMark(t *testing.T) {
	i := create(t, open(t), nil)
	assert.ErrorIs(t, i.Mark("before the start"), unix.EBADF)
	require.NoError(t, affinity.Thread(func() error {
		tid := unix.Gettid()
		before := monotonic(t)
		require.NoError(t, i.Start())
		require.NoError(t, i.Mark("one"))
		require.NoError(t, i.Mark("two: =3 [004]"))
		require.NoError(t, i.Stop())
		events, err := i.Read()
		require.NoError(t, err)
		require.Len(t, events, 2)
		for n, text := range []string{"one", "two: =3 [004]"} {
			e := events[n]
			assert.Equal(t, tracefs.Marker, e.Name)
			assert.Equal(t, text, e.Args)
			assert.Equal(t, tid, e.TID)
			assert.Equal(t, tracefs.Task, e.Context)
			// The kernel prints whole microseconds.
			assert.GreaterOrEqual(t, e.Time.Microseconds(), before/1000)
			assert.LessOrEqual(t, e.Time.Microseconds(), monotonic(t)/1000)
		}
		return nil
	}))
	require.NoError(t, i.Start())
	events, err := i.Read()
	require.NoError(t, err)
	assert.Empty(t, events, "what was read is gone")
}

// monotonic returns the time of CLOCK_MONOTONIC in nanoseconds.
func monotonic(t *testing.T) int64 {
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano()
}

// leaveCPU has the calling thread leave its CPU at least once. A sleep may be
// over before the thread has begun it.
func leaveCPU(t *testing.T) {
	switches := func() int64 {
		var usage unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &usage))
		return usage.Nvcsw
	}
	for before := switches(); switches() == before; {
		require.NoError(t, unix.Nanosleep(&unix.Timespec{Nsec: 1_000_000}, nil))
	}
}

// A filter lets the events through that match, the stack is that of the event,
// and the top-level buffer gets neither.
func TestKernelFilterAndStacks(t *testing.T) {
	f := open(t)
	before := content(t, filepath.Join(f.Dir(), "trace"))
	i := create(t, f, nil)
	require.NoError(t, affinity.Thread(func() error {
		tid := unix.Gettid()
		filter := fmt.Sprintf("prev_pid == %d", tid)
		require.NoError(t, i.Enable("sched:sched_switch", filter))
		require.NoError(t, i.Stacks("sched:sched_switch", filter))
		require.NoError(t, i.Start())
		var slept *tracefs.Event
		for deadline := time.Now().Add(10 * time.Second); slept == nil && time.Now().Before(deadline); {
			// The thread also waits where Go's runtime has it wait.
			leaveCPU(t)
			events, err := i.Read()
			require.NoError(t, err)
			for _, e := range events {
				assert.Equal(t, "sched_switch", e.Name)
				assert.Equal(t, tid, e.TID)
				if slices.Contains(e.Stack, "do_nanosleep") {
					slept = &e
				}
			}
		}
		require.NoError(t, i.Stop())
		require.NotNil(t, slept, "no event of a nanosleep")
		once := slices.Index(slept.Stack, "do_nanosleep")
		assert.NotContains(t, slept.Stack[once+1:], "do_nanosleep", "one stack")
		assert.True(t, strings.HasPrefix(slept.Stack[0], "__schedule"), "%q", slept.Stack)
		return nil
	}))
	assert.Equal(t, before, content(t, filepath.Join(f.Dir(), "trace")))
}

// Events of other threads are not recorded with SetPIDs.
func TestKernelSetPIDs(t *testing.T) {
	i := create(t, open(t), nil)
	require.NoError(t, affinity.Thread(func() error {
		tid := unix.Gettid()
		require.NoError(t, i.SetPIDs(1, tid))
		require.NoError(t, i.Enable("sched:sched_switch", ""))
		require.NoError(t, i.Start())
		leaveCPU(t)
		require.NoError(t, i.Stop())
		events, err := i.Read()
		require.NoError(t, err)
		require.NotEmpty(t, named(events, "sched_switch"))
		for _, e := range events {
			assert.Contains(t, e.Args+" ", fmt.Sprintf("_pid=%d ", tid))
		}
		return i.SetPIDs()
	}))
}

// A buffer that is full is an error, not a short trace, until Clear.
func TestKernelLost(t *testing.T) {
	i := create(t, open(t), &tracefs.Options{BufferKB: 8})
	require.NoError(t, i.Start())
	text := strings.Repeat("x", 500)
	for range 1000 {
		if err := i.Mark(text); err != nil {
			// The kernel says so, too: nothing could be reserved.
			require.ErrorIs(t, err, unix.EBADF)
		}
	}
	require.NoError(t, i.Stop())
	events, err := i.Read()
	require.ErrorIs(t, err, tracefs.ErrLost)
	assert.Regexp(t, `cpu[0-9]+: [0-9]+ dropped events`, err)
	assert.NotEmpty(t, events)
	assert.Less(t, len(events), 1000)

	require.NoError(t, i.Clear())
	require.NoError(t, i.Start())
	require.NoError(t, i.Mark("after"))
	require.NoError(t, i.Stop())
	events, err = i.Read()
	require.NoError(t, err)
	assert.Len(t, events, 1)
}

// A machine that records faster than a thread reads does not keep the reader.
func TestKernelReadEnds(t *testing.T) {
	i := create(t, open(t), &tracefs.Options{BufferKB: 512})
	require.NoError(t, i.Start())
	var writers sync.WaitGroup
	var enough atomic.Bool
	text := strings.Repeat("x", 100)
	for range 2 * runtime.NumCPU() {
		writers.Go(func() {
			for !enough.Load() {
				_ = i.Mark(text) // it fails when the buffer is full
			}
		})
	}
	ended := make(chan int)
	go func() {
		n := 0
		for n == 0 {
			events, _ := i.Read() // an error says that some are lost
			n = len(events)
		}
		ended <- n
	}()
	select {
	case n := <-ended:
		assert.Positive(t, n)
	case <-time.After(time.Minute):
		t.Error("Read goes on as long as others write")
	}
	enough.Store(true)
	writers.Wait()
	require.NoError(t, i.Stop())
}

// What others trace is as it was after an instance has come and gone.
func TestKernelOthers(t *testing.T) {
	f := open(t)
	theirs, err := f.Create(name()+"-theirs", &tracefs.Options{Clock: tracefs.Boot})
	require.NoError(t, err)
	defer func() { assert.NoError(t, theirs.Close()) }()
	// Of processes that end nothing may come: init does not.
	require.NoError(t, theirs.Enable("sched:sched_process_exit", "common_pid == 1"))
	require.NoError(t, theirs.Start())
	require.NoError(t, theirs.Mark("before"))
	files := []string{"trace_clock", "tracing_on", "set_event", "buffer_size_kb", "current_tracer", "trace"}
	state := func() (all []string) {
		for _, dir := range []string{f.Dir(), filepath.Join(f.Dir(), "instances", name()+"-theirs")} {
			for _, file := range files {
				all = append(all, dir+" "+file+" "+content(t, filepath.Join(dir, file)))
			}
			options, err := filepath.Glob(filepath.Join(dir, "options/*"))
			require.NoError(t, err)
			for _, option := range options {
				all = append(all, option+" "+content(t, option))
			}
		}
		return all
	}
	before := state()
	i, err := f.Create(name(), nil)
	require.NoError(t, err)
	require.NoError(t, i.Enable("sched:sched_switch", ""))
	require.NoError(t, i.Start())
	require.NoError(t, i.Mark("ours"))
	_, err = f.Create(name(), nil)
	assert.ErrorIs(t, err, unix.EEXIST)
	require.NoError(t, i.Close())
	require.NoError(t, i.Close(), "once more")
	assert.Equal(t, before, state())
	assert.NoDirExists(t, filepath.Join(f.Dir(), "instances", name()))
}

// A tracefs that is not mounted is mounted by Open, and by nobody else after
// Close.
func TestKernelMount(t *testing.T) {
	f := open(t)
	const dir = "/sys/kernel/tracing"
	if f.Dir() != dir {
		t.Skipf("tracefs is at %s", f.Dir())
	}
	const mounts = "/proc/thread-self/mounts"
	if strings.Contains(content(t, mounts), tracefs.NamePrefix) {
		t.Skip("tracefs was not mounted: the other tests have shown it")
	}
	// The mount is somebody else's, with flags of theirs. So a thread gets mounts
	// of its own, and ends with what is done there.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- mountAnew(t, dir, mounts)
	}()
	require.NoError(t, <-done)
}

// mountAnew has the calling thread see no tracefs, opens it, and closes it.
// What the thread has mounted is in the file mounts.
func mountAnew(t *testing.T, dir, mounts string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	again, err := tracefs.Open("/")
	if err != nil {
		return err
	}
	assert.Equal(t, dir, again.Dir())
	seen := func() string {
		text, err := os.ReadFile(mounts)
		assert.NoError(t, err)
		return string(text)
	}
	assert.Contains(t, seen(), fmt.Sprintf("%s%d %s tracefs ", tracefs.NamePrefix, os.Getpid(), dir))
	i, err := again.Create(name(), nil)
	if err != nil {
		return err
	}
	err = errors.Join(i.Close(), again.Close(), again.Close()) // once more
	assert.NotContains(t, seen(), " "+dir+" ")
	return err
}

// What the kernel does not have is said to be that.
func TestKernelNotSupported(t *testing.T) {
	f := open(t)
	i := create(t, f, nil)
	err := i.Enable("sched:sched_no_such", "")
	require.ErrorIs(t, err, tracefs.ErrNotSupported)
	assert.ErrorContains(t, err, "the kernel has no event sched:sched_no_such")
	assert.ErrorIs(t, i.Enable("sched:sched_switch", "no_such_field == 1"), unix.EINVAL)
	assert.EqualError(t, i.Enable("sched_switch", ""), `tracefs: event "sched_switch" is not SYSTEM:EVENT`)
	_, err = f.Create(name()+"-clock", &tracefs.Options{Clock: "sundial"})
	assert.ErrorIs(t, err, unix.EINVAL)
}

// A kernel that is locked down says so: the machine is booted with
// lockdown=confidentiality.
func TestKernelLockdown(t *testing.T) {
	machine.Claim(t)
	if !strings.Contains(content(t, "/proc/cmdline"), "lockdown=confidentiality") {
		t.Skip("the kernel was not booted with lockdown=confidentiality")
	}
	_, err := tracefs.Open("/")
	require.ErrorIs(t, err, tracefs.ErrNotSupported)
	assert.ErrorContains(t, err, "locked down")
}
