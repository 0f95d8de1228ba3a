package explore

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// A Target is the machine that lines are performed on. Make one with
// [NewTarget].
type Target struct {
	// Root is the directory of the machine's file system, "/" except in tests.
	Root string

	// Vars are the variables that lines have: $R is the root of the cpuset
	// hierarchy, $A to $C are cpusets below it, and $T1 and $T2 process IDs.
	Vars map[string]string

	forker *forker
	pids   map[string]int    // of the tasks, by their variables
	groups map[string]bool   // directories that were made, by their path in lines
	asked  map[string]string // the masks that taskset has given
	class  map[string]string // the options of chrt that gave the task its class
	limits bool              // cgroups were given a cpu.max
	first  map[string]string // what files had before they were written, by their path in lines
}

// NewTarget returns the machine whose file system is at root. mount is the
// mount point of the cpusets, without root before it; prefix begins the name of
// each cgroup that is made there.
func NewTarget(root, mount, prefix string) *Target {
	t := &Target{
		Root: root, Vars: map[string]string{"R": mount}, pids: make(map[string]int), groups: make(map[string]bool),
		asked: make(map[string]string), class: make(map[string]string), first: make(map[string]string),
	}
	for _, name := range topGroups {
		t.Vars[name] = mount + "/" + prefix + strings.ToLower(name)
	}
	return t
}

// topGroups are the variables of the cpusets below the root.
var topGroups = []string{"A", "B", "C"}

// Path returns the path that a path of a line stands for.
func (t *Target) Path(path string) string {
	return filepath.Join(t.Root, t.expand(path))
}

// expand replaces the variables of a text by their values.
func (t *Target) expand(text string) string {
	return os.Expand(text, func(name string) string {
		if value, ok := t.Vars[name]; ok {
			return value
		}
		return "$" + name
	})
}

// A Result is what became of a [Line].
type Result struct {
	// Errs has the error of each command; 0: it succeeded. A Write has an
	// errno, and so have the others.
	Errs []unix.Errno

	// Took is the time that all commands took.
	Took time.Duration
}

// Failed reports whether a command failed.
func (r Result) Failed() bool {
	return slices.ContainsFunc(r.Errs, func(e unix.Errno) bool { return e != 0 })
}

// String returns the errors by their names, or "".
func (r Result) String() string {
	if !r.Failed() {
		return ""
	}
	var names []string
	for _, e := range r.Errs {
		name := "ok"
		if e != 0 {
			name = unix.ErrnoName(e)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// Do performs a line. It returns when all of its commands have ended.
func (t *Target) Do(l Line) Result {
	r := Result{Errs: make([]unix.Errno, len(l.Commands))}
	t.remember(l)
	start := time.Now()
	if l.Parallel {
		var wg sync.WaitGroup
		for i, c := range l.Commands {
			wg.Go(func() { r.Errs[i] = errno(t.perform(c)) })
		}
		wg.Wait()
	} else {
		for i, c := range l.Commands {
			r.Errs[i] = errno(t.perform(c))
		}
	}
	r.Took = time.Since(start)
	for i, c := range l.Commands {
		if r.Errs[i] == 0 {
			t.note(c)
		}
	}
	return r
}

// remember keeps in mind what the files have that a line writes to, the first
// time: those that are not removed with the cgroups.
func (t *Target) remember(l Line) {
	for _, c := range l.Commands {
		if c.Op != Write || strings.HasPrefix(c.Path, "$") && c.Path != string(balanceKey) {
			continue
		}
		if _, ok := t.first[c.Path]; ok {
			continue
		}
		if text, err := sysfs.ReadFile(t.Path(c.Path)); err == nil {
			t.first[c.Path] = text
		}
	}
}

// note keeps in mind what a command has made.
func (t *Target) note(c Command) {
	switch c.Op {
	case Mkdir:
		t.groups[c.Path] = true
	case Rmdir:
		delete(t.groups, c.Path)
	case Taskset:
		t.asked[c.Task] = c.Value
	case Chrt:
		t.class[c.Task] = c.Value
	case Write:
		if c.Path == limitControl {
			t.limits = c.Value == "+cpu"
		}
	}
}

// Groups returns the cgroups that lines have made, parents first.
func (t *Target) Groups() []string { return slices.Sorted(maps.Keys(t.groups)) }

func (t *Target) perform(c Command) error {
	switch c.Op {
	case Mkdir:
		return unix.Mkdir(t.Path(c.Path), 0o755)
	case Rmdir:
		return unix.Rmdir(t.Path(c.Path))
	case Taskset:
		cpus, err := parseHex(c.Value)
		if err != nil {
			return unix.EINVAL
		}
		pid, err := t.pid(c.Task)
		if err != nil {
			return err
		}
		return affinity.Set(pid, cpus)
	case Chrt:
		attr, err := parseClass(c.Value)
		if err != nil {
			return unix.EINVAL
		}
		pid, err := t.pid(c.Task)
		if err != nil {
			return err
		}
		return unix.SchedSetAttr(pid, attr, 0)
	default:
		return sysfs.WriteLine(t.Path(c.Path), t.expand(c.Value))
	}
}

// pid returns the process ID that a variable stands for.
func (t *Target) pid(task string) (int, error) {
	if pid, ok := t.pids[task]; ok {
		return pid, nil
	}
	return 0, unix.ESRCH
}

// errno returns the errno of an error, which is EIO if it has none.
func errno(err error) unix.Errno {
	var e unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e
	default:
		return unix.EIO
	}
}
