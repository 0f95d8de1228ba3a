package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// kernelThread is PF_KTHREAD: the flag of a thread that is the kernel's own.
const kernelThread = 0x00200000

// switches matches the number of times that a thread went to sleep.
var switches = regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s*(\d+)$`)

// blockedCalls are the system calls that do not end, except this process's own:
// those are checks.
func blockedCalls() map[string]string { return blocked("/proc", os.Getpid()) }

// blocked returns the system calls in which threads of processes sleep, such
// that no signal wakes them, by the files at proc: text for people, by a key
// that is another one when the same thread sleeps again. What ends meanwhile is
// passed over, and so is the process self.
func blocked(proc string, self int) map[string]string {
	found := make(map[string]string)
	stats, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/task/[0-9]*/stat")) // the pattern is well formed
	for _, stat := range stats {
		if strings.HasPrefix(stat, filepath.Join(proc, strconv.Itoa(self))+"/") {
			continue
		}
		data, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		name, ok := sleeper(string(data))
		if !ok {
			continue
		}
		dir := filepath.Dir(stat)
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		m := switches.FindSubmatch(status)
		if m == nil {
			continue
		}
		text := fmt.Sprintf("a system call of %s, thread %s", name, filepath.Base(dir))
		// Where it sleeps. "0" is not known.
		if in, err := os.ReadFile(filepath.Join(dir, "wchan")); err == nil && len(in) > 0 && string(in) != "0" {
			text += " (" + string(in) + ")"
		}
		found[filepath.Base(dir)+" "+string(m[1])] = text
	}
	return found
}

// sleeper returns the name of the thread that a /proc/PID/task/TID/stat is of,
// and whether it is in state D and no thread of the kernel's: PID (NAME) STATE
// PPID PGRP SESSION TTY TPGID FLAGS …, where NAME can have anything in it.
func sleeper(stat string) (name string, ok bool) {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin {
		return "", false
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 7 || fields[0] != "D" {
		return "", false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return stat[begin+1 : end], err == nil && flags&kernelThread == 0
}
