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

// joined joins those of the texts that are not empty.
func joined(sep string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), sep)
}
