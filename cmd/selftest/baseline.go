package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/compare"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// compareFile is the comparison with the baseline, for programs.
const compareFile = "compare.json"

// errWorse has been told.
var errWorse = &cli.Told{What: "worse than the baseline", Status: cli.Failed}

// checkBaseline reads the baseline, so that nobody waits for a run that cannot
// be compared.
func (o *options) checkBaseline() error {
	if o.baseline == "" {
		return nil
	}
	dir, _ := compare.Split(o.baseline)
	here, err := os.Stat(filepath.Join(o.vm.Out, testjson.ResultsFile))
	there, thereErr := os.Stat(filepath.Join(dir, testjson.ResultsFile))
	if err == nil && thereErr == nil && os.SameFile(here, there) {
		return fmt.Errorf("-baseline %s: this run writes its own reports there: give another -out", o.baseline)
	}
	if _, err := compare.Read(o.baseline); err != nil {
		return fmt.Errorf("-baseline: %w", err)
	}
	return nil
}

// compare compares the results of the run with the baseline, of the kernels
// that the run had, and prints what differs.
func (o *options) compare(p *plan, w io.Writer) error {
	before, err := compare.Read(o.baseline)
	if err != nil {
		return err
	}
	after, err := compare.Read(o.vm.Out)
	if err != nil {
		return err
	}
	var names []string
	for _, g := range p.VMs {
		names = append(names, strings.TrimPrefix(g.Package, packagePrefix))
	}
	before.Keep(names)
	d := compare.Compare(before, after, compare.Options{Partial: o.run != ""})
	fmt.Fprint(w, "\n=== Compared with the baseline\n")
	file, err := os.Create(filepath.Join(o.vm.Out, compareFile))
	if err != nil {
		return err
	}
	err = errors.Join(d.Write(w, "text", false), d.Write(file, "json", true), file.Close())
	if err == nil && d.Bad() {
		return errWorse
	}
	return err
}
