package record

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/fatih/color"
	"gotest.tools/gotestsum/cmd"

	"github.com/hotplugtest/hotplugtest/internal/junit"
)

// writeJUnit makes the JUnit report, as ci/selftest does.
func writeJUnit(dir, results string) error {
	file := filepath.Join(dir, junit.File)
	if err := WriteJUnit(file, results); err != nil {
		return err
	}
	return junit.Mark(file, junit.Notes{})
}

// WriteJUnit makes the JUnit report of the test events in a file, before
// [junit.Mark] corrects it: by gotestsum, in this process. gotestsum takes events
// from a command only, and asks the go command for its version unless a variable
// has it. Flags keep its other variables from changing the report.
func WriteJUnit(file, results string) error {
	version := runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	if err := os.Setenv("GOVERSION", version); err != nil {
		return err
	}
	out := color.Output
	color.Output = io.Discard // the results were shown as they came
	defer func() { color.Output = out }()
	err := cmd.Run("gotestsum", []string{
		"--raw-command", "--format=none", "--junitfile=" + file, "--jsonfile=", "--jsonfile-timing-events=",
		"--junitfile-project-name=", "--junitfile-hide-empty-pkg=false", "--junitfile-hide-skipped-tests=false",
		"--", "cat", results,
	})
	if err != nil {
		return fmt.Errorf("%s: gotestsum: %w", file, err)
	}
	return nil
}
