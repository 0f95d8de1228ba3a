package report

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// The page has the texts of failures up to this size in all, each up to this
// size, and up to this number. All of them are in the results.
const (
	mostText    = 1_000_000
	mostOfOne   = 20_000
	mostFailure = 1500
)

// failure is what the page says of a test that failed.
type failure struct {
	Number       int
	Column, Test string
	Class        string
	What         string // the verdict in words
	Text         string
	Cut          bool // the text is not all there
	Console      string
	Repro        string
}

// failures chooses those that the page has, and numbers them: of each column
// about as many, new ones first. It must be called before grid. more is how
// many are left out.
func (r *Report) failures() (list []failure, more int) {
	lists := make([][]*test, len(r.columns))
	columns, all := 0, 0
	for i, c := range r.columns {
		for _, t := range c.order {
			if t.counts() && t.Verdict >= broken {
				lists[i] = append(lists[i], t)
			}
		}
		slices.SortStableFunc(lists[i], func(a, b *test) int { return cmp.Compare(min(b.Verdict, cut), min(a.Verdict, cut)) })
		all += len(lists[i])
		if len(lists[i]) > 0 {
			columns++
		}
	}
	for _, tests := range lists {
		size := 0
		for n, t := range tests {
			f := t.failure()
			size += len(f.Text) + 300
			if n > 0 && (size > mostText/columns || n >= mostFailure/columns) {
				break
			}
			f.Number = len(list) + 1
			t.number = f.Number
			list = append(list, f)
		}
	}
	return list, all - len(list)
}

func (t *test) failure() failure {
	f := failure{Column: t.column.Name, Test: t.Name, Class: classes[t.Verdict], Text: t.Text()}
	if len(f.Text) > mostOfOne {
		f.Text, f.Cut = f.Text[:mostOfOne], true
		for !utf8.ValidString(f.Text[len(f.Text)-min(len(f.Text), utf8.UTFMax):]) && len(f.Text) > mostOfOne-utf8.UTFMax {
			f.Text = f.Text[:len(f.Text)-1]
		}
	}
	switch t.Verdict {
	case broken:
		f.What = testjson.KnownPrefix + t.Known
	case cut:
		f.What = "did not end"
	default:
		f.What = cmp.Or(t.Attempts, "failed")
	}
	f.Console = t.column.console
	repro := filepath.Join(t.column.dir, ReproDir, ReproFile(t.column.name(), t.Name))
	if _, err := os.Stat(repro); err == nil {
		f.Repro = repro
	}
	return f
}

// name is the column's in its own run.
func (c *column) name() string {
	if c.Profile == "" {
		return c.Kernel
	}
	return c.Kernel + "/" + c.Profile
}

// ReproDir is the directory, beside the results, of the scripts that reproduce
// failures.
const ReproDir = "repro"

// ReproFile is the name of the script for a test on a kernel, as results name
// the two.
func ReproFile(kernel, test string) string { return FileName(kernel+"-"+test) + ".sh" }

// FileName makes a file's name of a test's.
func FileName(name string) string { return notInName.ReplaceAllString(name, "-") }

var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// defect is a known defect that showed, or did not.
type defect struct {
	ID, Why string
	Link    string // where it is reported, or ""
	Columns []string
	Gone    []string // the columns in which it did not show
}

// defectLink is the end of why, if the defect is reported somewhere.
var defectLink = regexp.MustCompile(` \((https?://[^\s()]+)\)$`)

func (r *Report) knownDefects() (list []defect) {
	ids := slices.Clone(r.ids)
	for _, c := range r.columns {
		for _, id := range c.gone {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	for _, id := range ids {
		d := defect{ID: id, Why: r.defects[id]}
		if m := defectLink.FindStringSubmatch(d.Why); m != nil {
			d.Why, d.Link = strings.TrimSuffix(d.Why, m[0]), m[1]
		}
		for _, c := range r.columns {
			n := 0
			for _, t := range c.order {
				if t.counts() && t.Verdict == broken && t.Known == id {
					n++
				}
			}
			if n > 0 {
				d.Columns = append(d.Columns, fmt.Sprintf("%s (%s)", c.Name, plural(n, "test")))
			}
			if slices.Contains(c.gone, id) {
				d.Gone = append(d.Gone, c.Name)
			}
		}
		list = append(list, d)
	}
	return list
}

// skips are tests that were skipped for one reason.
type skips struct {
	Why     string
	Columns string
	Count   int
}

func (r *Report) skips() (list []*skips) {
	by := make(map[string]*skips)
	columns := make(map[string][]string)
	for _, c := range r.columns {
		for _, t := range c.order {
			if !t.counts() || t.Verdict != skipped {
				continue
			}
			why := t.Why()
			s := by[why]
			if s == nil {
				s = &skips{Why: why}
				by[why], list = s, append(list, s)
			}
			s.Count++
			if !slices.Contains(columns[why], c.Name) {
				columns[why] = append(columns[why], c.Name)
			}
		}
	}
	for why, names := range columns {
		by[why].Columns = strings.Join(names, ", ")
	}
	return list
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
