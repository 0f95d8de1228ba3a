// Command report makes a page of runs of ci/selftest. The script ci/report is a
// short name for it.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/report"
)

var program = &cli.Program{
	Name: "report", Call: "ci/report", Synopsis: "[flags] DIRECTORY...",
	About: "Makes a page of runs of ci/selftest: of the directories that it has written. The page is one file, which a browser\n" +
		"opens; its links to consoles and scripts are relative.",
	Failure: cli.Untold,
}

func main() {
	o, err := parse(os.Args[1:])
	os.Exit(program.Run(err, func(context.Context) error { return o.report(os.Stdout) }))
}

// formats are those of the output, the default one first.
var formats = []string{"html", "markdown"}

// options are what the command line says.
type options struct {
	runs   []string
	format string
	out    string // "-": standard output
}

func parse(args []string) (*options, error) {
	o := &options{}
	var dir cli.Dir
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	dir.Flag(flags)
	flags.StringVar(&o.format, "format", formats[0], "`format`: "+strings.Join(formats, ", "))
	flags.StringVar(&o.out, "out", "", "`file` to write, or - for standard output (default "+report.PageFile+" or "+report.SummaryFile+")")
	rest, err := program.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(formats, o.format) {
		return nil, fmt.Errorf("-format %s: there is no such format, only %s", o.format, strings.Join(formats, ", "))
	}
	if len(rest) == 0 {
		return nil, fmt.Errorf("give the directory of a run, or several")
	}
	if o.out == "" {
		o.out = map[string]string{"html": report.PageFile, "markdown": report.SummaryFile}[o.format]
	}
	if o.out != "-" {
		o.out = dir.Path(o.out)
	}
	for _, run := range rest {
		o.runs = append(o.runs, dir.Path(run))
	}
	return o, nil
}

func (o *options) report(stdout io.Writer) error {
	r, err := report.Read(o.runs)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if o.format == "markdown" {
		err = r.Markdown(&b)
	} else {
		err = r.HTML(&b, filepath.Dir(o.out))
	}
	if err != nil {
		return err
	}
	if o.out == "-" {
		_, err := b.WriteTo(stdout)
		return err
	}
	if err := os.WriteFile(o.out, b.Bytes(), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %s\n", o.out, r.Summary())
	return err
}
