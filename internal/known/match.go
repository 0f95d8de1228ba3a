package known

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// Where is the virtual machine that a failure is from.
type Where struct {
	Suite   string // the kernel, as -kernel names it
	Profile string // the boot profile
	Arch    string // the GOARCH
}

// A Matcher compares the failures of one virtual machine with known defects.
// The methods must be called in the order of the events.
type Matcher struct {
	where   Where
	entries []*entry
	count   map[*entry]int  // tests that failed by it
	passed  map[*entry]bool // a test that it is about has passed
	doubt   map[*entry]bool // one has failed in another way
	release release
	booted  []string
}

// Matcher returns a Matcher for a virtual machine. Expired entries match
// nothing.
func (l *Loader) Matcher(w Where) *Matcher {
	m := &Matcher{where: w, count: make(map[*entry]int), passed: make(map[*entry]bool), doubt: make(map[*entry]bool)}
	for _, e := range l.entries {
		if !e.expired {
			m.entries = append(m.entries, e)
		}
	}
	return m
}

// Expired returns the entries whose review is due, each in a line.
func (l *Loader) Expired() (lines []string) {
	for _, e := range l.entries {
		if e.expired {
			lines = append(lines, fmt.Sprintf("%s: %s was to be reviewed by %s: it is ignored", l.sources[e.ID], e.ID, e.Review))
		}
	}
	return lines
}

// Kernel tells the release of the kernel, as uname -r does. Until then no entry
// about ranges of kernels matches.
func (m *Matcher) Kernel(release string) { m.release = releaseOf(release) }

// Booted tells how a real machine is booted, by the names of the profiles that
// boot a virtual machine so.
func (m *Matcher) Booted(profiles []string) { m.booted = profiles }

// applies reports whether the entry is about this machine.
func (m *Matcher) applies(e *entry) bool {
	return (len(e.ranges) == 0 || slices.ContainsFunc(e.ranges, func(s span) bool { return s.has(m.release) })) &&
		(e.Suite == "" || e.Suite == m.where.Suite) &&
		(e.Arch == "" || e.Arch == m.where.Arch) &&
		(len(e.Profiles) == 0 || slices.Contains(e.Profiles, m.where.Profile) ||
			slices.ContainsFunc(e.Profiles, func(p string) bool { return slices.Contains(m.booted, p) }))
}

// Passed notes that a test passed.
func (m *Matcher) Passed(test string) {
	for _, e := range m.entries {
		if !m.passed[e] && e.test.MatchString(test) && m.applies(e) {
			m.passed[e] = true
		}
	}
}

// Failed returns the known defect that the failure of a test is of, or nil.
// output is all that the test printed.
func (m *Matcher) Failed(test, output string) *Entry {
	return m.find(test, false, func(e *entry) bool { return explains(e, Texts(output)) })
}

// Explains returns the known defect that Failed would return, or nil. It counts
// nothing: what a test sees many times is one failure.
func (m *Matcher) Explains(test, output string) *Entry {
	i := slices.IndexFunc(m.entries, func(e *entry) bool {
		return !e.Crash && e.test.MatchString(test) && m.applies(e) && (e.Most == 0 || m.count[e] < e.Most) && explains(e, Texts(output))
	})
	if i < 0 {
		return nil
	}
	return &m.entries[i].Entry
}

// Crashed returns the known defect that ended the virtual machine, or nil. test
// is the innermost test that was running, output is what it printed, and report
// is what the runner of the virtual machine said.
func (m *Matcher) Crashed(test, output, report string) *Entry {
	return m.find(test, true, func(e *entry) bool {
		return e.symptom.MatchString(firstComplaint(report)) &&
			!slices.ContainsFunc(Texts(output), func(text string) bool { return !e.expects(text) })
	})
}

func (m *Matcher) find(test string, crash bool, explains func(*entry) bool) *Entry {
	for _, e := range m.entries {
		if !e.test.MatchString(test) || !m.applies(e) {
			continue
		}
		if e.Crash == crash && (e.Most == 0 || m.count[e] < e.Most) && explains(e) {
			m.count[e]++
			return &e.Entry
		}
		m.doubt[e] = true
	}
	return nil
}

// Gone returns the IDs of the defects that should have shown, but did not: a
// test that they are about passed, and none failed.
func (m *Matcher) Gone() (ids []string) {
	for _, e := range m.entries {
		if m.passed[e] && m.count[e] == 0 && !m.doubt[e] && !e.Rare {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// explains reports whether the entry is about all texts, and the symptom is in
// one of them.
func explains(e *entry, texts []string) bool {
	seen := false
	for _, text := range texts {
		symptom := !partial(text) && !slices.ContainsFunc(complaints(text), func(part string) bool { return !e.symptom.MatchString(part) })
		if !symptom && !e.expects(text) {
			return false
		}
		seen = seen || symptom
	}
	return seen
}

// expects reports whether the text may be beside the symptom.
func (e *entry) expects(text string) bool {
	return neutral.MatchString(text) || e.beside != nil && e.beside.MatchString(text)
}

// Silent reports whether a test printed no text that could be the reason of its
// failure: then others below it have failed.
func Silent(output string) bool {
	return !slices.ContainsFunc(Texts(output), func(text string) bool { return !neutral.MatchString(text) })
}

// neutral matches what tests log beside the reasons of their failure.
var neutral = regexp.MustCompile(`^(the machine after that:|the kernel's log of this test:)\n`)

// Texts returns the texts that a test reported, one for each call of t.Error
// and the like, without the source line and the indentation. Lines that it
// printed in another way are a text each. The lines that package testing
// prints, and those that name known defects, are left out.
func Texts(output string) (texts []string) {
	inText := false
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		switch loc := reported.FindStringIndex(line); {
		case testjson.Frame.MatchString(line):
			inText = false
		case strings.TrimSpace(line) == "": // in a text too, where package testing indents it
		case loc != nil:
			texts, inText = append(texts, line[loc[1]:]), true
		case inText && strings.HasPrefix(line, indentation):
			if line = line[len(indentation):]; !named.MatchString(line) {
				texts[len(texts)-1] += "\n" + line
			}
		default:
			texts, inText = append(texts, line), false
		}
	}
	return texts
}

// Reason is why a test failed or was skipped, in one line: the first line that
// it reported and, if that text has it, what was seen. "": it reported nothing.
func Reason(output string) string {
	texts := Texts(output)
	if len(texts) == 0 {
		return ""
	}
	head, rest, _ := strings.Cut(texts[0], "\n")
	for line := range strings.Lines(rest) {
		if seen := seenLine.FindStringIndex(line); seen != nil {
			return head + "; seen: " + strings.TrimSpace(line[seen[1]:])
		}
	}
	return head
}

// indentation is what package testing puts before the second line of a text
// and those after it.
const indentation = "        "

var (
	reported = regexp.MustCompile(`^    [\w.-]+\.go:\d+: `)
	named    = regexp.MustCompile(`^ +` + testjson.KnownPrefix)
)

// logHead begins a text of the kernel's log that is a reason to fail, which can
// be below another text.
const logHead = "the kernel's log has a complaint"

var logHeading = regexp.MustCompile(`(?m)^ *` + logHead + `.*\n?`)

// partial reports whether a text of the kernel's log is not all of it: a part
// that was left out or lost can have another complaint.
func partial(text string) bool {
	return logHeading.MatchString(text) && leftOut.MatchString(text)
}

// leftOut matches a line in a text of the kernel's log that stands for others.
var leftOut = regexp.MustCompile(`(?m)^(    and \d+ lines more|kmsg: .* overwritten before they were read)$`)

// complaints returns the parts of a text: what is above the kernel's log, if
// there is one, and what begins with a complaint each, so that nothing known
// hides another.
func complaints(text string) []string {
	head := logHeading.FindStringIndex(text)
	if head == nil {
		return []string{text}
	}
	parts := logged(text[head[1]:])
	if above := text[:head[0]]; above != "" {
		parts = append(parts, above)
	}
	return parts
}

// logged returns the parts of the kernel's log that begin with a complaint each.
func logged(log string) (parts []string) {
	cut := 0   // lines since "cut here", which has a "WARNING:" below it
	last := "" // the last complaint of the part
	for line := range strings.Lines(log) {
		problem := problemOf(line)
		cut++
		begins := another(last, line) && !(problem == "warning" && cut <= 3 && len(parts) > 0)
		if strings.Contains(line, "[ cut here ]") {
			begins, cut = true, 0
		}
		if begins || len(parts) == 0 {
			parts = append(parts, "")
		}
		parts[len(parts)-1] += line
		if complains(problem) {
			last = line
		}
	}
	return parts
}

// another reports whether a line of the kernel's log is a complaint about
// something else than the last one, which can be "". What ends in an oops is
// said before it, and an oops ends in a panic.
func another(last, line string) bool {
	problem := problemOf(line)
	if problem != "oops" {
		return complains(problem)
	}
	if strings.Contains(line, "Kernel panic - ") {
		return problemOf(last) != "oops"
	}
	return !dying.MatchString(last)
}

// complains reports whether a kind of problem is a complaint of its own. Others
// have a backtrace, too.
func complains(problem string) bool { return problem != "" && problem != "backtrace" }

// dying matches the complaints that always have an oops below them, in the words
// of all architectures.
var dying = regexp.MustCompile(`(?i)BUG: (unable to handle |kernel NULL )|kernel BUG at |Unable to handle kernel |stack guard page was hit`)

// problemOf is the kind of complaint that a line of the kernel's log is, or "".
func problemOf(line string) string {
	return kmsg.Record{Text: stamp.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")}.Problem()
}

var stamp = regexp.MustCompile(`^\s*\[ *\d+\.\d+\](\[ *[TC]\d+\])? `)

// firstComplaint is what is said of the virtual machine, and its console up to
// the second complaint: the others may follow from the first.
func firstComplaint(report string) string {
	var b strings.Builder
	complained, last := false, ""
	for line := range strings.Lines(report) {
		record, console := strings.CutPrefix(line, consolePrefix)
		if !console {
			b.WriteString(strings.TrimPrefix(line, runnerPrefix))
			continue
		}
		problem := problemOf(record)
		if complained && another(last, record) {
			break
		}
		complained = complained || problem != ""
		if complains(problem) {
			last = record
		}
		b.WriteString(record)
	}
	return b.String()
}

// What the lines of the runner of virtual machines begin with, and those of
// them with the console: see package vm.
const (
	runnerPrefix  = "vm: "
	consolePrefix = runnerPrefix + "| "
)
