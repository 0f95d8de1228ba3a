package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

// A boot is a profile in which callbacks do what they do not otherwise, and the
// tests that are about it.
type boot struct{ profile, run string }

var elsewhere = []boot{
	{"maxcpus", "^Test(Offline|Online)$"}, // CPUs that come for the first time
	{"nohz_full", "^TestScenario$/^tickless$"},
	{"numa", "^Test(Offline|Online)$|^TestScenario$/^(description|kernel-threads(-node)?)$"},
	{"modules", ""}, // the profiles name their tests
	{"msr", ""},
}

// bootsOf returns those of the other boots for which the kernel has the modules,
// as prepare says. An image alone has none. log is told of the others.
func bootsOf(prepare func(p *profile.Profile) error, log io.Writer) (boots []boot, err error) {
	for _, b := range elsewhere {
		named, err := profile.Named(b.profile)
		if err != nil {
			return nil, err
		}
		if len(named[0].Modules) > 0 {
			err = prepare(&named[0])
		}
		switch {
		case errors.Is(err, vmkernel.ErrNoModule):
			fmt.Fprintf(log, "survivors are not tried with -profile %s: %v\n", b.profile, err)
		case err != nil:
			return nil, err
		default:
			boots = append(boots, b)
		}
	}
	return boots, nil
}

// profile runs tests in another boot, until one fails.
func (k *knockouts) profile(ctx context.Context, name string, b boot, flags ...string) (*knockout, error) {
	flags = append([]string{"-profile", b.profile}, flags...)
	r, err := k.tests(ctx, name+"/"+b.profile, b.run, flags...)
	if errors.Is(err, lab.ErrNoTest) {
		return &knockout{}, nil
	}
	if r != nil && r.noticed() {
		r.Profile = b.profile
	}
	return r, err
}
