package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// answer answers the host's pings until the line ends, and has typed take what
// was typed. It needs no timer: a kernel that loses timers would be silent, as a
// dead one is.
func answer(in io.Reader, out *sender, e *examiner, typed func([]byte)) error {
	data := make([]byte, 64)
	var keys keysReader
	for {
		n, err := in.Read(data)
		if err != nil {
			return err
		}
		pings, text := keys.split(data[:n])
		if len(text) > 0 {
			typed(text)
		}
		if len(pings) == 0 {
			continue
		}
		var pong wire.Pong
		if bytes.IndexByte(pings, wire.Examine) >= 0 {
			pong.Stuck = e.examine()
		}
		if err := out.send(wire.Guest{Pong: &pong}); err != nil {
			return err
		}
	}
}

// keysReader tells what was typed from pings.
type keysReader struct {
	begun bool // the length comes next
	left  int  // of what was typed
}

func (k *keysReader) split(data []byte) (pings, text []byte) {
	for _, b := range data {
		switch {
		case k.left > 0:
			text = append(text, b)
			k.left--
		case k.begun:
			k.begun, k.left = false, int(b)
		case b == wire.Keys:
			k.begun = true
		default:
			pings = append(pings, b)
		}
	}
	return pings, text
}

// check is something that a healthy kernel does within a second.
type check struct {
	what string
	do   func()
}

// examiner knows what the kernel is at: checks, each at most once, and system
// calls of others.
type examiner struct {
	list    func() []check
	blocked func() map[string]string // system calls that do not end, by a key
	turn    int                      // the number of examinations so far
	began   map[string]int           // the turn at which each check under way began
	seen    map[string]int           // and the turn at which each system call was seen first
	ended   chan string
}

func newExaminer(list func() []check, blocked func() map[string]string) *examiner {
	return &examiner{list: list, blocked: blocked, began: make(map[string]int), ended: make(chan string)}
}

// examine begins the checks that are not under way, and returns what has not
// ended for too long.
func (e *examiner) examine() (stuck []string) {
	for more := true; more; {
		select {
		case what := <-e.ended:
			delete(e.began, what)
		default:
			more = false
		}
	}
	e.turn++
	for _, c := range e.list() {
		if _, ok := e.began[c.what]; ok {
			continue
		}
		e.began[c.what] = e.turn
		go func() {
			// What it locks its thread for ends with it, and not when somebody asks
			// again.
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.do()
			}()
			<-done
			e.ended <- c.what
		}()
	}
	// One of a CPU that went offline meanwhile has to end as well.
	for what, began := range e.began {
		if e.turn-began >= wire.StuckAfter {
			stuck = append(stuck, what)
		}
	}
	calls := e.blocked()
	seen := make(map[string]int)
	for key, what := range calls {
		seen[key] = cmp.Or(e.seen[key], e.turn)
		if e.turn-seen[key] >= wire.StuckAfter && !slices.Contains(stuck, what) {
			stuck = append(stuck, what)
		}
	}
	e.seen = seen
	slices.Sort(stuck)
	return stuck
}

// kernelChecks are whether RCU works, which takes an answer of every CPU, and
// whether each CPU ends a sleep. What is not possible here is not checked.
func kernelChecks() []check {
	checks := []check{{"an RCU grace period", func() {
		// Its first command, MEMBARRIER_CMD_GLOBAL, is synchronize_rcu(). With
		// nohz_full= it is EINVAL.
		_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, 1, 0, 0)
	}}}
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return checks
	}
	for cpu := range len(cpus) * 64 {
		if cpus.IsSet(cpu) {
			checks = append(checks, check{fmt.Sprintf("a sleep of %v on CPU %d", nap, cpu), func() { sleepOn(cpu) }})
		}
	}
	return checks
}

const nap = 100 * time.Millisecond

// sleepOn sleeps on a CPU, unless that goes offline.
func sleepOn(cpu int) {
	runtime.LockOSThread() // and the thread ends with the goroutine
	var only unix.CPUSet
	only.Set(cpu)
	// This moves the thread to a CPU that may never run it. unix.SchedSetaffinity
	// does not tell the Go runtime of the call, which then would wait for the
	// thread to collect garbage.
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(only), uintptr(unsafe.Pointer(&only))); errno != 0 {
		return
	}
	t := unix.NsecToTimespec(nap.Nanoseconds())
	_ = unix.Nanosleep(&t, nil)
}
