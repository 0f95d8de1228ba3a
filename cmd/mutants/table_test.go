package main

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// What is wrong with the table shows here, and not in a virtual machine an hour
// later.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	short := 0
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			assert.Regexp(t, `^[a-z0-9-]+$`, m.name)
			assert.False(t, seen[m.name], "the name is there twice")
			seen[m.name] = true
			assert.NotEmpty(t, m.breaks)
			if m.invisible == "" {
				assert.NotEmpty(t, m.rows, "either something has to notice it, or there is a reason why not")
			} else {
				assert.Empty(t, m.rows)
			}
			for _, row := range m.rows {
				if row == dies {
					continue
				}
				_, err := regexp.Compile(row)
				assert.NoError(t, err)
				assert.NotContains(t, row, "|", "a row of its own")
				whole := strings.TrimSuffix(row, "$")
				named := regexp.MustCompile(`^Test[A-Za-z]+/[^/]+$`).MatchString(whole) || slices.ContainsFunc(hotplugtest.Default().Invariants, func(i hotplugtest.Invariant) bool {
					return regexp.MustCompile("/" + i.Name + "(/|$)").MatchString(whole)
				})
				assert.Truef(t, named, "%s names no row of the suite", row)
				if whole == row {
					assert.Emptyf(t, longer(row), "%s matches these too: end it with $", row)
				}
			}
			for delay := range strings.FieldsSeq(m.delays) {
				_, err := vm.ParseDelay(delay)
				assert.NoError(t, err)
			}
			made := 0
			for _, k := range kernels {
				pokes, ok := m.pokesFor(k)
				if ok {
					made++
				}
				assert.False(t, slices.Contains(m.short, k.name) && !ok, "on the short list of a kernel that has no such mutant")
				for _, poke := range pokes {
					_, err := vm.ParsePoke(poke)
					assert.NoError(t, err)
				}
			}
			assert.Positive(t, made)
			for name := range m.pokes {
				known := slices.ContainsFunc(kernels, func(k series) bool { return k.name == name })
				assert.Truef(t, known || name == every, "pokes for a kernel %q", name)
			}
			short += len(m.short)
		})
	}
	assert.LessOrEqual(t, short, 4, "the short list is run each time")
}

// longer returns the rows of the suite that begin with the name of the one that
// a pattern of tests ends with.
func longer(pattern string) (rows []string) {
	tables := hotplugtest.Default()
	if strings.HasPrefix(pattern, "TestScenario/") {
		for _, s := range tables.Scenarios {
			rows = append(rows, s.Name)
		}
	} else if strings.Contains(pattern, "/at-") {
		for _, i := range tables.Invariants {
			rows = append(rows, i.Name)
		}
	}
	name := path.Base(pattern)
	return slices.DeleteFunc(rows, func(row string) bool { return row == name || !strings.HasPrefix(row, name) })
}

// The tables of docs/lab.md have no mutant that is none.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/lab.md")
	require.NoError(t, err)
	found := 0
	head := ""
	for line := range strings.Lines(string(text)) {
		row := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(line)
		if strings.HasPrefix(line, "| mutant ") || row == nil && !strings.HasPrefix(line, "|---") {
			head = line
		}
		if row != nil && strings.HasPrefix(head, "| mutant ") {
			found++
			known := slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == row[1] })
			assert.True(t, known, "%s: there is no such mutant", row[1])
		}
	}
	assert.Greater(t, found, 50)
}

func TestPokesFor(t *testing.T) {
	m := mutant{pokes: map[string]string{"6.1": "f=ret  g=ret", every: "h=ret"}}
	pokes, ok := m.pokesFor(series{name: "6.1"})
	require.True(t, ok)
	assert.Equal(t, []string{"f=ret", "g=ret"}, pokes)
	pokes, ok = m.pokesFor(series{name: "7.x"})
	require.True(t, ok)
	assert.Equal(t, []string{"h=ret"}, pokes)
	m = mutant{pokes: map[string]string{"6.1": "f=ret"}}
	_, ok = m.pokesFor(series{name: "7.x"})
	assert.False(t, ok)
}
