package compare

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Diff is what differs between two runs. The lists are in the order of the
// runs.
type Diff struct {
	Old string `json:"old"`
	New string `json:"new"`

	// Regressions fail now, and did not, or were not there.
	Regressions []Change `json:"regressions"`
	// Missing were there, and are not any more.
	Missing []Change `json:"missing"`
	// Fixed failed, and pass now.
	Fixed []Change `json:"fixed"`
	// Failing failed, and still do.
	Failing []Change `json:"failing"`
	// Known fail now by a known defect, and did not, or by another one.
	Known []Change `json:"known"`
	// Added were not there, and don't fail.
	Added []Change `json:"added"`
	// Skips are skipped now and were not, or for another reason, or are not
	// skipped any more.
	Skips []Change `json:"skips"`
	// Times are those that were measured in both runs, or broken promises in
	// one of them.
	Times []Time `json:"times"`

	// Same is the number of tests with the same verdict.
	Same int `json:"same"`
}

// Change is a test whose verdict changed.
type Change struct {
	Kernel string `json:"kernel"`
	Test   string `json:"test"`
	Tests  int    `json:"tests"` // how many: those below a skipped one go with it
	Old    string `json:"old"`   // verdict
	New    string `json:"new"`
	OldWhy string `json:"old-why,omitempty"` // the first line of why it failed or was skipped
	NewWhy string `json:"new-why,omitempty"`
}

// Bad reports whether the new run is worse: a test fails that did not, or is
// missing.
func (d *Diff) Bad() bool { return len(d.Regressions) > 0 || len(d.Missing) > 0 }

// Options say what is compared.
type Options struct {
	Tests   *regexp.Regexp // only the tests whose names match. nil: all
	Partial bool           // the new run had fewer tests to run: none is missing
}

// Compare compares two runs. Kernels are compared by their names; if both runs
// have one, with each other.
func Compare(before, after *Run, o Options) *Diff {
	d := &Diff{Old: before.Name, New: after.Name}
	for _, pair := range pairs(before, after) {
		c := comparison{Diff: d, Options: o, kernel: pair[1], old: before.Kernels[pair[0]], new: after.Kernels[pair[1]]}
		if pair[1] == "" {
			c.kernel = pair[0]
		}
		c.compare()
	}
	return d
}

// pairs are the names of kernels to compare, "" if one is not there.
func pairs(before, after *Run) (list [][2]string) {
	if a, b := root(before), root(after); a != "" && b != "" && a != b {
		// One kernel each: their profiles are compared.
		for _, name := range before.order {
			list = append(list, [2]string{name, b + strings.TrimPrefix(name, a)})
		}
		for _, name := range after.order {
			if !slices.ContainsFunc(list, func(p [2]string) bool { return p[1] == name }) {
				list = append(list, [2]string{"", name})
			}
		}
	} else {
		for _, name := range before.order {
			list = append(list, [2]string{name, name})
		}
		for _, name := range after.order {
			if before.Kernels[name] == nil {
				list = append(list, [2]string{"", name})
			}
		}
	}
	for i, p := range list {
		if after.Kernels[p[1]] == nil {
			list[i][1] = ""
		}
	}
	return list
}

// root is the name of the only kernel of a run, without a profile, or "".
func root(r *Run) string {
	first, _, _ := strings.Cut(r.order[0], "/")
	for _, name := range r.order {
		if kernel, _, _ := strings.Cut(name, "/"); kernel != first {
			return ""
		}
	}
	return first
}

// comparison is that of one kernel.
type comparison struct {
	*Diff
	Options
	kernel   string
	old, new *kernelRun // one of them can be nil
}

func (c *comparison) compare() {
	if c.old == nil {
		c.old = &kernelRun{}
	}
	if c.new == nil {
		c.new = &kernelRun{}
	}
	for _, name := range c.old.order {
		if was := c.old.tests[name]; was.counts() && c.asked(name) {
			above, is := c.new.find(name)
			c.add(above, was, is)
		}
	}
	for _, name := range c.new.order {
		if is := c.new.tests[name]; is.counts() && c.asked(name) && !c.old.counted(name) {
			above, was := c.old.find(name)
			c.add(above, was, is)
		}
	}
	c.compareTimes()
}

func (c *comparison) asked(test string) bool { return c.Tests == nil || c.Tests.MatchString(test) }

// counted reports whether the test is there, as more than a group.
func (k *kernelRun) counted(test string) bool {
	t := k.tests[k.key(test)]
	return t != nil && t.counts()
}

// key is the name that a test of another kernel has in this one. Kernels number
// the states of a CPU in their own ways: 197:workqueue:online.
func (k *kernelRun) key(test string) string {
	if k.tests[test] != nil {
		return test
	}
	if own := k.states[stateName(test)]; own != "" {
		return own
	}
	return test
}

// find returns what became of a test. If a test above it was skipped, so was
// it, and that is the name.
func (k *kernelRun) find(test string) (name string, r *result) {
	if t := k.tests[k.key(test)]; t != nil {
		return test, t
	}
	for parent := test; ; {
		slash := strings.LastIndexByte(parent, '/')
		if slash < 0 {
			return test, &result{verdict: Missing}
		}
		parent = parent[:slash]
		if t := k.tests[k.key(parent)]; t != nil && t.verdict == Skip {
			return parent, t
		}
	}
}

// add puts a test where it belongs.
func (c *comparison) add(test string, was, is *result) {
	change := Change{Kernel: c.kernel, Test: test, Tests: 1, Old: was.verdict, New: is.verdict, OldWhy: was.why, NewWhy: is.why}
	failed := func(r *result) bool { return r.verdict == Fail || r.verdict == Cut }
	put := func(list *[]Change) {
		if last := len(*list) - 1; last >= 0 && (*list)[last].Test == test && (*list)[last].Kernel == c.kernel {
			(*list)[last].Tests++
			return
		}
		*list = append(*list, change)
	}
	switch {
	case failed(is) && failed(was):
		put(&c.Failing)
	case failed(is):
		put(&c.Regressions)
	case is.verdict == Missing && c.Partial:
	case is.verdict == Missing:
		put(&c.Missing)
	case is.verdict == Known && was.known == is.known:
		c.Same++
	case is.verdict == Known:
		change.NewWhy = is.known + ": " + is.why
		put(&c.Known)
	case is.verdict == Pass && (failed(was) || was.verdict == Known):
		put(&c.Fixed)
	case is.verdict == Skip && was.verdict == Missing:
		put(&c.Added)
	case is.verdict == Skip && (was.verdict != Skip || !alike(was.why, is.why)), is.verdict != Skip && was.verdict == Skip:
		put(&c.Skips)
	case was.verdict == Missing:
		put(&c.Added)
	default:
		c.Same++
	}
}

// alike reports whether two reasons are the same but for numbers, such as those
// of processes.
func alike(a, b string) bool {
	return numbers.ReplaceAllString(a, "0") == numbers.ReplaceAllString(b, "0")
}

var numbers = regexp.MustCompile(`\d+`)

// String returns the change in a line.
func (c Change) String() string {
	name := c.Kernel + " " + c.Test
	if c.Tests > 1 {
		name += fmt.Sprintf(" (%d tests)", c.Tests)
	}
	text := fmt.Sprintf("%s: %s, was %s", name, c.New, c.Old)
	switch {
	case c.New == Missing || c.New == Pass:
		return text
	case c.New == Skip && c.Old == Skip:
		return fmt.Sprintf("%s: skipped: %s, was: %s", name, c.NewWhy, c.OldWhy)
	case c.NewWhy != "":
		text += ": " + c.NewWhy
	}
	return text
}
