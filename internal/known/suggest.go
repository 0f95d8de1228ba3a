package known

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Failure is a failed test, as its results have it.
type Failure struct {
	Where
	Release string // of the kernel, as uname -r has it
	Test    string
	Output  string // all that the test printed, with what the runner of its VM said
	Report  string // of this, what the runner said: the VM ended in the test
	Tries   string // how often it failed, for people: "1 of 3"
	Rare    bool   // it did not fail each time
}

// Suggest returns an entry that knows the failure until the day. It takes the
// test, the profile and the minor version of the kernel as they are, and of
// each text the first line, and what was seen, with other numbers in them.
// Somebody must have looked at it before it is of use. The error says why no
// narrow entry can be made.
func Suggest(f Failure, profiles []string, until time.Time) (Entry, error) {
	r := releaseOf(f.Release)
	if len(r) < 2 {
		return Entry{}, errors.New("the kernel's release is not known")
	}
	e := Entry{
		ID:   slug(f.Profile + " " + f.Test),
		Test: regexp.QuoteMeta(f.Test),
		Kernels: []Range{{
			From:  fmt.Sprintf("%d.%d", r[0], r[1]),
			Until: fmt.Sprintf("%d.%d", r[0], r[1]+1),
		}},
		Arch: f.Arch, Profiles: []string{f.Profile}, Most: 1, Rare: f.Rare,
		Why:    fmt.Sprintf("it failed in %s runs of %s: say here what is wrong", f.Tries, f.Release),
		Review: until.Format(time.DateOnly),
	}
	var patterns []string
	if f.Report != "" {
		e.Crash = true
		patterns = append(patterns, crashPattern(f.Report))
	} else {
		for _, text := range Texts(f.Output) {
			if !neutral.MatchString(text) {
				patterns = append(patterns, pattern(text))
			}
		}
	}
	if len(patterns) == 0 {
		return Entry{}, errors.New("the test reports nothing")
	}
	e.Symptom, e.Beside = patterns[0], strings.Join(patterns[1:], "|")
	l := &Loader{Profiles: profiles, Today: until}
	if _, faults := l.compile("", e); len(faults) > 0 {
		return Entry{}, faults[0]
	}
	return e, nil
}

// pattern matches the first line of a text, and what was seen or what the
// kernel complained of.
func pattern(text string) string {
	head, rest, _ := strings.Cut(text, "\n")
	p := `(?s)^` + general(head)
	switch {
	case strings.HasPrefix(head, logHead):
		return logPattern(rest)
	case strings.HasPrefix(head, "broken in "):
		return `^broken in \d+ of \d+ probes`
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSuffix(line, "\n")
		if seen := seenLine.FindStringIndex(line); seen != nil {
			return p + `\n.*\bseen: +` + general(line[seen[1]:]) + `(\n|$)`
		}
	}
	return p + `(\n|$)`
}

// logPattern matches the first complaint of the kernel's log. It has no head
// there: each complaint is a text of its own.
func logPattern(log string) string {
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		if problemOf(line) != "" && !strings.Contains(line, "[ cut here ]") {
			return general(stamp.ReplaceAllString(line, "")) + `(\n|$)`
		}
	}
	return general(log)
}

var seenLine = regexp.MustCompile(`^ +seen: +`)

// crashPattern matches what is said of a VM that ended, and the first
// complaints on its console.
func crashPattern(report string) string {
	var p strings.Builder
	p.WriteString(`(?s)^`)
	lines := 0
	for line := range strings.Lines(firstComplaint(report)) {
		line = strings.TrimSpace(stamp.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		at := location.MatchString(line)
		switch {
		case line == "" || lines > 0 && problemOf(line) == "" && !at:
			continue
		case lines > 0:
			p.WriteString(`.*`)
		}
		p.WriteString(general(line))
		if lines++; at || lines > 3 {
			break
		}
	}
	return p.String()
}

// location matches where the kernel says that it was.
var location = regexp.MustCompile(`^(RIP: |pc : |NIP |epc : |Krnl PSW)`)

// general is an expression for a text with any other numbers and lists of CPUs
// in it.
func general(text string) string {
	return number.ReplaceAllStringFunc(regexp.QuoteMeta(text), func(n string) string {
		if strings.HasPrefix(n, "0x") {
			return `0x[0-9a-f]+`
		}
		return `[\d,-]+`
	})
}

var number = regexp.MustCompile(`0x[0-9a-f]+|\d+([,-]\d+)*`)

// slug makes an ID of a name.
func slug(name string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)
