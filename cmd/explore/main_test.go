package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What cannot be is refused in one line that names it.
func TestParseRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"damaged": "mkdir $A\n\x7fELF\n", "empty": "", "unknown": "mkdir $A\nreboot -f\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for _, test := range []struct {
		args []string
		why  string
	}{
		{[]string{"-for", "0"}, "-for 0s: exploring takes time"},
		{[]string{"-for", "-1m"}, "-for -1m0s: exploring takes time"},
		{[]string{"-length", "0"}, "-length 0: a sequence has steps"},
		{[]string{"-findings", "-1"}, "-findings -1: there are no fewer than none"},
		{[]string{"-reduce"}, "-reduce: it is for -replay"},
		{[]string{"-replay", "none"}, "-replay: open"},
		{[]string{"-replay", "damaged"}, "-replay damaged: line 2: not a step"},
		{[]string{"-replay", "empty"}, "-replay empty: not a step: there is no step in it"},
		{[]string{"-replay", "unknown"}, `line 2: not a step: "reboot -f": a step is echo VALUE > PATH`},
		{[]string{"bookworm"}, "a kernel is named by -kernel"},
		{[]string{"-poke", "x"}, "-poke"},
		{[]string{"-smp", "1"}, "-smp 1: "},
		{[]string{"-timeout", "5m"}, "-timeout: the explorer bounds each VM itself; -for is the time to explore"},
		{[]string{"-arch", "mips"}, "-arch mips: there is no virtual machine for it"},
		{[]string{"-profile", "smtt"}, "flag -profile: there is no such profile, only default, isolcpus"},
	} {
		_, err := parse(append([]string{"-C", dir}, test.args...))
		require.Error(t, err, test.args)
		assert.ErrorContains(t, err, test.why)
		assert.NotContains(t, err.Error(), "\n")
	}
	o, err := parse([]string{"-C", dir, "-kernel", "sid", "-kernel", "trixie", "-out", "there"})
	require.NoError(t, err)
	assert.Equal(t, []string{"sid", "trixie"}, o.kernels)
	assert.Equal(t, filepath.Join(dir, "there"), o.vm.Out)
}

// The sequence of a finding looks for that again, any other for anything.
func TestKeyOf(t *testing.T) {
	for text, want := range map[string]string{
		"# domains: isolated partition is load-balanced\n# on bookworm\nmkdir $A\n": "domains: isolated partition is load-balanced",
		"# survives: crash in f\nmkdir $A\n":                                        "survives: crash in f",
		"# domains: it\r\nmkdir $A\r\n":                                             "domains: it",
		"# what I did: this\nmkdir $A\n":                                            "",
		"mkdir $A\n# domains: later\n":                                              "",
	} {
		assert.Equal(t, want, keyOf(text), text)
	}
}
