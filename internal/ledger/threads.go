package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelThread is PF_KTHREAD of include/linux/sched.h: the process is one of the
// kernel's.
const kernelThread = 0x00200000

// Threads returns the names of the kernel's threads by their id, from
// /proc/PID/stat of the machine whose file system is at root. A thread that ends
// meanwhile may be left out.
func Threads(root string) (map[int]string, error) {
	t := threadTable{root: root}
	if err := t.scan(); err != nil {
		return nil, err
	}
	return t.names(), nil
}

// A threadTable is what is known of the processes. To read about one takes the
// kernel long, so it is read once, when it is first there. The kernel gives an id
// to another process only when it has been through all the others.
type threadTable struct {
	root  string
	known map[int]thread
}

type thread struct {
	name   string
	kernel bool
}

// nameless is the name of a kernel thread that does not have its own yet.
const nameless = "kthreadd"

// scan brings the table up to date.
func (t *threadTable) scan() error {
	proc := filepath.Join(t.root, "proc")
	dir, err := os.Open(proc)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	now := make(map[int]thread)
	kernel := 0
	for _, entry := range entries {
		tid, err := strconv.Atoi(entry)
		if err != nil {
			continue // it is no process
		}
		is, ok := t.known[tid]
		if !ok || is.kernel && is.name == nameless && tid != kthreadd {
			text, err := os.ReadFile(filepath.Join(proc, entry, "stat"))
			if err != nil {
				continue // it has ended
			}
			if _, is.name, is.kernel, err = parseStat(string(text)); err != nil {
				return fmt.Errorf("ledger: %s: %w", filepath.Join(proc, entry, "stat"), err)
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

// names returns the kernel's threads.
func (t *threadTable) names() map[int]string {
	threads := make(map[int]string)
	for tid, is := range t.known {
		if is.kernel {
			threads[tid] = is.name
		}
	}
	return threads
}

// parseStat parses /proc/PID/stat, as in "29 (cpuhp/3) S 2 0 0 0 -1 69238848 …".
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
	return tid, withoutWorkqueue(text[from+1 : to]), flags&kernelThread != 0, nil
}

// withoutWorkqueue returns the name of a worker without that of the workqueue
// which it last worked for: "kworker/3:1" of "kworker/3:1-events".
func withoutWorkqueue(name string) string {
	if end := strings.IndexAny(name, "-+"); end >= 0 && strings.HasPrefix(name, "kworker/") {
		return name[:end]
	}
	return name
}
