package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/testpattern"
	"github.com/hotplugtest/hotplugtest/suite"
)

// checkSuiteArgs says what of the arguments for the test binary cannot be. In
// the virtual machine, a wrong command line would look like a kernel on which
// tests fail.
func checkSuiteArgs(args []string) error {
	var o suite.Options
	flags := suiteFlags(&o)
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%v", err) // -help is no help here
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q: only flags can follow", flags.Arg(0))
	}
	return checkSuite(&o, flags)
}

// suiteFlags defines the flags of the test binary.
func suiteFlags(o *suite.Options) *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.Flags(flags)
	flags.Duration("explore", 0, "")
	flags.Uint64("explore-seed", 0, "")
	flags.String("explore-out", "", "")
	flags.Bool("restore", false, "")
	testFlags(flags)
	return flags
}

// misplaced says so if err is that a flag is none of the command's, and it is one
// of the test binary's.
func misplaced(err error) error {
	name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok || suiteFlags(&suite.Options{}).Lookup(name) == nil {
		return err
	}
	return fmt.Errorf("-%s is a flag of the test binary: give it after --", name)
}

// checkSuite says what of the suite's options cannot be, on any machine.
func checkSuite(o *suite.Options, flags *flag.FlagSet) error {
	for _, file := range o.Known {
		// The virtual machine has no other files of this one's.
		if file != known.Builtin && !strings.HasPrefix(filepath.Clean(file), "testdata/") {
			return fmt.Errorf("-known %s: the virtual machine does not have this file: give -known before the --", file)
		}
	}
	return o.CheckFlags(flags)
}

// testFlags defines the flags of package testing. Their values go nowhere.
func testFlags(flags *flag.FlagSet) {
	testing.Init()
	flag.CommandLine.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "test.") {
			flags.Var(&testFlag{name: f.Name, like: f.Value}, f.Name, "")
		}
	})
}

// testFlag takes what a flag of package testing does.
type testFlag struct {
	name string
	like flag.Value
}

func (f *testFlag) String() string { return "" }

func (f *testFlag) IsBoolFlag() bool {
	b, ok := f.like.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func (f *testFlag) Set(text string) error {
	switch f.name {
	case "test.run", "test.skip", "test.list", "test.bench", "test.fuzz":
		_, err := testpattern.Parse(text)
		return err
	case "test.v":
		if text == "test2json" {
			return nil
		}
	}
	getter, ok := f.like.(flag.Getter)
	if !ok {
		return nil
	}
	var err error
	switch getter.Get().(type) {
	case bool:
		_, err = strconv.ParseBool(text)
	case int:
		_, err = strconv.ParseInt(text, 0, strconv.IntSize)
	case uint:
		_, err = strconv.ParseUint(text, 0, strconv.IntSize)
	case time.Duration:
		_, err = time.ParseDuration(text)
	}
	if err != nil {
		return errors.New("parse error")
	}
	return nil
}
