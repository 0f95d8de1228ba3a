package main

import (
	"os"
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
		"-explore -1s":           "-explore -1s: it takes time",
		"-explore 1m -rows":      "-rows is for the suite, not for -explore",
		"-explore 1m -callbacks": "-explore is for the mutants of the table, not for -callbacks",
	} {
		_, err := parse(strings.Fields(args))
		assert.ErrorContains(t, err, want, args)
	}
}

// The explorer has no tests to choose from.
func TestExplorerFlags(t *testing.T) {
	l := &bench{delays: true}
	m := &mutant{pokes: all("f=ret"), delays: "g=1ms", flags: []string{"-profile", "smt", "-run", "x", "-smp", "2"}}
	assert.Equal(t, []string{"-poke", "f=ret", "-delay", "g=1ms", "-profile", "smt", "-smp", "2"}, l.explorerFlags(kernels[0], m))
	assert.Equal(t, []string{"-profile", "smt", "-run", "x", "-smp", "2"}, m.flags)
}

func TestFirstFound(t *testing.T) {
	const inF = "trixie/smt: survives: crash in f in sequence 4, step 2\n"
	for _, tt := range []struct{ name, output, want string }{
		{"nothing", "trixie: Debian trixie 6.12, 4 CPUs\ntrixie: 3 sequences\n0 findings, in out/findings\n", ""},
		{
			"two laws", "trixie: after 21 s: domains: isolated: it is; reducing it\ntrixie: after 22 s: x: y; reducing it\ntrixie: BROKEN: domains: isolated\n",
			"after 21 s: domains: isolated: it is",
		},
		{"a law after a long line", strings.Repeat("x", 1<<20) + "\ntrixie: reducing survives: crash in f in fresh VMs\n", "survives: crash in f"},
		{"a crash", inF + "trixie/smt: reducing survives: crash in f in fresh VMs\n", "survives: crash in f"},
		{"a doubted crash", inF + "trixie/smt: this may be QEMU's doing: it emulates\ntrixie/smt: no finding: survives: crash in f did not show again in 3 fresh VMs\n", ""},
		{
			"a doubted crash that shows again",
			inF + "trixie/smt: this may be QEMU's doing: it emulates\ntrixie/smt: reducing survives: crash in f in fresh VMs\n", "survives: crash in f",
		},
		{"a finding that did not show again", "trixie: BROKEN: domains: it: so it is (1 of 2, not again, 41 steps of 41)\n", "domains: it: so it is"},
		{"a crash when the time is over", inF + "trixie/smt: BROKEN: survives: crash in f: the kernel panicked (1 of 1, 2 steps of 2)\n    mkdir $A\n", "survives: crash in f: the kernel panicked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ended := 0
			found, err := firstFound(strings.NewReader(tt.output), func() error { ended++; return nil })
			require.NoError(t, err)
			assert.Equal(t, tt.want, found)
			assert.Equal(t, tt.want != "", ended == 1)
		})
	}
}

// The explorer may end by itself as it is told to, which is no failure. That it
// cannot be told is one.
func TestFirstFoundEnds(t *testing.T) {
	const output = "trixie: after 21 s: domains: isolated: it is; reducing it\n"
	found, err := firstFound(strings.NewReader(output), func() error { return os.ErrProcessDone })
	require.NoError(t, err)
	assert.Equal(t, "after 21 s: domains: isolated: it is", found)
	_, err = firstFound(strings.NewReader(output), func() error { return os.ErrPermission })
	assert.ErrorIs(t, err, os.ErrPermission)
}
