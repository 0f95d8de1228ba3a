package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the suite cannot be asked for is refused before anything is booted: a
// wrong command line is no bad kernel.
func TestSuiteArgs(t *testing.T) {
	for args, want := range map[string]string{
		"": "",
		"-cycles 100 -cpus 2-3 -all-cpus -cpusets 500 -require ^[^/]*$ -known builtin":                                    "",
		"-cycles=3 -sleep=false -settle 1s -soak 1m -hot-add x -explore 1m -explore-seed 7 -restore":                      "",
		"-test.v=test2json -test.failfast -test.skip ^TestScenario$/^(a|b)$ -test.count 2 -test.timeout=1m -test.cpu 1,2": "",

		"-nosuch":            "flag provided but not defined: -nosuch",
		"-run TestX":         "flag provided but not defined: -run",
		"-out x":             "flag provided but not defined: -out",
		"-cycles x":          `invalid value "x" for flag -cycles: parse error`,
		"-cycles -1":         "-cycles -1: a CPU is probed once or more",
		"-cpus=":             "-cpus: no CPU is given: leave the flag out if it may be any",
		"-cpusets -1":        "-cpusets -1: there are no fewer than none",
		"-soak -1s":          "-soak -1s: a soak takes time",
		"-settle -1s":        "-settle -1s: a pause takes time",
		"-require (":         "-require error parsing regexp: missing closing ): `(`",
		"-known nofile":      "-known nofile: the virtual machine does not have this file: give -known before the --",
		"-known testdata/no": "-known open testdata/no: no such file or directory",
		"-test.v -- x":       `unexpected "x": only flags can follow`,
		"-cpus ,":            "-cpus: no CPU is given: leave the flag out if it may be any",
		"-all-cpus false":    `unexpected "false": only flags can follow`,
		"x -cycles 5":        `unexpected "x": only flags can follow`,
		"-test.run (":        "invalid value \"(\" for flag -test.run: (: error parsing regexp: missing closing ): `(`",
		"-test.count x":      `invalid value "x" for flag -test.count: parse error`,
		"-test.timeout x":    `invalid value "x" for flag -test.timeout: parse error`,
		"-test.short=x":      `invalid boolean value "x" for -test.short: parse error`,
		"-help":              "flag: help requested",
	} {
		t.Run(args, func(t *testing.T) {
			_, err := parse(append([]string{"--"}, strings.Fields(args)...))
			if want == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, "after --: "+want)
			}
		})
	}
	_, err := parse([]string{"--", "-cpus", "2-x"})
	assert.ErrorContains(t, err, `after --: -cpus "2-x": `)
}

// The flags that the suite's test binary has of its own are known here.
func TestSuiteFlags(t *testing.T) {
	files, err := filepath.Glob("../../*_test.go")
	require.NoError(t, err)
	defines := regexp.MustCompile(`= flag\.\w+\((?:&\w+, )?"([^"]+)"`)
	found := 0
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		require.NoError(t, err)
		if len(f.Comments) > 0 && strings.Contains(f.Comments[0].Text()+f.Comments[0].List[0].Text, "!selftest") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range defines.FindAllStringSubmatch(string(text), -1) {
			found++
			err := checkSuiteArgs([]string{"-" + m[1] + "="})
			if err != nil {
				assert.NotContains(t, err.Error(), "not defined", name)
			}
		}
	}
	assert.NotZero(t, found)
}
