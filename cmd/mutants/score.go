package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/lab"
)

// verdict is what the suite makes of one mutant of one kernel.
type verdict struct {
	mutant  *mutant
	kernel  series
	outcome *lab.Outcome
	missing []string // rows of the mutant's that did not notice
}

// dies in a mutant's rows is the VM's end.
const dies = "the VM dies"

func judge(m *mutant, k series, o *lab.Outcome) *verdict {
	v := &verdict{mutant: m, kernel: k, outcome: o}
	for _, row := range m.rows {
		if row == dies {
			if o.Died == "" {
				v.missing = append(v.missing, row)
			}
			continue
		}
		matched := false
		re := regexp.MustCompile(row)
		for _, test := range o.Failed {
			matched = matched || re.MatchString(test)
		}
		if !matched {
			v.missing = append(v.missing, row)
		}
	}
	return v
}

// killed tells whether the suite noticed. A VM that ends counts only where the
// table says that it does.
func (v *verdict) killed() bool {
	if v.outcome.Died != "" {
		return slices.Contains(v.mutant.rows, dies)
	}
	return len(v.outcome.Failed) > 0
}

// bad tells whether the verdict is other than the table says.
func (v *verdict) bad() bool {
	return len(v.missing) > 0 || !v.killed() && (v.mutant.invisible == "" || v.outcome.Died != "")
}

func (v *verdict) String() string {
	head := fmt.Sprintf("%-5s %s: ", v.kernel.name, v.mutant.name)
	switch {
	case v.killed():
		head += fmt.Sprintf("killed by %d of %d tests: %s", len(v.outcome.Failed), v.outcome.Tests, v.outcome)
	case v.outcome.Died != "":
		head += fmt.Sprintf("DIED: %s", v.outcome)
	case v.mutant.invisible != "":
		head += "survived: " + v.mutant.invisible
	default:
		head += "SURVIVED: " + v.mutant.breaks
	}
	if len(v.missing) > 0 {
		head += "; NOT NOTICED BY " + strings.Join(v.missing, ", ")
	}
	return head
}

// score is all verdicts, kernel after kernel.
type score []*verdict

// summary is the number of kills, per kernel and in all.
func (s score) summary() string {
	var b strings.Builder
	var total, killed int
	for i := 0; i < len(s); {
		k, n, of := s[i].kernel, 0, 0
		for ; i < len(s) && s[i].kernel == k; i++ {
			of++
			if s[i].killed() {
				n++
			}
		}
		fmt.Fprintf(&b, "%-5s %d of %d mutants killed\n", k.name, n, of)
		total, killed = total+of, killed+n
	}
	fmt.Fprintf(&b, "score %d of %d\n", killed, total)
	return b.String()
}

// markdown is the score as a table, with a line for each mutant and a column
// for each kernel.
func (s score) markdown() string {
	var kernels []series
	var order []*mutant
	cells := make(map[*mutant]map[series]*verdict)
	for _, v := range s {
		if len(kernels) == 0 || kernels[len(kernels)-1] != v.kernel {
			kernels = append(kernels, v.kernel)
		}
		if cells[v.mutant] == nil {
			cells[v.mutant] = make(map[series]*verdict)
			order = append(order, v.mutant)
		}
		cells[v.mutant][v.kernel] = v
	}
	var b strings.Builder
	b.WriteString("| mutant | broken |")
	for _, k := range kernels {
		fmt.Fprintf(&b, " %s |", k.name)
	}
	b.WriteString(" noticed by |\n|---|---|" + strings.Repeat("---|", len(kernels)) + "---|\n")
	for _, m := range order {
		fmt.Fprintf(&b, "| `%s` | %s |", m.name, m.breaks)
		var by string
		for _, k := range kernels {
			v, ok := cells[m][k]
			switch {
			case !ok:
				b.WriteString(" |")
				continue
			case v.killed():
				fmt.Fprintf(&b, " %d |", max(len(v.outcome.Failed), 1))
			case v.outcome.Died != "":
				b.WriteString(" died |")
			default:
				b.WriteString(" survived |")
			}
			if text := v.outcome.String(); len(text) > len(by) {
				by = text
			}
		}
		if by == "" {
			by = m.invisible
		}
		fmt.Fprintf(&b, " %s |\n", by)
	}
	b.WriteString("\nUnder each kernel is the number of tests that noticed.\n\n```\n" + s.summary() + "```\n")
	return b.String()
}

// err tells that a verdict is other than the table says.
func (s score) err() error {
	var bad []string
	for _, v := range s {
		if v.bad() {
			bad = append(bad, v.kernel.name+" "+v.mutant.name)
		}
	}
	if len(s) == 0 {
		return errors.New("there is no such mutant")
	}
	if len(bad) > 0 {
		return fmt.Errorf("not noticed as they should be: %s", strings.Join(bad, ", "))
	}
	return nil
}
