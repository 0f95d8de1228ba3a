package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// plan is what stream is to run: a VM for each kernel and profile.
type plan struct {
	VMs      []guest
	Known    []string // lists of known defects
	AtOnce   int      // how many VMs are run at once
	Retry    int      // how often a test that failed is run again
	Results  string   // the file of the results
	Progress string   // the path of a pipe to write to what is to be shown at once
	Status   bool     // which has a status, too
	Lifeline string   // the path of a pipe that ends when the run must
}

// guest is a VM that runs the suite.
type guest struct {
	Package string // the name its results go under
	Where   known.Where
	Origin  origin
	Options vm.Options
	Argv    []string
	LeftOut []string // tests that it does not run because many kernels panic in them
}

// packagePrefix begins the names that results go under.
const packagePrefix = "hotplugtest/"

// facts are attributes for the results: which kernel it is, and what was left
// out.
func (g *guest) facts() []junit.Property {
	facts := []junit.Property{{Name: testjson.KernelSource, Value: g.Origin.Source}, {Name: testjson.KernelSum, Value: g.Origin.Sum}}
	if flags := g.Options.Changes(); flags != "" {
		facts = append(facts, junit.Property{Name: testjson.KernelChanged, Value: flags})
	}
	if len(g.LeftOut) > 0 {
		facts = append(facts, junit.Property{Name: testjson.LeftOut, Value: strings.Join(g.LeftOut, ", ") + ": " + whyLeftOut})
	}
	return facts
}

// heading is what a run prints of a VM before it begins.
func heading(name, kernel string, o vm.Options, boot *profile.Profile) string {
	return fmt.Sprintf("%s: %s\n", boot.Of(name), joined(", ", o.Changed(kernel), o.SMP+" CPUs", boot.Append))
}

// facts are those of all guests, by package.
func (p *plan) facts() map[string][]junit.Property {
	all := make(map[string][]junit.Property)
	for _, g := range p.VMs {
		all[g.Package] = g.facts()
	}
	return all
}

// describe writes what the guest is to the results, which are in a file.
func (g *guest) describe(file string, results io.Writer) error {
	attrs := g.facts()
	console := filepath.Join(g.Options.Out, vm.ConsoleFile)
	if rel, err := filepath.Rel(filepath.Dir(file), console); err == nil {
		attrs = append(attrs, junit.Property{Name: testjson.Console, Value: rel})
	}
	var errs []error
	for _, a := range attrs {
		errs = append(errs, testjson.Write(results, testjson.Event{Time: time.Now(), Action: "attr", Package: g.Package, Key: a.Name, Value: a.Value}))
	}
	return errors.Join(errs...)
}

func readPlan(file string) (p plan, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(data, &p)
}

// warn says which known defects are to be reviewed.
func (p *plan) warn(w io.Writer) error {
	loader, err := loadKnown(p.Known)
	if err != nil {
		return err
	}
	for _, line := range loader.Expired() {
		fmt.Fprintf(w, "selftest: %s\n", line)
	}
	return nil
}

// write writes the plan for the processes that run it, and returns the file.
func (p *plan) write(dir string) (file string, err error) {
	data, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "plan.json")
	return file, os.WriteFile(file, data, 0o644)
}

// plan prepares the VMs of the shard, for a binary that need not be there yet.
func (o *options) plan(ctx context.Context, p *plan, tmp, binary string) error {
	number := 0
	for i, name := range fileNames(o.kernels) {
		var chosen []profile.Profile
		for _, boot := range o.profiles {
			if o.shard.has(number) {
				chosen = append(chosen, boot)
			}
			number++
		}
		if len(chosen) == 0 {
			continue
		}
		options, err := o.debugged(ctx)
		if err != nil {
			return err
		}
		options.Kernel = o.kernels[i]
		prepared, err := vm.Prepare(ctx, options, o.arch, os.Stderr)
		if err != nil {
			return err
		}
		if err := prepared.Require("the suite", suiteNeeds...); err != nil {
			return err
		}
		options.Init = filepath.Join(tmp, fmt.Sprintf("init-%d", i))
		if err := prepared.WriteInit(options.Init); err != nil {
			return err
		}
		for _, boot := range chosen {
			from, err := o.origin(o.kernels[i], prepared, &boot)
			if err != nil {
				return err
			}
			if o.sum != "" && from.Sum != o.sum {
				return fmt.Errorf("-sha256: kernel %s is another one, %s with %s", o.kernels[i], from.Source, from.Sum)
			}
			left, err := o.leaveOut(&boot)
			if err != nil {
				return err
			}
			options := o.booted(&boot, options)
			options.Out = o.subdir(name, &boot)
			fmt.Print(heading(name, prepared.Kernel(), options, &boot))
			o.tellDebug(os.Stdout, options, prepared.Symbols())
			p.VMs = append(p.VMs, guest{
				Package: packagePrefix + boot.Of(name),
				Where:   known.Where{Suite: o.kernels[i], Profile: boot.Name, Arch: o.arch},
				Origin:  from,
				Options: options,
				Argv:    o.argv(binary, &boot),
				LeftOut: left,
			})
		}
	}
	p.tellLeftOut(os.Stdout)
	return nil
}

// suiteNeeds are the options of a kernel without which no test of the suite
// runs: CPUs that go offline, and uevents.
var suiteNeeds = []string{"SMP", "HOTPLUG_CPU", "NET"}

// argv is the command line of the test binary.
func (o *options) argv(binary string, p *profile.Profile) []string {
	argv := []string{binary, "-test.v=test2json", "-test.run=" + cmp.Or(o.run, p.Run), "-test.skip=" + p.Skip, "-test.count=1"}
	switch {
	case o.vm.Timeout > 0:
		argv = append(argv, "-test.timeout="+o.vm.Timeout.String())
	case o.gdb || o.shell:
		argv = append(argv, "-test.timeout=0")
	case o.soak > 0:
		// From this the VM's limit follows.
		argv = append(argv, "-test.timeout="+(o.soak+beforeAndAfter).String())
	}
	if o.soak > 0 {
		argv = append(argv, "-soak="+o.soak.String(), fmt.Sprintf("-soak-continue=%t", o.goOn))
	}
	// A kernel without CPU hotplug would skip it all, and that is no success.
	// What may take the kernel down takes nothing else along here. Whether
	// anything was tested is judged over all virtual machines, by outcome.
	argv = append(argv, "-require=^[^/]*$", "-must-test=false", "-destructive")
	argv = append(argv, o.settle()...)
	if o.shell {
		argv = append(argv, "-stop")
	}
	return slices.Concat(argv, p.Args, skipping(o.args, p.Skip))
}

// beforeAndAfter is the time that tests may take beside a soak: go test's
// default.
const beforeAndAfter = 10 * time.Minute

// settle returns the test binary's argument for the pause before each operation,
// in which work of the one before that is delayed ends: twice the longest delay,
// because work may have been queued while it waited.
func (o *options) settle() []string {
	var longest time.Duration
	for _, text := range o.vm.Delays {
		// It was parsed before.
		d, _ := vm.ParseDelay(text)
		longest = max(longest, d.Wait)
	}
	if longest == 0 {
		return nil
	}
	return []string{"-settle=" + (2 * longest).String()}
}
