package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testpattern"
	"github.com/hotplugtest/hotplugtest/vm"
)

// booted are the options of a VM that is booted as a profile says.
func (o *options) booted(p *profile.Profile, given vm.Options) vm.Options {
	given = p.Options(given)
	given.Append = joined(" ", bootArgs[o.arch], given.Append)
	return given
}

// subdir is the directory for what one VM leaves: below that of all a level for
// the kernel and one for the profile, where there are several of them.
func (o *options) subdir(kernel string, p *profile.Profile) string {
	dir := o.vm.Out
	if len(o.kernels) > 1 {
		dir = filepath.Join(dir, kernel)
	}
	if len(o.profiles) > 1 {
		dir = filepath.Join(dir, p.Name)
	}
	return dir
}

// leaveOut adds the scenarios that many kernels panic in to what a profile skips,
// except those that -run names, as opposed to all scenarios. It returns the
// tests that would run otherwise.
func (o *options) leaveOut(boot *profile.Profile) (left []string, err error) {
	named, err := testpattern.Parse(o.run)
	if err != nil {
		return nil, fmt.Errorf("-run %w", err)
	}
	chosen, err := testpattern.Select(cmp.Or(o.run, boot.Run), boot.Skip)
	if err != nil {
		return nil, err
	}
	var rows []string
	for _, row := range profile.Panicking {
		test := "TestScenario/" + row
		if named.Names(test) {
			continue
		}
		rows = append(rows, row)
		if chosen.Has("TestScenario") && chosen.Has(test) {
			left = append(left, test)
		}
	}
	if len(rows) > 0 {
		boot.Skip = joined("|", boot.Skip, "^TestScenario$/^("+strings.Join(rows, "|")+")$")
	}
	return left, nil
}

// tellLeftOut says which tests are left out of the VMs, and how to run them.
func (p *plan) tellLeftOut(w io.Writer) {
	var all []string
	for _, g := range p.VMs {
		for _, test := range g.LeftOut {
			if !slices.Contains(all, test) {
				all = append(all, test)
			}
		}
	}
	if len(all) > 0 {
		fmt.Fprintf(w, "left out: %s: %s\n", strings.Join(all, ", "), whyLeftOut)
	}
}

// whyLeftOut follows the names of the tests.
const whyLeftOut = "kernels panic there, and nothing after it would run; -run TestScenario/NAME runs it"

// skipping returns the arguments for a test binary with a pattern added to each
// -test.skip: the last of these flags counts alone.
func skipping(args []string, pattern string) []string {
	args = slices.Clone(args)
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		name, value, ok := strings.Cut(args[i], "=")
		switch {
		case name != "-test.skip" && name != "--test.skip":
		case ok:
			args[i] = name + "=" + joined("|", pattern, value)
		case i+1 < len(args):
			i++
			args[i] = joined("|", pattern, args[i])
		}
	}
	return args
}

// joined joins those of the texts that are not empty.
func joined(sep string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), sep)
}
