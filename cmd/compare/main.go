// Command compare says what differs between two runs of ci/selftest. The script
// ci/compare is a short name for it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/compare"
)

var program = &cli.Program{
	Name: "compare", Call: "ci/compare", Synopsis: "[flags] OLD NEW",
	About: "Compares two runs of ci/selftest: directories that it has written, or DIRECTORY@KERNEL for one kernel of them,\n" +
		"as in out@bookworm. Exits 0 if the new run is no worse, 1 if a test fails that did not or is missing, and 125 if a\n" +
		"run cannot be read.",
	Failure: cli.Untold,
}

// errWorse has been told.
var errWorse = &cli.Told{What: "the new run is worse", Status: cli.Failed}

func main() {
	o, err := parse(os.Args[1:])
	os.Exit(program.Run(err, func(context.Context) error { return o.compare(os.Stdout) }))
}

// options are what the command line says.
type options struct {
	before, after string
	format        string
	all           bool
	options       compare.Options
}

func parse(args []string) (*options, error) {
	o := &options{}
	var dir cli.Dir
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	dir.Flag(flags)
	flags.StringVar(&o.format, "format", compare.Formats[0], "`format` of the output: "+strings.Join(compare.Formats, ", "))
	flags.BoolVar(&o.all, "all", false, "list each change and each time")
	flags.BoolVar(&o.options.Partial, "partial", false, "the new run had fewer tests to run: none of them is missing")
	flags.Func("tests", "compare only the tests whose names match the `regexp`", func(s string) (err error) {
		o.options.Tests, err = regexp.Compile(s)
		return err
	})
	rest, err := program.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(compare.Formats, o.format) {
		return nil, fmt.Errorf("-format %s: there is no such format, only %s", o.format, strings.Join(compare.Formats, ", "))
	}
	if len(rest) != 2 {
		return nil, fmt.Errorf("give two runs after the flags, the old and the new one, and not %d", len(rest))
	}
	o.before, o.after = dir.Path(rest[0]), dir.Path(rest[1])
	return o, nil
}

func (o *options) compare(w io.Writer) error {
	before, err := compare.Read(o.before)
	if err != nil {
		return err
	}
	after, err := compare.Read(o.after)
	if err != nil {
		return err
	}
	d := compare.Compare(before, after, o.options)
	if err := d.Write(w, o.format, o.all); err != nil {
		return err
	}
	if d.Bad() {
		return errWorse
	}
	return nil
}
