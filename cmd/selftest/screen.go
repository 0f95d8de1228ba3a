package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// screen passes on what gotestsum prints. That is all output of a test that
// fails twice: when it does, and in a list at the end. The part that is the
// kernel's console is shown in the list alone. Known failures are skips for
// gotestsum; here they get a list of their own.
type screen struct {
	w       io.Writer
	lines   lines
	list    bool         // the list of failures has begun
	skips   bool         // the list of skips has begun, and not ended
	entry   bytes.Buffer // the entry of this list that is being read
	skipped bytes.Buffer // the entries of this list that are no known failures
	known   bytes.Buffer // and those that are
	count   int          // of known failures
}

var (
	escapes  = regexp.MustCompile(`\x1b\[[\d;]*m`)
	doneLine = regexp.MustCompile(`^(DONE.* tests)(?:, (\d+) skipped)?(.*)`)
)

func (s *screen) Write(p []byte) (int, error) { return s.lines.write(p, s.pass) }

func (s *screen) pass(line []byte) error {
	plain := escapes.ReplaceAll(line, nil)
	failures, done := bytes.HasPrefix(plain, []byte("=== Failed")), bytes.HasPrefix(plain, []byte("DONE "))
	s.list = s.list || failures
	switch {
	case bytes.HasPrefix(plain, []byte("=== Skipped")):
		s.skips = true
		s.skipped.Write(line)
		return nil
	case s.skips && (failures || done || bytes.HasPrefix(plain, []byte("=== Errors"))):
		if err := s.endSkips(); err != nil {
			return err
		}
	case s.skips:
		if bytes.HasPrefix(plain, []byte("=== SKIP: ")) {
			s.endEntry()
		}
		s.entry.Write(line)
		return nil
	case !s.list && bytes.HasPrefix(line, []byte(vm.ConsolePrefix)):
		return nil
	}
	if done && s.count > 0 {
		line = s.done(line)
	}
	_, err := s.w.Write(line)
	return err
}

// endEntry puts an entry of the list of skips where it belongs.
func (s *screen) endEntry() {
	entry := s.entry.Bytes()
	if bytes.Contains(entry, []byte("\n"+testjson.KnownPrefix)) {
		s.count++
		head, text, _ := bytes.Cut(entry, []byte("\n"))
		s.known.Write(bytes.Replace(head, []byte("SKIP"), []byte("KNOWN"), 1))
		s.known.WriteString("\n" + junit.WithoutFrames(string(text)))
	} else {
		s.skipped.Write(entry)
	}
	s.entry.Reset()
}

// endSkips prints the list of skips, and that of known failures.
func (s *screen) endSkips() error {
	s.endEntry()
	s.skips = false
	if skipped := s.skipped.Bytes(); bytes.Count(skipped, []byte("\n")) > 1 {
		if _, err := s.w.Write(skipped); err != nil {
			return err
		}
	}
	if s.count == 0 {
		return nil
	}
	_, err := fmt.Fprintf(s.w, "=== Known\n%s", &s.known)
	return err
}

// done makes the last line count known failures by themselves.
func (s *screen) done(line []byte) []byte {
	m := doneLine.FindSubmatch(line)
	if m == nil {
		return line
	}
	text := string(m[1])
	if skipped, _ := strconv.Atoi(string(m[2])); skipped > s.count {
		text += fmt.Sprintf(", %d skipped", skipped-s.count)
	}
	return fmt.Appendf(nil, "%s, %d known%s\n", text, s.count, m[3])
}

// flush writes what has no newline at its end.
func (s *screen) flush() error {
	if s.skips {
		if err := s.endSkips(); err != nil {
			return err
		}
	}
	_, err := s.w.Write(s.lines.rest)
	return err
}
