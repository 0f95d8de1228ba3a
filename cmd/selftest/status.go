package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// statusMark begins a line on the pipe of progress that is the new last line of
// the terminal, and not to be printed as others are.
const statusMark = "\x00"

// earlier is what is known of a VM of an earlier run.
type earlier struct {
	Took  time.Duration
	Tests int // that came to their end
}

// progress tells how far a run is, for the last line of a terminal. A nil one
// tells nothing.
type progress struct {
	mu     sync.Mutex
	to     io.Writer
	now    func() time.Time
	last   time.Time // when it was last told
	vms    []earlier
	began  []bool
	done   []int // tests, by VM
	over   []bool
	atOnce int
	failed int
}

func newProgress(to io.Writer, vms []earlier, atOnce int) *progress {
	n := len(vms)
	return &progress{
		to: to, now: time.Now, vms: vms, atOnce: atOnce,
		began: make([]bool, n), done: make([]int, n), over: make([]bool, n),
	}
}

// running notes that a test of VM number i runs.
func (p *progress) running(i int, pkg, test string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began[i] = true
	const often = 100 * time.Millisecond
	if now := p.now(); now.Sub(p.last) >= often {
		p.last = now
		// Who no longer reads it needs no status.
		_, _ = io.WriteString(p.to, statusMark+p.line(i, pkg, test)+"\n")
	}
}

// ended notes that a test has come to its end, or with "" the VM.
func (p *progress) ended(i int, test string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if test == "" {
		p.over[i] = true
	} else {
		p.done[i]++
	}
}

// fail notes a failure by no known defect.
func (p *progress) fail() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed++
}

// line is the last line of the terminal.
func (p *progress) line(i int, pkg, test string) string {
	var b strings.Builder
	b.WriteString(strings.TrimPrefix(pkg, packagePrefix))
	if len(p.vms) > 1 {
		over := 0
		for _, is := range p.over {
			if is {
				over++
			}
		}
		fmt.Fprintf(&b, " (%d of %d done)", over, len(p.vms))
	}
	// An earlier run may have had fewer tests.
	if m := p.vms[i].Tests; m > p.done[i] {
		fmt.Fprintf(&b, ": %d of %d tests", p.done[i], m)
	} else {
		fmt.Fprintf(&b, ": %d tests", p.done[i])
	}
	fmt.Fprintf(&b, ", %d failed", p.failed)
	if left, ok := p.left(); ok {
		fmt.Fprintf(&b, ", about %v left", left.Round(time.Second))
	}
	return b.String() + ": " + test
}

// left is how long the rest takes, by what earlier runs took.
func (p *progress) left() (left time.Duration, ok bool) {
	for i, vm := range p.vms {
		switch {
		case p.over[i]:
		case vm.Took == 0 || vm.Tests == 0:
			return 0, false
		default:
			left += vm.Took * time.Duration(max(vm.Tests-p.done[i], 0)) / time.Duration(vm.Tests)
		}
	}
	return left / time.Duration(max(p.atOnce, 1)), true
}

// lastLine is a terminal that has a status on its last line, below what is
// printed.
type lastLine struct {
	mu     sync.Mutex
	w      io.Writer
	width  func() int // of the terminal; 0: it is none, and has no status
	status string
	within bool // a line was begun, and the status is not shown
}

// newLastLine returns that of a file. If it is no terminal, or quiet, it passes
// everything on and shows no status.
func newLastLine(f *os.File, quiet bool) *lastLine {
	width := func() int {
		if quiet || os.Getenv("TERM") == "dumb" {
			return 0
		}
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		switch {
		case err != nil:
			return 0
		case size.Col == 0:
			return 80
		}
		return int(size.Col)
	}
	return &lastLine{w: f, width: width}
}

// shows reports whether a status would be seen.
func (l *lastLine) shows() bool { return l.width() > 0 }

const eraseLine = "\r\x1b[K"

// Write prints above the status.
func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status == "" || len(p) == 0 {
		return l.w.Write(p)
	}
	var b bytes.Buffer
	if !l.within {
		b.WriteString(eraseLine)
	}
	b.Write(p)
	l.within = p[len(p)-1] != '\n'
	if !l.within {
		b.WriteString(l.shown())
	}
	_, err := b.WriteTo(l.w)
	return len(p), err
}

// set shows another status. "" ends it.
func (l *lastLine) set(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if status == l.status || status != "" && l.width() == 0 {
		return
	}
	l.status = status
	if !l.within {
		_, _ = io.WriteString(l.w, eraseLine+l.shown())
	}
}

// shown is as much of the status as the terminal has room for.
func (l *lastLine) shown() string {
	runes := []rune(l.status)
	if most := l.width() - 1; len(runes) > most {
		return string(runes[:max(most, 0)])
	}
	return l.status
}

// copyProgress prints the lines of a pipe, and shows those that are a status.
func (l *lastLine) copyProgress(from io.Reader) {
	var rest lines
	_, _ = io.Copy(writerFunc(func(p []byte) (int, error) {
		return rest.write(p, func(line []byte) error {
			if status, ok := bytes.CutPrefix(line, []byte(statusMark)); ok {
				l.set(strings.TrimSuffix(string(status), "\n"))
				return nil
			}
			_, err := l.Write(line)
			return err
		})
	}), from)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
