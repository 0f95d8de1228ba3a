package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// baseline writes a run whose tests ended so, one a word: "p.TestA=pass".
func baseline(t *testing.T, words string) (dir string) {
	t.Helper()
	var b strings.Builder
	for word := range strings.FieldsSeq(words) {
		pkg, rest, _ := strings.Cut(word, ".")
		test, verdict, _ := strings.Cut(rest, "=")
		b.WriteString(`{"Action":"` + verdict + `","Package":"hotplugtest/` + pkg + `","Test":"` + test + `"}` + "\n")
	}
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "results.json"), []byte(b.String()), 0o644))
	return dir
}

func TestBaseline(t *testing.T) {
	for _, tt := range []struct {
		name, old, new, run string
		err                 error
		line                string
	}{
		{"no worse", "k.TestA=pass k.TestB=fail", "k.TestA=pass k.TestB=fail", "", nil, "0 regressions, 0 missing, 1 still failing, 1 the same"},
		{"worse", "k.TestA=pass", "k.TestA=fail", "", errWorse, "k TestA: fail, was pass"},
		{"missing", "k.TestA=pass k.TestB=pass", "k.TestA=pass", "", errWorse, "k TestB: missing, was pass"},
		{"not asked for", "k.TestA=pass k.TestB=pass", "k.TestA=pass", "TestA", nil, "0 regressions, 0 missing, 1 the same"},
		{"a kernel that this run does not have", "k.TestA=pass l.TestA=pass", "k.TestA=pass", "", nil, "0 regressions, 0 missing, 1 the same"},
		{"another kernel", "l.TestA=pass", "k.TestA=fail", "", errWorse, "k TestA: fail, was pass"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &options{baseline: baseline(t, tt.old), run: tt.run}
			o.vm.Out = baseline(t, tt.new)
			require.NoError(t, o.checkBaseline())
			var b strings.Builder
			err := o.compare(&plan{VMs: []guest{{Package: "hotplugtest/k"}}}, &b)
			assert.ErrorIs(t, err, tt.err)
			assert.Contains(t, b.String(), tt.line+"\n")
			data, err := os.ReadFile(filepath.Join(o.vm.Out, compareFile))
			require.NoError(t, err)
			assert.Contains(t, string(data), `"summary": "`)
		})
	}
}

// What cannot be compared with is refused before anything is booted.
func TestBaselineError(t *testing.T) {
	dir := baseline(t, "k.TestA=pass")
	o := &options{baseline: dir}
	o.vm.Out = dir
	assert.EqualError(t, o.checkBaseline(), "-baseline "+dir+": this run writes its own reports there: give another -out")
	o.vm.Out = t.TempDir()
	assert.NoError(t, o.checkBaseline(), "there is no report yet")
	o.baseline = dir + "@l"
	assert.EqualError(t, o.checkBaseline(), "-baseline: "+dir+`/results.json has no kernel "l", only k`)
	o.baseline = "/nonexistent"
	assert.EqualError(t, o.checkBaseline(), "-baseline: open /nonexistent: no such file or directory")
}
