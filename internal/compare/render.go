package compare

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hotplugtest/hotplugtest/suite"
)

// Formats are those that [Diff.Write] knows.
var Formats = []string{"text", "markdown", "json"}

// group is a list of changes under a head.
type group struct {
	head    string
	count   string // what the last line calls them
	changes []Change
}

func (d *Diff) groups() []group {
	return []group{
		{"Regressions", "regressions", d.Regressions},
		{"Missing", "missing", d.Missing},
		{"Known", "newly known", d.Known},
		{"Fixed", "fixed", d.Fixed},
		{"Still failing", "still failing", d.Failing},
		{"Skips", "changed skips", d.Skips},
		{"New tests", "new", d.Added},
	}
}

// tests is how many tests they are.
func (g *group) tests() (n int) {
	for _, c := range g.changes {
		n += c.Tests
	}
	return n
}

// few is how many changes of a kind are listed that don't matter as much as
// regressions.
const few = 20

// listed are the changes of the group to list.
func (g *group) listed(all bool) []Change {
	if all || g.head == "Regressions" || len(g.changes) <= few {
		return g.changes
	}
	return g.changes[:few]
}

// more says how many are not listed, or "".
func (g *group) more(all bool) string {
	if n := len(g.changes) - len(g.listed(all)); n > 0 {
		return fmt.Sprintf("… and %d more", n)
	}
	return ""
}

// Summary returns the counts in a line.
func (d *Diff) Summary() string {
	var words []string
	for _, g := range d.groups() {
		if len(g.changes) > 0 || g.head == "Regressions" || g.head == "Missing" {
			words = append(words, fmt.Sprintf("%d %s", g.tests(), g.count))
		}
	}
	return strings.Join(append(words, fmt.Sprintf("%d the same", d.Same)), ", ")
}

// Write writes the diff in a format of [Formats]. With all, each change and
// each time is listed; JSON has them in any case.
func (d *Diff) Write(w io.Writer, format string, all bool) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "\t")
		return e.Encode(struct {
			*Diff
			Bad     bool   `json:"bad"`
			Summary string `json:"summary"`
		}{d, d.Bad(), d.Summary()})
	case "markdown":
		_, err := io.WriteString(w, d.markdown(all))
		return err
	case "text":
		_, err := io.WriteString(w, d.text(all))
		return err
	default:
		return fmt.Errorf("there is no format %q, only %s", format, strings.Join(Formats, ", "))
	}
}

func (d *Diff) text(all bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "old: %s\nnew: %s\n", d.Old, d.New)
	for _, g := range d.groups() {
		if len(g.changes) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n=== %s\n", g.head)
		for _, c := range g.listed(all) {
			fmt.Fprintln(&b, c)
		}
		if more := g.more(all); more != "" {
			fmt.Fprintln(&b, more)
		}
	}
	if rows := d.timeRows(all); len(rows) > 0 {
		fmt.Fprintf(&b, "\n=== Times\n")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{timesHead}, rows...) {
			fmt.Fprintln(table, strings.Join(row, "\t"))
		}
		table.Flush()
	}
	fmt.Fprintf(&b, "\n%s\n", d.Summary())
	return b.String()
}

func (d *Diff) markdown(all bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\nold: `%s`, new: `%s`\n", d.Summary(), d.Old, d.New)
	table := func(head []string, rows [][]string) {
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	for _, g := range d.groups() {
		if len(g.changes) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n", g.head)
		var rows [][]string
		for _, c := range g.listed(all) {
			rows = append(rows, []string{cell(c.Kernel), "`" + cell(c.Test) + "`", c.Old, c.New, cell(c.NewWhy)})
		}
		table([]string{"kernel", "test", "old", "new", "why"}, rows)
		if more := g.more(all); more != "" {
			fmt.Fprintf(&b, "\n%s\n", more)
		}
	}
	if rows := d.timeRows(all); len(rows) > 0 {
		b.WriteString("\n### Times\n\n")
		table(timesHead, rows)
	}
	return b.String()
}

// cell makes a text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(text)
}

var timesHead = []string{"kernel", "transition", "time", "old, in ms", "new, in ms", "change", "p", "count"}

// timeRows is the table of times: those that changed, or all.
func (d *Diff) timeRows(all bool) (rows [][]string) {
	for _, t := range d.Times {
		onlyOne := t.OldCount == 0 || t.NewCount == 0
		if !all && !t.Significant && !onlyOne {
			continue
		}
		p := fmt.Sprintf("%.3f", t.P)
		if onlyOne {
			p = ""
		}
		rows = append(rows, []string{
			t.Kernel, t.Test, t.What, number(t.Old, t.OldCount), number(t.New, t.NewCount), t.Delta, p,
			fmt.Sprintf("%d, %d", t.OldCount, t.NewCount),
		})
	}
	return rows
}

func number(d time.Duration, count int) string {
	if count == 0 {
		return "none"
	}
	return strings.TrimSuffix(suite.Milliseconds(d), " ms")
}
