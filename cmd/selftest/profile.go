package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/internal/profile"
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

// panicking is a pattern for the scenarios that are left out because most kernels
// panic in them, and -run does not name them; "" if there is none.
func (o *options) panicking() string {
	names := slices.DeleteFunc(slices.Clone(profile.Panicking), func(name string) bool { return strings.Contains(o.run, name) })
	if len(names) == 0 {
		return ""
	}
	return "^TestScenario$/^(" + strings.Join(names, "|") + ")$"
}

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
