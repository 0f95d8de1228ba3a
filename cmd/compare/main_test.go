package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

func TestParseError(t *testing.T) {
	for args, want := range map[string]string{
		"":                "give two runs after the flags, the old and the new one, and not 0",
		"a":               "give two runs after the flags, the old and the new one, and not 1",
		"a b -all":        "give two runs after the flags, the old and the new one, and not 3",
		"-format xml a b": "-format xml: there is no such format, only text, markdown, json",
		"-tests ( a b":    "invalid value \"(\" for flag -tests: error parsing regexp: missing closing ): `(`",
	} {
		_, err := parse(strings.Fields(args))
		assert.EqualError(t, err, want, args)
	}
}

// The exit status is 1 if the new run is worse, and 125 if one cannot be read.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	for name, verdict := range map[string]string{"good": "pass", "bad": "fail"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		text := `{"Action":"` + verdict + `","Package":"hotplugtest/k","Test":"TestA"}` + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "results.json"), []byte(text), 0o644))
	}
	for _, tt := range []struct {
		old, new string
		status   int
		text     string
	}{
		{"good", "good", 0, "0 regressions, 0 missing, 1 the same\n"},
		{"bad", "good", 0, "k TestA: pass, was fail\n"},
		{"good", "bad", 1, "k TestA: fail, was pass\n"},
		{"good", "none", 125, ""},
		{"none", "good", 125, ""},
	} {
		o, err := parse([]string{"-C", dir, tt.old, tt.new})
		require.NoError(t, err)
		var b strings.Builder
		err = o.compare(&b)
		status := 0
		var told *cli.Told
		switch {
		case errors.As(err, &told):
			status = told.Status
		case err != nil:
			status = program.Failure
		}
		assert.Equal(t, tt.status, status, "%s, %s: %v", tt.old, tt.new, err)
		assert.Contains(t, b.String(), tt.text)
	}
}
