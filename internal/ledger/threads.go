package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelThread is PF_KTHREAD of include/linux/sched.h: the process is one of
// the kernel's.
const kernelThread = 0x00200000

// Threads returns the names of the kernel's threads by their id, from
// /proc/PID/stat of the machine whose file system is at root. A thread that
// ends meanwhile may be left out.
func Threads(root string) (map[int]string, error) {
	t := ThreadTable{Root: root}
	if err := t.Scan(); err != nil {
		return nil, err
	}
	return t.Names(), nil
}

// A ThreadTable is what is known of the kernel's threads. To read about one
// takes the kernel long, so it is read once, when it is first there. The kernel
// gives an id to another process only when it has been through all the others.
// The table is not for use by several goroutines at once.
type ThreadTable struct {
	// Root is where the machine's file system is.
	Root string

	known map[int]thread
}

type thread struct {
	name   string
	kernel bool
}

// nameless is the name of a kernel thread that does not have its own yet.
const nameless = "kthreadd"

// Scan brings the table up to date. A thread that begins or ends meanwhile may
// be left out.
func (t *ThreadTable) Scan() error {
	proc := filepath.Join(t.Root, "proc")
	tids, err := t.list(proc)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	now := make(map[int]thread)
	kernel := 0
	for _, tid := range tids {
		is, ok := t.known[tid]
		if !ok || is.kernel && is.name == nameless && tid != kthreadd {
			path := filepath.Join(proc, strconv.Itoa(tid), "stat")
			text, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			if _, is.name, is.kernel, err = parseStat(string(text)); err != nil {
				return fmt.Errorf("ledger: %s: %w", path, err)
			}
		}
		if now[tid] = is; is.kernel {
			kernel++
		}
	}
	if kernel == 0 {
		return fmt.Errorf("ledger: %s has no thread of the kernel: this is not its first PID namespace", proc)
	}
	t.known = now
	return nil
}

// list returns the ids of the children of kthreadd and its own, if it is known
// and the kernel tells of them (CONFIG_PROC_CHILDREN), and else of all
// processes: to list those takes the kernel ten times as long.
func (t *ThreadTable) list(proc string) (tids []int, err error) {
	var names []string
	text, err := os.ReadFile(filepath.Join(proc, "2/task/2/children"))
	if t.known[kthreadd] == (thread{nameless, true}) && err == nil {
		names = append(strings.Fields(string(text)), strconv.Itoa(kthreadd))
	} else {
		dir, err := os.Open(proc)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		if names, err = dir.Readdirnames(-1); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		} // else it is no process
	}
	return tids, nil
}

// Names returns the names of the kernel's threads by their id, without what a
// worker works for: "kworker/3:1".
func (t *ThreadTable) Names() map[int]string {
	threads := make(map[int]string)
	for tid, is := range t.known {
		if is.kernel {
			threads[tid] = is.name
		}
	}
	return threads
}

// parseStat parses /proc/PID/stat: "29 (cpuhp/3) S 2 0 0 0 -1 69238848 …".
func parseStat(text string) (tid int, name string, kernel bool, err error) {
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return 0, "", false, fmt.Errorf("%q has no name in parentheses", text)
	}
	fields := strings.Fields(text[to+1:])
	if len(fields) < 7 {
		return 0, "", false, fmt.Errorf("%q is too short", text)
	}
	tid, err = strconv.Atoi(strings.TrimSpace(text[:from]))
	if err != nil {
		return 0, "", false, err
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	if err != nil {
		return 0, "", false, err
	}
	return tid, WithoutWorkqueue(text[from+1 : to]), flags&kernelThread != 0, nil
}

// WithoutWorkqueue returns the name of a worker without that of the workqueue
// which it last worked for, or works for now: "kworker/3:1" of
// "kworker/3:1-events" and of "kworker/3:1+events".
func WithoutWorkqueue(name string) string {
	if end := strings.IndexAny(name, "-+"); end >= 0 && strings.HasPrefix(name, "kworker/") {
		return name[:end]
	}
	return name
}
