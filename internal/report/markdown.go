package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// mostListed is how many failures and skips the summary lists.
const mostListed = 50

// Markdown writes a summary: the verdict, a line for each kernel, the failures,
// and known defects.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## Linux %s\n\n**%s**\n\n", r.title(), r.Summary())
	b.WriteString("| kernel | Linux | passed | skipped | known | failed | longest window |\n|---|---|---|---|---|---|---|\n")
	for _, c := range r.columns {
		t := c.tally()
		linux := c.Facts["kernel"]
		if flags := c.Facts[testjson.KernelChanged]; flags != "" {
			linux += " changed by " + flags
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %s |\n", escaped(c.Name), escaped(linux),
			t.n[passed], t.n[skipped], t.n[broken], t.bad(), c.longest())
	}
	n := 0
	for _, c := range r.columns {
		for _, t := range c.order {
			if !t.counts() || t.Verdict < cut {
				continue
			}
			if n++; n == 1 {
				b.WriteString("\n### Failures\n\n| kernel | test | why |\n|---|---|---|\n")
			}
			if n > mostListed {
				continue
			}
			why := t.Why()
			if t.Attempts != "" {
				why = t.Attempts + ": " + why
			}
			if longest := t.Longest(); longest > 0 {
				why += " (" + milliseconds(longest) + " ms)"
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", escaped(c.Name), strings.ReplaceAll(escaped(t.Name), "`", ""), escaped(why))
		}
	}
	if n > mostListed {
		fmt.Fprintf(&b, "\nand %d more\n", n-mostListed)
	}
	for i, d := range r.knownDefects() {
		if i == 0 {
			b.WriteString("\n### Known defects\n\n| id | what it is | seen on | did not show on |\n|---|---|---|---|\n")
		}
		why := escaped(d.Why)
		if d.Link != "" {
			why += " ([report](" + d.Link + "))"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", escaped(d.ID), why, escaped(strings.Join(d.Columns, ", ")), escaped(strings.Join(d.Gone, ", ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// longest is the longest window of a column, in words.
func (c *column) longest() string {
	text := ""
	var most int64
	for _, t := range c.order {
		if d := t.Longest(); t.counts() && int64(d) > most {
			most, text = int64(d), milliseconds(d)+" ms"
		}
	}
	return text
}

// escaped makes a text fit for a cell of a table.
func escaped(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(text)
}
