package machine

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// A Supervisor is a process that puts the machine back when the one that
// started it ends without doing so: by SIGKILL, a panic, -timeout, Ctrl-C, a
// closed terminal, or for lack of memory.
type Supervisor struct {
	cmd      *exec.Cmd
	snapshot *Snapshot
	// its standard input; open for as long as this process lives
	pipe  io.WriteCloser
	told  *gob.Encoder // what it is told through that
	said  *gob.Decoder // what it answers
	close func() error
}

// supervisorEnv is in the environment of a supervisor alone.
const supervisorEnv = "HOTPLUGTEST_SUPERVISOR"

// A supervisor is this program again. It has to be told from the program before
// main, and before any test.
func init() {
	if os.Getenv(supervisorEnv) == "" {
		return
	}
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, "hotplugtest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// order is what a supervisor is told first; requests follow. They are encoded
// by gob, as the names of cgroups need not be the UTF-8 that JSON would make of
// them.
type order struct {
	Snapshot *Snapshot
	Parent   int  // the process that is supervised
	Lock     bool // whether descriptor 3 is the locked file
}

// A request is a word to the supervisor.
type request int

const (
	tell request = iota + 1 // the snapshot, with what others have changed
	end                     // as the machine is restored
	give                    // up: end, and leave the record to the next run
)

// An answer is the supervisor's to the order and to each request to tell.
type answer struct {
	Snapshot *Snapshot
	Err      string
}

// thisProgram is the one that runs, even if its file was replaced or removed. It
// is replaced in tests.
var thisProgram = "/proc/self/exe"

// Supervise starts a supervisor that restores the snapshot when this process is
// gone. It also removes the cgroups hotplugtest-* that the process has made,
// and says on standard error what it did. If the process has the [Lock], it
// ends when that is done.
//
// The supervisor has a session of its own, is in the root cgroups, may run on
// all CPUs, and the kernel does not kill it for lack of memory.
func Supervise(s *Snapshot) (*Supervisor, error) {
	held.Lock()
	defer held.Unlock()
	// It is not exec.Command that finds the program.
	cmd := &exec.Cmd{
		Path: thisProgram,
		Args: []string{"hotplugtest-supervisor"},
		Dir:  "/",
		// One CPU at a time is enough, and a GOMAXPROCS that is set does not
		// follow the number of CPUs.
		Env:         []string{supervisorEnv + "=1", "GOMAXPROCS=1", "GOTRACEBACK=all"},
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if held.file != nil {
		cmd.ExtraFiles = []*os.File{held.file}
	}
	fail := func(err error) (*Supervisor, error) {
		return nil, fmt.Errorf("machine: supervisor: %w", syserr.In("", err))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return fail(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	// When it answers it is ready.
	v := &Supervisor{cmd: cmd, snapshot: s, pipe: in, told: gob.NewEncoder(in), said: gob.NewDecoder(out)}
	if err := errors.Join(v.told.Encode(order{s, os.Getpid(), held.file != nil}), v.listen()); err != nil {
		in.Close()
		if ended := cmd.Wait(); ended != nil {
			err = fmt.Errorf("it ended before it was ready: %w", ended)
		}
		// Nothing is changed yet. What the next run would restore by its record
		// is what others change until then.
		return fail(errors.Join(err, unstore(s.Root)))
	}
	v.close = sync.OnceValue(v.end)
	return v, nil
}

// listen waits for an answer. A snapshot in it is the present one.
func (v *Supervisor) listen() error {
	var a answer
	if err := v.said.Decode(&a); err != nil {
		return err
	}
	if a.Err != "" {
		return errors.New(a.Err)
	}
	if a.Snapshot != nil {
		v.snapshot = a.Snapshot
	}
	return nil
}

// Snapshot returns what has to be restored: the snapshot that the supervisor
// was started with, and in it what other processes have written since, such as
// the mask of an interrupt. It is the last known one if the supervisor has
// ended, of which [Supervisor.Close] tells.
func (v *Supervisor) Snapshot() *Snapshot {
	if v.told.Encode(tell) == nil {
		_ = v.listen()
	}
	return v.snapshot
}

// Close tells the supervisor that the machine is as it was, and waits for its
// end. The error says how it ended, if it did before.
func (v *Supervisor) Close() error { return v.close() }

func (v *Supervisor) end() error { return v.leave(end) }

// leave ends the supervisor with a last word.
func (v *Supervisor) leave(word request) error {
	// If it cannot be told, how it ended says why.
	_ = v.told.Encode(word)
	v.pipe.Close()
	err := v.cmd.Wait()
	if word == end {
		// It does so itself, if it lives.
		err = errors.Join(err, unstore(v.snapshot.Root))
	}
	if err != nil {
		return fmt.Errorf("machine: supervisor: %w", syserr.In("", err))
	}
	return nil
}

// supervise is the supervisor.
func supervise() error {
	// What ends a whole session or terminal is not to end this one, nor is a
	// standard error that nobody reads any more.
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2)

	requests, answers := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	var o order
	if err := requests.Decode(&o); err != nil {
		return answers.Encode(answer{Err: err.Error()})
	}
	// The parent has to be there still when it is opened, or its id may be
	// another's by now.
	parent, err := unix.PidfdOpen(o.Parent, 0)
	if err != nil {
		parent = -1
	}
	if parent >= 0 && os.Getppid() != o.Parent {
		unix.Close(parent)
		parent = -1
	}
	o.detach()
	r := &record{Boot: bootID(o.Snapshot.Root), Process: o.Parent, Snapshot: o.Snapshot}
	path, err := r.store(o.Snapshot.Root)
	if err != nil {
		return answers.Encode(answer{Err: err.Error()})
	}
	others := o.watch(func() { path = r.update(path, os.Stderr) })
	if err := answers.Encode(answer{}); err != nil {
		return err
	}

	switch o.serve(requests, answers, others) {
	case end:
		return unstore(o.Snapshot.Root)
	case give:
		return nil
	}
	hurry()
	var lockFile *os.File
	if o.Lock {
		lockFile = os.NewFile(3, LockPath)
		// For the information of those who wait.
		_ = sign(lockFile)
	}
	if parent >= 0 {
		// Its descriptors are closed, and so its threads are all on their way
		// out.
		_ = awaitExit(parent, time.Now().Add(exitLimit))
	}
	text := o.restore(others)
	if lockFile != nil {
		lockFile.Close()
	}
	// Last, for who reads it may have stopped reading.
	_, _ = io.WriteString(os.Stderr, text)
	return nil
}

// watch sees to it that what others write gets into the snapshot, and calls
// changed then. If the kernel does not allow that, it says so.
func (o *order) watch(changed func()) *watch {
	w, err := watchOthers(o.Snapshot, changed, o.Parent, os.Getpid())
	if err != nil {
		// An ordinary user may not, on a tree of text files that is no machine.
		if os.Geteuid() == 0 {
			fmt.Fprintf(os.Stderr, "hotplugtest: what others change during the run cannot be seen, and will be undone: %v\n", err)
		}
		return nil
	}
	return w
}

// wanted returns what has to be restored now.
func (o *order) wanted(others *watch) *Snapshot {
	if others == nil {
		return o.Snapshot.clone()
	}
	return others.latest()
}

// serve answers requests, and returns the last word of the parent: 0 if it has
// ended without one.
func (o *order) serve(requests *gob.Decoder, answers *gob.Encoder, others *watch) (last request) {
	for {
		var r request
		if err := requests.Decode(&r); err != nil {
			return 0
		}
		if r != tell {
			return r
		}
		if err := answers.Encode(answer{Snapshot: o.wanted(others)}); err != nil {
			return 0
		}
	}
}

// restore puts the machine back and says what it did.
func (o *order) restore(others *watch) string {
	wanted := func() *Snapshot { return o.wanted(others) }
	late := wanted().awaitAdded()
	diffs, err := wanted().Compare()
	if late == nil && err == nil && len(diffs) == 0 {
		if err := unstore(o.Snapshot.Root); err != nil {
			return fmt.Sprintf("hotplugtest: %v\n", err)
		}
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "hotplugtest: process %d ended and left the machine changed:\n", o.Parent)
	list(&text, diffs)
	if late != nil {
		fmt.Fprintln(&text, late)
	}
	diffs, err = mendAll(wanted)
	if err == nil && len(mendable(diffs)) == 0 {
		err = unstore(o.Snapshot.Root)
	}
	switch {
	case err == nil && len(diffs) == 0:
		fmt.Fprintln(&text, restoredLine)
		return text.String()
	case err == nil && len(mendable(diffs)) == 0:
		fmt.Fprintln(&text, "hotplugtest: this cannot be put back:")
	default:
		fmt.Fprintln(&text, "hotplugtest: this could not be put back; the next run, or -restore, tries again:")
	}
	list(&text, diffs)
	if err != nil {
		fmt.Fprintln(&text, err)
	}
	return text.String()
}

// list writes the first differences, a line each.
func list(w io.Writer, diffs []Difference) {
	const most = 20
	for i, d := range diffs {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n", len(diffs)-most)
			return
		}
		fmt.Fprintf(w, "  %v\n", d)
	}
}

// detach makes the process independent of what its parent was in, as far as
// this user may.
func (o *order) detach() {
	mounts, _ := read(o.Snapshot.path("/proc/self/mountinfo"))
	for line := range strings.Lines(mounts) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE
		// SUPEROPTIONS
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(kind) > 0 && strings.HasPrefix(kind[0], "cgroup") {
			_ = write(o.Snapshot.path(filepath.Join(fields[4], "cgroup.procs")), "0")
		}
	}
	_ = write("/proc/self/oom_score_adj", "-1000")

	all := make([]int, 0, affinity.MaxCPU)
	for cpu := range cap(all) {
		all = append(all, cpu)
	}
	every := affinity.Of(all...)
	// Threads that the runtime starts from now on inherit this.
	for _, tid := range numbers("/proc/self/task") {
		_ = affinity.Set(tid, every)
	}
}

// hurry has the process run before others. It does not do so as long as tests
// run, to keep out of their way when it reads what was written.
func hurry() {
	for _, tid := range numbers("/proc/self/task") {
		_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20}, 0)
	}
}
