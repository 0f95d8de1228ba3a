package hotplugtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// kernelLog tells what the kernel has said during each test. Tests are nested, and what is said while a test runs is that of
// the innermost. It may be asked by several goroutines at once: two threads of
// a scene can hang, each with a report of its own.
type kernelLog struct {
	mu                 sync.Mutex
	log                *kmsg.Log    // nil: it cannot be read here
	askForBlockedTasks func() error // has the kernel log its blocked tasks
	open               []*said      // by tests that run, the outermost first
}

// said is what the kernel has said during a test, as much as a report needs of it.
type said struct {
	trouble string        // what kind of complaint was the first, or ""
	lines   []kmsg.Record // from the first complaint on
	more    int           // records after those
	tail    []kmsg.Record // the last ones, complaint or not
	nested  bool          // tests have run inside, and have their own
	err     error         // records were lost, or could not be read
}

const (
	troubleLines = 80 // a warning takes about 50
	tailLines    = 20
)

func (s *said) add(r kmsg.Record) {
	if s.trouble == "" {
		s.trouble = r.Trouble()
	}
	switch {
	case s.trouble != "" && len(s.lines) < troubleLines:
		s.lines = append(s.lines, r)
	case s.trouble != "":
		s.more++
	}
	if len(s.tail) == tailLines {
		s.tail = s.tail[:copy(s.tail, s.tail[1:])]
	}
	s.tail = append(s.tail, r)
}

// judge tells what is wrong with what was said, or nil.
func (s *said) judge() error {
	if s.trouble == "" {
		return s.err
	}
	err := fmt.Errorf("the kernel's log has a complaint (%s):%s", s.trouble, indent(s.lines))
	if s.more > 0 {
		err = fmt.Errorf("%w\n    and %d lines more", err, s.more)
	}
	return errors.Join(err, s.err)
}

func indent(records []kmsg.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "\n    %s", strings.ReplaceAll(printable(r.String()), "\n", "\n    "))
	}
	return b.String()
}

// read takes what is new for the test that runs. The caller holds k.mu.
func (k *kernelLog) read() {
	if k.log == nil {
		return
	}
	records, err := k.log.Read()
	if len(k.open) == 0 {
		return
	}
	s := k.open[len(k.open)-1]
	for _, r := range records {
		s.add(r)
	}
	s.err = errors.Join(s.err, err)
}

// blockedTasks has the kernel log its blocked tasks, and returns the text.
func (k *kernelLog) blockedTasks() string {
	if k.log == nil {
		return ""
	}
	// Two that ask at once would each get a part of the text.
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read()
	if err := k.askForBlockedTasks(); err != nil {
		return "\n    " + err.Error()
	}
	records, _ := k.log.Read()
	// Each task takes some 20 lines.
	const most = 400
	return indent(records[:min(len(records), most)])
}

// begin begins a test, or a part of one, and end ends it and returns what was said meanwhile.
func (k *kernelLog) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read()
	if n := len(k.open); n > 0 {
		k.open[n-1].nested = true
	}
	k.open = append(k.open, &said{})
}

func (k *kernelLog) end() *said {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read()
	last := len(k.open) - 1
	s := k.open[last]
	k.open = k.open[:last]
	return s
}

// watch has the test fail if the kernel complains from now to its end.
func (k *kernelLog) watch(t *testing.T) {
	k.begin()
	t.Cleanup(func() { k.end().report(t) })
}

// report fails the test if the kernel has complained. A test that has failed for another reason gets the last that the
// kernel said.
func (s *said) report(t *testing.T) {
	failed := t.Failed()
	if err := s.judge(); err != nil {
		t.Error(err)
	} else if failed && !s.nested && len(s.tail) > 0 {
		t.Logf("the kernel's log of this test:%s", indent(s.tail))
	}
}
