package testpattern

import (
	"flag"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patterns are those of the tests here, with names that they are tried on.
var (
	patterns = []string{
		"", "A", "^A$", "A/b", "/b", "A/", "A|B/c", "A/b/c|A", "(A|B)/c", "[/|]x|B", "[]x]/b", `A\/b`, "A/^b c$", "A/b|", "|B", "A/b/zzz", "A//c",
	}
	tests = []string{"A", "A/b", "A/b/c", "A/b c", "B", "B/c", "B/d", "x/b"}
)

// What is selected is what package testing runs.
func TestSelection(t *testing.T) {
	for _, run := range patterns {
		for _, skip := range patterns {
			s, err := Select(run, skip)
			require.NoError(t, err)
			ran := runs(t, run, skip)
			for _, test := range tests {
				name := rewrite(test)
				_, wants := ran[name]
				// A test whose parent does not run does not run either.
				has := s.Has(test)
				for i := range name {
					has = has && (name[i] != '/' || s.Has(name[:i]))
				}
				assert.Equal(t, wants, has, "-run %q -skip %q: %s", run, skip, test)
			}
		}
	}
	assert.True(t, (*Selection)(nil).Has("A"))
}

// runs has package testing run the tests, and returns which of them it ran.
func runs(t *testing.T, run, skip string) map[string]bool {
	ran := make(map[string]bool)
	for name, value := range map[string]string{"test.run": run, "test.skip": skip, "test.count": "1", "test.v": "false"} {
		f := flag.Lookup(name).Value
		was := f.String()
		require.NoError(t, f.Set(value))
		defer func() { require.NoError(t, f.Set(was)) }()
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null // it says of a selection of none that it is
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	note := func(t *testing.T) { ran[t.Name()] = true }
	testing.RunTests(func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }, []testing.InternalTest{
		{Name: "A", F: func(t *testing.T) {
			note(t)
			t.Run("b", func(t *testing.T) { note(t); t.Run("c", note) })
			t.Run("b c", note)
		}},
		{Name: "B", F: func(t *testing.T) { note(t); t.Run("c", note); t.Run("d", note) }},
		{Name: "x", F: func(t *testing.T) { note(t); t.Run("b", note) }},
	})
	return ran
}

// A pattern names a test if it tells it from others.
func TestNames(t *testing.T) {
	for pattern, want := range map[string]bool{
		"TestScenario/deadline-ended": true, "deadline.*ended": false, "TestScenario/dead": true, "TestScenario/dead.*ended": true,
		"^TestScenario$/^(deadline-ended|other)$": true, "/ended$": true, "TestOnline|TestScenario/^dead": true, "TestScenario/dead/x": true,
		"": false, "TestScenario": false, "TestScenario/": false, "TestScenario/.": false, "TestScenario/.*": false, "TestScenario/^[a-z-]+$": false,
		"TestScenario/other": false, "TestOnline/deadline-ended": false, "TestScenario/x*": false,
	} {
		p, err := Parse(pattern)
		require.NoError(t, err)
		assert.Equal(t, want, p.Names("TestScenario/deadline-ended"), pattern)
	}
}

func TestErrors(t *testing.T) {
	_, err := Select("A/(", "")
	assert.ErrorContains(t, err, "-run A/(: ")
	_, err = Select("", "[")
	assert.ErrorContains(t, err, "-skip [: ")
}
