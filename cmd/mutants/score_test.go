package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/internal/lab"
)

func TestJudge(t *testing.T) {
	k := series{"6.1", "bookworm"}
	for _, tt := range []struct {
		name    string
		mutant  mutant
		outcome lab.Outcome
		killed  bool
		bad     bool
		text    string
	}{
		{
			name:    "killed",
			mutant:  mutant{rows: []string{"TestA/at-return/x"}},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA/at-return/x/child"}},
			killed:  true,
			text:    "6.1   m: killed by 1 of 3 tests: TestA/{x}",
		},
		{
			name:    "killed by others",
			mutant:  mutant{rows: []string{"TestA/at-return/x", "TestB"}},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA/at-return/x"}},
			killed:  true, bad: true,
			text: "6.1   m: killed by 1 of 3 tests: TestA/{x}; NOT NOTICED BY TestB",
		},
		{
			name:    "survived",
			mutant:  mutant{breaks: "it is broken", rows: []string{"TestA"}},
			outcome: lab.Outcome{Tests: 3},
			bad:     true,
			text:    "6.1   m: SURVIVED: it is broken; NOT NOTICED BY TestA",
		},
		{
			name:    "survived, as it may",
			mutant:  mutant{invisible: "nobody can see it"},
			outcome: lab.Outcome{Tests: 3},
			text:    "6.1   m: survived: nobody can see it",
		},
		{
			name:    "noticed, though it need not be",
			mutant:  mutant{invisible: "nobody can see it"},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA"}},
			killed:  true,
			text:    "6.1   m: killed by 1 of 3 tests: TestA",
		},
		{
			name:    "the VM dies",
			mutant:  mutant{rows: []string{"TestA"}},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA"}, Died: "it panicked"},
			bad:     true,
			text:    "6.1   m: DIED: TestA (it panicked)",
		},
		{
			name:    "the VM dies of what nobody can see",
			mutant:  mutant{invisible: "nobody can see it"},
			outcome: lab.Outcome{Died: "poke: no symbol"},
			bad:     true,
			text:    "6.1   m: DIED: (poke: no symbol)",
		},
		{
			name:    "the VM dies, as it should",
			mutant:  mutant{rows: []string{dies}},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA"}, Died: "it panicked"},
			killed:  true,
			text:    "6.1   m: killed by 1 of 3 tests: TestA (it panicked)",
		},
		{
			name:    "the VM lives, as it should not",
			mutant:  mutant{rows: []string{dies}},
			outcome: lab.Outcome{Tests: 3, Failed: []string{"TestA"}},
			killed:  true, bad: true,
			text: "6.1   m: killed by 1 of 3 tests: TestA; NOT NOTICED BY the VM dies",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.mutant.name = "m"
			v := judge(&tt.mutant, k, &tt.outcome)
			assert.Equal(t, tt.killed, v.killed())
			assert.Equal(t, tt.bad, v.bad())
			assert.Equal(t, tt.text, v.String())
		})
	}
}

func TestScore(t *testing.T) {
	old, recent := series{"6.1", "bookworm"}, series{"7.x", "sid"}
	both := &mutant{name: "both", breaks: "it is broken", rows: []string{"TestA"}}
	one := &mutant{name: "one", breaks: "so is it", invisible: "nobody can see it"}
	failed := &lab.Outcome{Tests: 3, Failed: []string{"TestA", "TestB"}}
	s := score{judge(both, old, failed), judge(both, recent, &lab.Outcome{Tests: 3}), judge(one, recent, &lab.Outcome{Tests: 3})}
	assert.Equal(t, "6.1   1 of 1 mutants killed\n7.x   0 of 2 mutants killed\nscore 1 of 3\n", s.summary())
	assert.Equal(t, `| mutant | broken | 6.1 | 7.x | noticed by |
|---|---|---|---|---|
| `+"`both`"+` | it is broken | 2 | survived | TestA TestB |
| `+"`one`"+` | so is it | | survived | nobody can see it |

Under each kernel is the number of tests that noticed.

`+"```"+`
6.1   1 of 1 mutants killed
7.x   0 of 2 mutants killed
score 1 of 3
`+"```"+`
`, s.markdown())
	assert.EqualError(t, s.err(), "not noticed as they should be: 7.x both")
	assert.NoError(t, s[:1].err())
	assert.EqualError(t, score(nil).err(), "there is no such mutant")
}

func TestParse(t *testing.T) {
	l, err := parse([]string{"-C", "/home", "-short", "-kernel", "sid", "-out", "o", "-markdown", "s.md", "-run", "^uevent", "--", "-cpus", "3"})
	assert.NoError(t, err)
	assert.Equal(t, []series{{"7.x", "sid"}}, l.kernels)
	assert.True(t, l.rows, "-short implies -rows")
	assert.Equal(t, "/home/o", l.out)
	assert.Equal(t, "/home/s.md", l.markdown)
	assert.Equal(t, []string{"-cpus", "3"}, l.args)
	assert.Equal(t, "^uevent", l.mutants.String())

	l, err = parse(nil)
	assert.NoError(t, err)
	assert.Equal(t, kernels, l.kernels)
	for _, args := range [][]string{{"-kernel", "sarge"}, {"-run", "("}, {"-nosuch"}} {
		_, err := parse(args)
		assert.Error(t, err, "%v", args)
	}
}
