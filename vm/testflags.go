package vm

import (
	"path/filepath"
	"strings"
	"time"
)

// testFlags is what the flags of a Go test binary say about files and time.
type testFlags struct {
	timeout time.Duration
	files   []string // that it writes
	mkdir   []string // for them
}

func readTestFlags(args []string, dir string) testFlags {
	t := testFlags{timeout: 10 * time.Minute}
	abs := func(dir, path string) string {
		if filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(dir, path)
	}
	outputDir := dir
	var files []string
	for i, arg := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !ok && i+1 < len(args) { // none of these is a boolean flag
			value = args[i+1]
		}
		if value == "" {
			continue
		}
		switch name {
		case "test.timeout":
			// 0 is for ever, which no VM is given.
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				t.timeout = d
			}
		case "test.outputdir":
			outputDir = abs(dir, value)
		case "test.testlogfile":
			t.mkdir = append(t.mkdir, filepath.Dir(abs(dir, value)))
		case "test.gocoverdir":
			t.mkdir = append(t.mkdir, abs(dir, value))
			t.files = append(t.files, abs(dir, value))
		case "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace":
			files = append(files, value)
		}
	}
	for _, file := range files {
		file = abs(outputDir, file)
		t.mkdir = append(t.mkdir, filepath.Dir(file))
		t.files = append(t.files, file)
	}
	return t
}
