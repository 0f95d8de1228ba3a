package explore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

var (
	// warnedAt has the function of a warning: "WARNING: CPU: 1 PID: 99 at
	// kernel/f.c:12 f+0x1/0x2", and since v6.18 "WARNING: kernel/f.c:12 at
	// f+0x1/0x2, CPU#1: sh/99".
	warnedAt = regexp.MustCompile(`^WARNING: .*\bat (?:\S+:\d+ )?([A-Za-z_][\w.]*)\+0x`)
	ripAt    = regexp.MustCompile(`^(?:RIP|pc) ?: (?:[0-9a-f]+:)?([A-Za-z_][\w.]*)\+0x`)
	// digits has numbers, those with a unit of time too.
	digits    = regexp.MustCompile(`\b(0x)?[0-9a-f]*[0-9][0-9a-f]*s?\b`)
	cpuNumber = regexp.MustCompile(`CPU#?\d+`)
	// special may mean something to grep or to a shell.
	special = regexp.MustCompile(`[^A-Za-z0-9 _:,/#()=+-]+`)
)

// grepPattern returns a basic regular expression for a text of the kernel's
// that may have other numbers the next time.
func grepPattern(text string) string {
	var b strings.Builder
	at := 0
	for _, number := range digits.FindAllStringIndex(text, -1) {
		b.WriteString(special.ReplaceAllString(text[at:number[0]], ".*"))
		b.WriteString("[0-9a-fx]*s*")
		at = number[1]
	}
	b.WriteString(special.ReplaceAllString(text[at:], ".*"))
	return cpuNumber.ReplaceAllString(b.String(), "CPU#*[0-9]*")
}

// checkLog finds the complaints in what the kernel has logged.
func checkLog(c *Case) []Violation { return complaints(c.After.Log) }

// complaints returns one violation for each kind of complaint.
func complaints(log []kmsg.Record) []Violation {
	var broken []Violation
	seen := make(map[string]bool)
	for i, r := range log {
		kind := problem(r)
		if kind == "" || kind == "backtrace" && len(broken) > 0 {
			continue
		}
		touches, pattern := kind+" "+cpuNumber.ReplaceAllString(digits.ReplaceAllString(r.Text, "N"), "CPUN"), grepPattern(r.Text)
		switch m := warnedAt.FindStringSubmatch(r.Text); {
		case m != nil:
			touches, pattern = "warning in "+m[1], "WARNING: .* "+m[1]+"+0x"
		case kind == "warning":
			continue // "cut here": what follows says more
		case kind == "oops" || kind == "bug":
			if f := function(log[i:]); f != "" {
				touches, pattern = kind+" in "+f, f+"+0x"
			}
		}
		if !seen[touches] {
			seen[touches] = true
			broken = append(broken, Violation{
				Touches: touches,
				Seen:    fmt.Sprintf("the kernel logged %q", r.Text),
				Facts:   []Fact{{Key("dmesg#" + pattern), "yes"}},
			})
		}
	}
	return broken
}

// problems has what [kmsg.Record.Problem] says of a record of the kernel's.
var problems = newMemo(func(text string) string { return kmsg.Record{Text: text}.Problem() })

// refusedSuspend is what the kernel says of a suspend that is refused because
// deadline tasks need the CPU, as by EBUSY any offline of it is.
var refusedSuspend = regexp.MustCompile(`Error taking CPU\d+ down: -16$`)

func problem(r kmsg.Record) string {
	if r.Facility != 0 || refusedSuspend.MatchString(r.Text) {
		return ""
	}
	return problems.of(r.Text)
}

// function returns the function that the registers of an oops name, or "".
func function(log []kmsg.Record) string {
	for _, r := range log {
		if m := ripAt.FindStringSubmatch(r.Text); m != nil {
			return m[1]
		}
	}
	return ""
}

// Survives is the law that a program outside of the machine judges: the kernel
// neither crashes nor hangs. It is not in [Default], as no snapshot shows it.
var Survives = Law{
	Name:   "survives",
	Text:   "the kernel goes on, and each operation ends",
	Source: "Documentation/process/coding-style.rst, \"Do not crash the kernel\"",
}
