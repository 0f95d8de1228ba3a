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
	// The error is one of the pattern.
	files, _ := filepath.Glob(filepath.Join(root, "proc/[0-9]*/stat"))
	threads := make(map[int]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		tid, name, kernel, err := parseStat(string(text))
		if err != nil {
			return nil, fmt.Errorf("ledger: %s: %w", file, err)
		}
		if kernel {
			threads[tid] = name
		}
	}
	if len(threads) == 0 {
		return nil, fmt.Errorf("ledger: %s has no thread of the kernel: this is not its first PID namespace", filepath.Join(root, "proc"))
	}
	return threads, nil
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
