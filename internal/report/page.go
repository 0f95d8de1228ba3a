package report

import (
	_ "embed"
	"html/template"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what the template shows.
type page struct {
	Title   string
	Verdict string // in words
	Good    bool

	Columns []*columnView
	Heads   []head
	Wide    bool
	Groups  []*group

	Windows     []windows
	MoreWindows int
	Ticks       []tick
	Band        band
	Operations  []*operations
	Cycles      []cycle

	Defects  []defect
	Failures []failure
	More     int
	Skips    []*skips
}

// columnView is a column's line in the table of kernels.
type columnView struct {
	*column
	Class   string
	Count   string
	Took    string
	Console string
}

// head is a kernel over the columns of its profiles.
type head struct {
	Name string
	Span int
}

// HTML writes the page: one file without references to others, except links to
// consoles and scripts of the runs, which are relative to dir, where the page
// will be.
func (r *Report) HTML(w io.Writer, dir string) error {
	p := &page{Title: r.title(), Good: !r.Bad(), Verdict: r.Summary(), Ticks: ticks(), Band: band2021()}
	p.Failures, p.More = r.failures()
	for i := range p.Failures {
		f := &p.Failures[i]
		f.Console, f.Repro = relative(dir, f.Console), relative(dir, f.Repro)
	}
	p.Groups = r.grid()
	p.Windows, p.MoreWindows = r.windows()
	p.Operations, p.Cycles = r.operations(), r.cycles()
	p.Defects, p.Skips = r.knownDefects(), r.skips()
	p.Wide = len(r.columns) > 8
	for _, c := range r.columns {
		t := c.tally()
		view := &columnView{column: c, Class: classes[t.worst()], Count: t.String(), Console: relative(dir, c.console)}
		if c.took > 0 {
			view.Took = c.took.Round(time.Second).String()
		}
		p.Columns = append(p.Columns, view)
		if n := len(p.Heads); n > 0 && p.Heads[n-1].Name == c.Kernel {
			p.Heads[n-1].Span++
		} else {
			p.Heads = append(p.Heads, head{c.Kernel, 1})
		}
	}
	return pageTemplate.Execute(w, p)
}

// relative is the address of a file on a page in dir, or "".
func relative(dir, file string) string {
	if file == "" {
		return ""
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return ""
	}
	rel, err := filepath.Rel(dir, abs)
	if err != nil {
		return ""
	}
	// A colon in the first part would be taken for a scheme's.
	return "./" + (&url.URL{Path: rel}).EscapedPath()
}

// title names the kernels.
func (r *Report) title() string {
	var names []string
	seen := make(map[string]bool)
	for _, c := range r.columns {
		if !seen[c.Kernel] {
			seen[c.Kernel] = true
			names = append(names, c.Kernel)
		}
	}
	return strings.Join(names, ", ")
}

// Bad reports whether a test failed by no known defect.
func (r *Report) Bad() bool {
	for _, c := range r.columns {
		if c.bad() {
			return true
		}
	}
	return false
}

// Summary is the verdict in a line.
func (r *Report) Summary() string {
	var all tally
	for _, c := range r.columns {
		for v, n := range c.tally().n {
			all.n[v] += n
		}
	}
	return all.String()
}
