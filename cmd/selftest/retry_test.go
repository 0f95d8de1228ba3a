package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// of judges a stream.
func of(t *testing.T, stream string) *verdicts {
	t.Helper()
	v, err := judge(strings.NewReader(stream), &strings.Builder{})
	require.NoError(t, err)
	return v
}

// What is tried again are the tests that failed by themselves, and by no known
// defect.
func TestFailures(t *testing.T) {
	v := of(t, events(t, "TestA/b fail", "TestA/c known busy", "TestA/c fail", "TestA/d/e pass", "TestA/d fail", "TestA fail", "TestB pass", "TestMain fail", "fail"))
	assert.Equal(t, []string{"TestA/b", "TestA/d"}, v.failures("p"))
	assert.Empty(t, v.failures("q"))
}

func TestAgain(t *testing.T) {
	g := guest{
		Package: "hotplugtest/sid", Options: vm.Options{Out: "out/sid"},
		Argv: []string{"binary", "-test.run=Test", "-test.skip=TestB", "-test.run=TestC"},
	}
	h := g.again(2, []string{"TestR/8:sched:online", "TestA"})
	assert.Equal(t, "hotplugtest/sid#2", h.Package)
	assert.Equal(t, "out/sid/again-2", h.Options.Out)
	const want = `-test.run=^TestR$/^8:sched:online$|^TestA$`
	assert.Equal(t, []string{"binary", want, "-test.skip=TestB", want}, h.Argv)
	assert.Equal(t, "-test.run=Test", g.Argv[1], "the first run's is as it was")

	assert.Equal(t, g.Argv, g.again(1, make([]string, 1000)).Argv, "all of them, if they are many")
	assert.Equal(t, `^TestA$/^a\.b\(c\)$`, pattern([]string{"TestA/a.b(c)"}))
}

// A run begins without the reports of an earlier one, and removes nothing else.
func TestRemoveReports(t *testing.T) {
	out := t.TempDir()
	for _, tt := range []struct {
		kernels, files, left []string
	}{
		{
			[]string{"sid"},
			[]string{"again-1/console.log", "again-12/console.log", "repro/x.sh", "results.json", "console.log", "again-x/y", "sid/again-1/z"},
			[]string{"again-x/y", "sid/again-1/z"},
		},
		{
			[]string{"sid", "trixie"},
			[]string{"sid/again-1/console.log", "sid/console.log", "again-1", "known-new.json"},
			[]string{"again-1", "again-x/y"},
		},
	} {
		for _, name := range tt.files {
			require.NoError(t, os.MkdirAll(filepath.Join(out, filepath.Dir(name)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(out, name), nil, 0o644))
		}
		o := &options{kernels: tt.kernels, profiles: []profile.Profile{{}}, vm: vm.Options{Out: out}}
		require.NoError(t, o.removeReports())
		var left []string
		require.NoError(t, fs.WalkDir(os.DirFS(out), ".", func(path string, d fs.DirEntry, err error) error {
			if !d.IsDir() {
				left = append(left, path)
			}
			return err
		}))
		assert.Equal(t, tt.left, left)
	}
}

// A test that fails each time is broken, and one that does not is flaky. One
// that did not run again is not counted, and one that did not end has failed.
func TestCount(t *testing.T) {
	in := func(k, stream string) string { return strings.ReplaceAll(stream, `"p"`, `"p#`+k+`"`) }
	results := in("1", events(t, "TestA run", "TestA fail", "TestB run", "TestB pass", "TestC run", "TestD run", "TestD known busy", "TestD fail", "fail")) +
		in("2", events(t, "TestA run", "TestA fail", "TestB run", "TestB fail", "TestE pass", "TestF skip", "fail"))
	var all []*tries
	for _, name := range []string{"TestA", "TestB", "TestC", "TestD", "TestF", "TestG"} {
		all = append(all, &tries{test: test{"p", name}, runs: 1, failed: 1})
	}
	require.NoError(t, count(all, strings.NewReader(results)))
	var got []string
	for _, t := range all {
		got = append(got, t.name+" "+t.String())
	}
	assert.Equal(t, []string{"TestA broken 3/3", "TestB flaky 2/3", "TestC broken 2/2", "TestD broken 2/2", "TestF broken 1/1", "TestG broken 1/1"}, got)
	assert.Error(t, count(all, strings.NewReader("{")))
}

// The results and the report say what came of a test, and an entry is written
// that knows its failure.
func TestNoteTries(t *testing.T) {
	dir := t.TempDir()
	results := events(t, "TestA/b kernel 6.12.1", "TestA/b:     a.go:1: lost 5 tasks", "TestA/b fail", "TestA fail", "TestC:     a.go:1: x", "TestC fail", "fail")
	p := &plan{Results: filepath.Join(dir, "results.json"), VMs: []guest{{Package: "p", Where: known.Where{Suite: "trixie", Profile: "default", Arch: "amd64"}}}}
	require.NoError(t, os.WriteFile(p.Results, []byte(results), 0o644))
	again := []*tries{{test: test{"p", "TestA/b"}, runs: 3, failed: 1}, {test: test{"p", "TestC"}, runs: 3, failed: 3}}
	v := of(t, results)
	var screen strings.Builder
	require.NoError(t, p.noteTries(again, v, dir, &screen))
	file := filepath.Join(dir, suggestFile)
	assert.Equal(t, "\n=== Tried again\nflaky 1/3: p TestA/b\nbroken 3/3: p TestC\nentries for -known, to be looked at (2): "+file+"\n", screen.String())

	after, err := os.ReadFile(p.Results)
	require.NoError(t, err)
	assert.Equal(t, []string{"TestA/b attempts flaky 1/3", "TestC attempts broken 3/3"}, text(t, strings.TrimPrefix(string(after), results)))
	assert.True(t, of(t, string(after)).failed, "it stays a failure")

	loader, err := loadKnown([]string{file})
	require.NoError(t, err)
	m := loader.Matcher(p.VMs[0].Where)
	m.Kernel("6.12.99")
	require.NotNil(t, m.Failed("TestA/b", "    a.go:1: lost 7 tasks\n"))
	assert.Nil(t, m.Failed("TestA/b", "    a.go:1: lost a file\n"))

	xmlFile := filepath.Join(dir, junit.File)
	require.NoError(t, os.WriteFile(xmlFile, []byte(`<testsuites><testsuite name="p"><properties><property name="go.version" value="1"></property></properties><testcase classname="p" name="TestA/b"><failure message="Failed">x</failure></testcase><testcase classname="p" name="TestA"></testcase></testsuite></testsuites>`), 0o644))
	require.NoError(t, junit.Mark(xmlFile, junit.Notes{Suites: map[string][]junit.Property{"p": {{Name: testjson.KernelSum, Value: "4711"}}}, Cases: attempts(again)}))
	report, err := os.ReadFile(xmlFile)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(report), `<property name="`+testjson.Attempts+`" value="flaky 1/3"></property>`))
	assert.Contains(t, string(report), `<property name="`+testjson.KernelSum+`" value="4711"></property>`)
	assert.Contains(t, string(report), `<failure message="x">x</failure>`)
}

// Kernels that fail the same test have an entry each, except if one entry knows
// the failures of both.
func TestSuggestEach(t *testing.T) {
	dir := t.TempDir()
	p := &plan{}
	var results strings.Builder
	var again []*tries
	for _, vm := range [][3]string{
		{"bookworm", "6.1.0-50-amd64", "lost 5 tasks"},
		{"bookworm-security", "6.1.0-51-amd64", "lost 7 tasks"},
		{"sid", "7.2.1", "lost 5 tasks"},
		{"sid-2", "7.2.2", "lost a file"},
		{"sid-3", "7.2.3", "lost a file, and a task"},
	} {
		p.VMs = append(p.VMs, guest{Package: vm[0], Where: known.Where{Profile: "default", Arch: "amd64"}})
		stream := events(t, "TestA/b kernel "+vm[1], "TestA/b:     a.go:1: "+vm[2], "TestA/b fail", "TestA fail", "fail")
		results.WriteString(strings.ReplaceAll(stream, `"p"`, `"`+vm[0]+`"`))
		again = append(again, &tries{test: test{vm[0], "TestA/b"}, runs: 2, failed: 2 - len(again)%2})
	}
	entries := p.suggest(again, of(t, results.String()))
	var got []string
	for _, e := range entries {
		got = append(got, e.ID+" "+e.Kernels[0].From)
	}
	assert.Equal(t, []string{"default-testa-b 6.1", "default-testa-b-7-2 7.2", "default-testa-b-7-2-2 7.2", "default-testa-b-7-2-3 7.2"}, got)
	assert.True(t, entries[0].Rare, "one of the two that it knows is")

	text, err := known.Format(entries)
	require.NoError(t, err)
	file := filepath.Join(dir, suggestFile)
	require.NoError(t, os.WriteFile(file, text, 0o644))
	_, err = loadKnown([]string{file})
	assert.NoError(t, err)
}
