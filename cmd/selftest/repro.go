package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/known"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/report"
	"github.com/hotplugtest/hotplugtest/vm"
)

// mostRepros is how many scripts a run writes: a kernel that fails more tests
// needs no script for each.
const mostRepros = 50

// origin is how a guest is asked for on the command line, and which kernel it
// boots.
type origin struct {
	Kernel string // as -kernel names it
	Source string // of the kernel, for people
	Sum    string // SHA-256 of the kernel as given or downloaded
	QEMU   string // its command line, for people
	Flags  []string
	Broken []string // the flags that break the kernel, which another one is to be tested without
	Args   []string // for the test binary
}

// origin is that of the guests of a profile.
func (o *options) origin(kernel string, prepared *vm.VM, p *profile.Profile) (origin, error) {
	sum, err := sha256File(prepared.File())
	line := prepared.CommandLine(o.booted(p, o.vm))
	from := origin{Kernel: kernel, Source: prepared.Kernel(), Sum: sum, QEMU: cli.Quoted(line...), Flags: o.flags(p), Args: o.args}
	addFlag(&from.Broken, "-poke", o.vm.Pokes...)
	return from, err
}

// flags are those that ask for the guest of a profile, without its kernel and
// what breaks that.
func (o *options) flags(p *profile.Profile) (flags []string) {
	addFlag(&flags, "-arch", o.arch)
	addFlag(&flags, "-profile", p.Name)
	addFlag(&flags, "-smp", o.vm.SMP)
	addFlag(&flags, "-mem", o.vm.Mem)
	addFlag(&flags, "-append", o.vm.Append)
	addFlag(&flags, "-qemu", o.vm.QEMU...)
	if o.vm.Timeout > 0 {
		addFlag(&flags, "-timeout", o.vm.Timeout.String())
	}
	if o.vm.Packed {
		flags = append(flags, "-packed")
	}
	addFlag(&flags, "-module", o.vm.Modules...)
	addFlag(&flags, "-delay", o.vm.Delays...)
	if o.soak > 0 {
		addFlag(&flags, "-soak", o.soak.String())
	}
	if o.goOn {
		flags = append(flags, "-soak-continue")
	}
	return flags
}

// addFlag adds a flag for each of the values, except empty ones.
func addFlag(list *[]string, name string, values ...string) {
	for _, value := range values {
		if value != "" {
			*list = append(*list, name, value)
		}
	}
}

func sha256File(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// writeRepros writes a script for each test that failed by no known defect, and
// says where they are.
func (p *plan) writeRepros(v *verdicts, module, out string, screen io.Writer) error {
	dir := filepath.Join(out, report.ReproDir)
	n := 0
	var errs []error
	for _, g := range p.VMs {
		for _, name := range v.failures(g.Package) {
			if n++; n > mostRepros {
				break
			}
			file := filepath.Join(dir, report.ReproFile(strings.TrimPrefix(g.Package, packagePrefix), name))
			text := g.repro(name, reason(v.output[test{g.Package, name}]), v.release[g.Package], module)
			errs = append(errs, os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte(text), 0o755))
		}
	}
	if n > 0 {
		fmt.Fprintf(screen, "\nscripts that reproduce the failures: %s\n", dir)
	}
	return errors.Join(errs...)
}

// reason is why a test failed, in one line.
func reason(output string) string {
	own, report := cutReport(output)
	if why := known.Reason(own); why != "" {
		return why
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(report, vm.Prefix), "\n")
	return line
}

// repro is a script that runs a test as it was run when it failed.
func (g *guest) repro(name, why, release, module string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/bin/sh")
	line("# %s fails on Linux %s%s", oneLine(name), release, strings.TrimSuffix(": "+oneLine(why), ": "))
	line("# Kernel: %s", oneLine(g.Options.Changed(g.Origin.Source)))
	line("# SHA-256: %s", g.Origin.Sum)
	line("# %s", oneLine(g.Origin.QEMU))
	line("#")
	line("# Runs the test on this kernel again, in a virtual machine, from any directory. The status is 1 if it fails, 0 if")
	line("# it passes, and 125 if that cannot be told, as when the kernel is not the one above any more. With a kernel as argument,")
	line("# as in ci/selftest -kernel, it runs on that one, without -poke. Flags of ci/selftest may follow: -shell, -gdb. The reports")
	line("# are beside this script, in a directory of the same name that ends in .out, or where -out says.")
	line("suite=${HOTPLUGTEST:-%s}", cli.Quoted(module))
	line(`if ! [ -x "$suite/ci/selftest" ]; then`)
	line(`	echo "$0: there is no hotplugtest in $suite: set HOTPLUGTEST to a clone of it" >&2`)
	line("	exit 125")
	line("fi")
	line("case ${1-} in")
	line("'' | -*) set -- -kernel %s \"$@\" ;;", cli.Quoted(append([]string{g.Origin.Kernel, "-sha256", g.Origin.Sum}, g.Origin.Broken...)...))
	line("*) kernel=$1; shift; set -- -kernel \"$kernel\" \"$@\" ;;")
	line("esac")
	// The default -out may be that of the run which wrote this script.
	line(`set -- -out "${0%%.sh}.out" "$@"`)
	flags := append(slices.Clone(g.Origin.Flags), "-run", pattern([]string{name}))
	if len(g.Origin.Args) > 0 {
		flags = append(append(flags, "--"), g.Origin.Args...)
	}
	line(`exec "$suite/ci/selftest" "$@" %s`, cli.Quoted(flags...))
	return b.String()
}

// oneLine makes a text fit for a comment of a script.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
