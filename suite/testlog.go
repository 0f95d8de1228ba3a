package suite

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// testLog is what the kernel has logged during each test. Tests nest; a record
// belongs to the innermost test that was running when it was logged. Several
// goroutines may use a testLog at once: two threads of a scene can hang, each
// with a report of its own.
type testLog struct {
	mu   sync.Mutex
	log  *kmsg.Log // nil: it cannot be read here
	open []*said   // by tests that run, the outermost first

	judge kmsg.Judge

	askForBlockedTasks func() error // has the kernel log its blocked tasks
}

// said is what the kernel has logged during a test, as much as a report needs
// of it.
type said struct {
	problem string        // the kind of the first complaint, or ""
	lines   []kmsg.Record // from the first complaint on
	more    int           // records after these
	tail    []kmsg.Record // the last ones, complaint or not
	nested  bool          // tests have run inside, and have their own
	err     error         // records were lost, or could not be read
}

const (
	problemLines = 80 // a warning takes about 50
	tailLines    = 20
)

// add takes a record, which is a complaint of a kind, or of none.
func (s *said) add(r kmsg.Record, problem string) {
	if s.problem == "" {
		s.problem = problem
	}
	switch {
	case s.problem != "" && len(s.lines) < problemLines:
		s.lines = append(s.lines, r)
	case s.problem != "":
		s.more++
	}
	if len(s.tail) == tailLines {
		s.tail = s.tail[:copy(s.tail, s.tail[1:])]
	}
	s.tail = append(s.tail, r)
}

// judge says what is wrong with what was logged, or nil.
func (s *said) judge() error {
	if s.problem == "" {
		return s.err
	}
	err := fmt.Errorf("the kernel's log has a complaint (%s):%s", s.problem, indent(s.lines))
	if s.more > 0 {
		err = fmt.Errorf("%w\n    and %d lines more", err, s.more)
	}
	return errors.Join(err, s.err)
}

func indent(records []kmsg.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "\n    %s", strings.ReplaceAll(kmsg.Printable(r.String()), "\n", "\n    "))
	}
	return b.String()
}

// read takes what is new for the innermost test. The caller holds k.mu.
func (k *testLog) read() {
	if k.log == nil {
		return
	}
	records, err := k.log.Read()
	if len(k.open) == 0 {
		return
	}
	s := k.open[len(k.open)-1]
	for _, r := range records {
		s.add(r, k.judge.Problem(r))
	}
	s.err = errors.Join(s.err, err)
}

// blockedTasks has the kernel log its blocked tasks, and returns the text.
func (k *testLog) blockedTasks() string {
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

// begin begins a test, or a part of one. end ends it, and returns what was
// logged meanwhile.
func (k *testLog) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read()
	if n := len(k.open); n > 0 {
		k.open[n-1].nested = true
	}
	k.open = append(k.open, &said{})
}

func (k *testLog) end() *said {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read()
	last := len(k.open) - 1
	s := k.open[last]
	k.open = k.open[:last]
	return s
}

// watch makes the test fail if the kernel complains from now to its end, and no
// known defect explains it.
func (k *testLog) watch(t *testing.T, defects *knownDefects) {
	k.begin()
	t.Cleanup(func() { k.end().report(t, defects.skip) })
}

// watchGroup does as watch does for a test that groups others. It does not skip
// the test.
func (k *testLog) watchGroup(t *testing.T, defects *knownDefects) {
	k.begin()
	t.Cleanup(func() { k.end().report(t, defects.log) })
}

// report fails the test if the kernel has complained, unless explain ends it or
// returns true. If the test has failed for another reason, the last that the
// kernel logged is shown.
func (s *said) report(t *testing.T, explain func(t testing.TB, texts ...string) (known bool)) {
	failed := t.Failed()
	if err := s.judge(); err != nil {
		if !explain(t, err.Error()) {
			t.Error(err)
		}
	} else if failed && !s.nested && len(s.tail) > 0 {
		t.Logf("the kernel's log of this test:%s", indent(s.tail))
	}
}

// explain is what the kernel has said about an operation that failed, or nil.
func (s *said) explain() error {
	if err := s.judge(); err != nil || len(s.tail) == 0 {
		return err
	}
	return fmt.Errorf("the kernel's log of it:%s", indent(s.tail))
}

// about is the last record of the kernel's about a CPU, or says that there is
// none.
func (s *said) about(cpu int) string {
	name := fmt.Sprintf("CPU %d ", cpu)
	for i := len(s.tail) - 1; i >= 0; i-- {
		if r := s.tail[i]; r.Facility == 0 && strings.Contains(r.Text, name) {
			return oneLine(r.Text)
		}
	}
	return "the kernel's log does not say how many"
}
