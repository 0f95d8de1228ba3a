package report

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// group is the rows of the grid that fold together: the promises at one moment
// of one transition.
type group struct {
	Name  string
	Open  bool // something failed
	Cells []cell
	Bad   []*row // with a failure
	Rest  []*row
	order []*row
	rows  map[string]*row
}

// row is a promise, on each kernel.
type row struct {
	Name  string
	Cells []cell
	tests []*test // by column; nil: there is none
}

// cell is one verdict.
type cell struct {
	Class string // what it looks like
	Text  string
	Link  int // the number of the failure; 0: none
}

var classes = [...]string{missing: "m", skipped: "s", passed: "p", broken: "k", cut: "c", failed: "f"}

// signs tell the verdicts apart without colours.
var signs = [...]string{missing: "", skipped: "–", passed: "·", broken: "◐", cut: "✂", failed: "✗"}

// parts matches the name of a test: what folds, and the promise.
var parts = regexp.MustCompile(`^(.*?/(?:at-uevent|at-return|after-resume)|[^/]*)(?:/(.*))?$`)

// state matches the number of a state, which kernels number in their own ways:
// 197:workqueue:online.
var state = regexp.MustCompile(`/\d+:`)

// grid arranges the verdicts.
func (r *Report) grid() []*group {
	var groups []*group
	named := make(map[string]*group)
	for i, c := range r.columns {
		for _, t := range c.order {
			if !t.counts() {
				continue
			}
			m := parts.FindStringSubmatch(state.ReplaceAllString(t.Name, "/"))
			g := named[m[1]]
			if g == nil {
				g = &group{Name: m[1], rows: make(map[string]*row)}
				named[m[1]], groups = g, append(groups, g)
			}
			g.row(m[2], i, len(r.columns)).tests[i] = t
		}
	}
	for _, g := range groups {
		g.finish(len(r.columns))
	}
	return groups
}

// row returns the row of a promise. Two states of a kernel's can have the same
// name, and have a row each.
func (g *group) row(name string, column, columns int) *row {
	if name == "" {
		name = "as a whole"
	}
	key := name
	for n := 2; g.rows[key] != nil; n++ {
		if row := g.rows[key]; row.tests[column] == nil {
			return row
		}
		key = fmt.Sprintf("%s (%d)", name, n)
	}
	row := &row{Name: key, tests: make([]*test, columns)}
	g.rows[key], g.order = row, append(g.order, row)
	return row
}

// finish makes the cells.
func (g *group) finish(columns int) {
	tallies := make([]tally, columns)
	for _, row := range g.order {
		bad := false
		for i, t := range row.tests {
			if t == nil {
				row.Cells = append(row.Cells, cell{Class: classes[missing]})
				continue
			}
			tallies[i].add(t)
			row.Cells = append(row.Cells, t.cell())
			bad = bad || t.Verdict >= broken
		}
		if bad {
			g.Bad = append(g.Bad, row)
		} else {
			g.Rest = append(g.Rest, row)
		}
	}
	for _, t := range tallies {
		g.Cells = append(g.Cells, t.cell())
	}
	g.Open = len(g.Bad) > 0
}

func (t *test) cell() cell {
	c := cell{Class: classes[t.Verdict], Text: signs[t.Verdict], Link: t.number}
	if longest := t.Longest(); longest > 0 && t.Verdict >= broken {
		c.Text += " " + milliseconds(longest)
	}
	if word, _, ok := strings.Cut(t.Attempts, " "); ok && word == "flaky" {
		c.Text += " " + t.Attempts
	}
	return c
}

// milliseconds is a duration in milliseconds, with three digits that matter.
func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms >= 100:
		return fmt.Sprintf("%.0f", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f", ms)
	default:
		return fmt.Sprintf("%.2f", ms)
	}
}

// tally counts verdicts.
type tally struct{ n [failed + 1]int }

func (t *tally) add(of *test) { t.n[of.Verdict]++ }

// bad is how many failed by no known defect.
func (t *tally) bad() int { return t.n[failed] + t.n[cut] }

func (t *tally) worst() verdict {
	for v := failed; v > missing; v-- {
		if t.n[v] > 0 {
			return v
		}
	}
	return missing
}

func (t *tally) all() (n int) {
	for _, k := range t.n {
		n += k
	}
	return n
}

// cell is that of a group: how many are like the worst.
func (t *tally) cell() cell {
	worst := t.worst()
	c := cell{Class: classes[worst], Text: signs[worst]}
	switch worst {
	case missing:
	case skipped, passed:
		c.Text = fmt.Sprintf("%s %d", c.Text, t.n[worst])
	default:
		c.Text = fmt.Sprintf("%s %d of %d", c.Text, t.n[worst], t.all())
	}
	return c
}

// String says it in words.
func (t *tally) String() string {
	words := []string{fmt.Sprintf("%d passed", t.n[passed]), fmt.Sprintf("%d skipped", t.n[skipped])}
	if n := t.n[broken]; n > 0 {
		words = append(words, fmt.Sprintf("%d known", n))
	}
	words = append(words, fmt.Sprintf("%d failed", t.n[failed]))
	if n := t.n[cut]; n > 0 {
		words = append(words, fmt.Sprintf("%d cut", n))
	}
	return strings.Join(words, ", ")
}

// tally counts the tests of a column.
func (c *column) tally() *tally {
	var t tally
	for _, of := range c.order {
		if of.counts() {
			t.add(of)
		}
	}
	return &t
}

// bad reports whether the column has failed by no known defect. What fails
// outside of tests is a test too, TestMain.
func (c *column) bad() bool { return c.tally().bad() > 0 }
