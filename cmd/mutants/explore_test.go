package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseExplore(t *testing.T) {
	l, err := parse(strings.Fields("-explore 3m -kernel trixie -- -seed 7"))
	require.NoError(t, err)
	assert.Equal(t, 3*time.Minute, l.exploreTime)
	assert.Equal(t, []string{"-seed", "7"}, l.args)
	for args, want := range map[string]string{
		"-explore -1s":            "-explore -1s: it takes time",
		"-explore 1m -rows":       "-rows is for the suite, not for -explore",
		"-explore 1m -callbacks":  "-explore is for the mutants of the table, not for -callbacks",
		"-explore 1m -markdown x": "-markdown is for the suite, not for -explore",
	} {
		_, err := parse(strings.Fields(args))
		assert.ErrorContains(t, err, want, args)
	}
}

// The explorer has no tests to choose from.
func TestFlagsFor(t *testing.T) {
	e := &explorer{bench: &bench{delays: true}}
	m := &mutant{pokes: all("f=ret"), delays: "g=1ms", flags: []string{"-profile", "smt", "-run", "x", "-smp", "2"}}
	assert.Equal(t, []string{"-poke", "f=ret", "-delay", "g=1ms", "-profile", "smt", "-smp", "2"}, e.flagsFor(kernels[0], m))
	assert.Equal(t, []string{"-profile", "smt", "-run", "x", "-smp", "2"}, m.flags)
}

func TestFirstFound(t *testing.T) {
	for output, want := range map[string]string{
		"trixie: Debian trixie 6.12, 4 CPUs\ntrixie: 3 sequences\n0 findings, in out/findings\n":                                                "",
		"trixie: after 21 s: domains: isolated: it is; reducing it\ntrixie: after 22 s: x: y; reducing it\ntrixie: BROKEN: domains: isolated\n": "after 21 s: domains: isolated: it is",
		"trixie/smt: survives: crash in f in sequence 4, step 2\n":                                                                              "survives: crash in f",
	} {
		ended := 0
		found, err := firstFound(strings.NewReader(output), func() error { ended++; return nil })
		require.NoError(t, err)
		assert.Equal(t, want, found)
		assert.Equal(t, want != "", ended == 1, output)
	}
}
