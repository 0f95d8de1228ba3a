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
)

// A Supervisor is a process that puts the machine back when the one that started it ends without doing so: by SIGKILL,
// a panic, -timeout, Ctrl-C, a closed terminal, or for lack of memory.
type Supervisor struct {
	cmd   *exec.Cmd
	pipe  io.WriteCloser // its standard input; open for as long as this process lives
	told  *gob.Encoder   // what it is told through that
	close func() error
}

// supervisorEnv is in the environment of a supervisor alone.
const supervisorEnv = "HOTPLUGTEST_SUPERVISOR"

// A supervisor is this program again. It has to be told from the program before main, and before any test.
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

// order is what a supervisor is told, as two values: this, and done. They are encoded by gob, as the names of cgroups need not
// be the UTF-8 that JSON would make of them.
type order struct {
	Snapshot *Snapshot
	Parent   int  // the process that is supervised
	Lock     bool // whether descriptor 3 is the locked file
}

// done is the second: the machine is as it was.
type done bool

// Supervise starts a supervisor that restores the snapshot when this process is gone. It also removes the cgroups
// hotplugtest-* that the process has made, and says on standard error what it did. If the process has the [Lock], it ends
// when that is done.
//
// The supervisor has a session of its own, is in the root cgroups, may run on all CPUs, and the kernel does not kill it
// for lack of memory.
func Supervise(s *Snapshot) (*Supervisor, error) {
	held.Lock()
	defer held.Unlock()
	// It is not exec.Command that finds the program: this is the one that runs, even if its file was replaced or removed.
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{"hotplugtest-supervisor"},
		Dir:  "/",
		// One CPU at a time is enough, and a GOMAXPROCS that is set does not follow the number of CPUs.
		Env:         []string{supervisorEnv + "=1", "GOMAXPROCS=1", "GOTRACEBACK=all"},
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if held.file != nil {
		cmd.ExtraFiles = []*os.File{held.file}
	}
	fail := func(err error) (*Supervisor, error) { return nil, fmt.Errorf("machine: supervisor: %w", err) }
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
	// When it closes its standard output it is ready. Before that, it may have said why it is not.
	told := gob.NewEncoder(in)
	err = told.Encode(order{s, os.Getpid(), held.file != nil})
	said, readErr := io.ReadAll(out)
	if len(said) > 0 {
		err = errors.New(string(said))
	}
	if err = errors.Join(err, readErr); err != nil {
		in.Close()
		return fail(errors.Join(err, cmd.Wait()))
	}
	v := &Supervisor{cmd: cmd, pipe: in, told: told}
	v.close = sync.OnceValue(v.end)
	return v, nil
}

// Close tells the supervisor that the machine is as it was, and waits for its end. The error says how it ended, if it did
// before.
func (v *Supervisor) Close() error { return v.close() }

func (v *Supervisor) end() error {
	// If it cannot be told, how it ended says why.
	_ = v.told.Encode(done(true))
	v.pipe.Close()
	if err := v.cmd.Wait(); err != nil {
		return fmt.Errorf("machine: supervisor: %w", err)
	}
	return nil
}

// supervise is the supervisor.
func supervise() error {
	// What ends a whole session or terminal is not to end this one, nor is a standard error that nobody reads any more.
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2)

	orders := gob.NewDecoder(os.Stdin)
	var o order
	if err := orders.Decode(&o); err != nil {
		fmt.Print(err)
		return nil
	}
	// The parent has to be there still when it is opened, or its id may be another's by now.
	parent, err := unix.PidfdOpen(o.Parent, 0)
	if err != nil {
		parent = -1
	}
	if parent >= 0 && os.Getppid() != o.Parent {
		unix.Close(parent)
		parent = -1
	}
	o.detach()
	os.Stdout.Close()

	var well done
	if err := orders.Decode(&well); err == nil && bool(well) {
		return nil
	}
	var lockFile *os.File
	if o.Lock {
		lockFile = os.NewFile(3, LockPath)
		// For the information of those who wait.
		_ = sign(lockFile)
	}
	if parent >= 0 {
		// Its descriptors are closed, and so its threads are all on their way out.
		_ = awaitExit(parent, time.Now().Add(exitLimit))
	}
	text := o.restore()
	if lockFile != nil {
		lockFile.Close()
	}
	// Last, for who reads it may have stopped reading.
	_, _ = io.WriteString(os.Stderr, text)
	return nil
}

// restore puts the machine back and says what it did.
func (o *order) restore() string {
	diffs, err := o.Snapshot.Compare()
	if err == nil && len(diffs) == 0 {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "hotplugtest: process %d ended and left the machine changed:\n", o.Parent)
	list(&text, diffs)
	if diffs, err = o.Snapshot.mendAll(); err == nil && len(diffs) == 0 {
		fmt.Fprintln(&text, "hotplugtest: the machine is as it was")
		return text.String()
	}
	fmt.Fprintln(&text, "hotplugtest: this could not be put back:")
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

// detach makes the process independent of what its parent was in, as far as this user may.
func (o *order) detach() {
	mounts, _ := read(o.Snapshot.path("/proc/self/mountinfo"))
	for line := range strings.Lines(mounts) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS
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
		_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20}, 0)
	}
}
