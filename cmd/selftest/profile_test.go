package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/vm"
)

func TestProfileOptions(t *testing.T) {
	given := vm.Options{Kernel: "trixie", SMP: "8", Mem: "2G", Append: "quiet", QEMU: []string{"-S"}}
	for _, tt := range []struct {
		profile profile.Profile
		arch    string
		want    vm.Options
	}{
		{profile.Profile{Name: "default"}, "amd64", vm.Options{Kernel: "trixie", SMP: "8", Mem: "2G", Append: "cpu0_hotplug quiet", QEMU: []string{"-S"}}},
		{profile.Profile{Name: "default"}, "arm64", given},
		{
			profile.Profile{Name: "p", Append: "nosmt", SMP: "4,cores=2,threads=2", Mem: "1G", QEMU: []string{"-numa", "node"}}, "amd64",
			vm.Options{Kernel: "trixie", SMP: "4,cores=2,threads=2", Mem: "1G", Append: "cpu0_hotplug nosmt quiet", QEMU: []string{"-numa", "node", "-S"}},
		},
	} {
		assert.Equal(t, tt.want, (&options{arch: tt.arch}).booted(&tt.profile, given))
	}
}

// A profile's own choice of tests is what runs if the user has none.
func TestProfileTests(t *testing.T) {
	p := &profile.Profile{Run: "TestA", Skip: "TestB", Args: []string{"-sleep", "-cycles=1"}}
	for _, tt := range []struct{ run, want string }{{"", "TestA"}, {"TestC", "TestC"}} {
		argv := (&options{run: tt.run, args: []string{"-cycles=2"}}).argv("binary", p)
		assert.Contains(t, argv, "-test.run="+tt.want)
		assert.Contains(t, argv, "-test.skip=TestB")
		assert.Contains(t, argv, "-destructive")
		assert.Contains(t, argv, "-sleep")
		assert.Equal(t, "-cycles=2", argv[len(argv)-1], "what the user says is the last word")
	}
}

// What many kernels panic in runs only if it is named. What would run otherwise
// is told.
func TestLeaveOut(t *testing.T) {
	const ended, suspended = "deadline-ended", "suspend-isolated"
	both := []string{ended, suspended}
	for _, tt := range []struct {
		run, profile  string
		skipped, told []string
	}{
		{"", "", both, both},
		{"TestScenario", "", both, both},
		{"TestScenario/.*", "", both, both},
		{"deadline.*ended", "", both, nil}, // there is no such test
		{"TestOnline", "", both, nil},
		{"", "^TestOffline$", both, nil},
		{"TestScenario/timers", "", both, nil},
		{"TestScenario/deadline-ended", "^TestOffline$", []string{suspended}, nil},
		{"TestScenario/dead", "", []string{suspended}, nil},
		{"/dead.*ended", "", []string{suspended}, nil},
		{"TestScenario|TestScenario/ended", "", []string{suspended}, []string{suspended}},
		{"^TestScenario$/^(deadline-ended|suspend-isolated)$", "", nil, nil},
	} {
		boot := &profile.Profile{Run: tt.profile, Skip: "TestSkipped"}
		left, err := (&options{run: tt.run}).leaveOut(boot)
		require.NoError(t, err)
		want := "TestSkipped"
		if tt.skipped != nil {
			want += "|^TestScenario$/^(" + strings.Join(tt.skipped, "|") + ")$"
		}
		assert.Equal(t, want, boot.Skip, tt.run)
		var told []string
		for _, row := range tt.told {
			told = append(told, "TestScenario/"+row)
		}
		assert.Equal(t, told, left, tt.run)
	}
	_, err := (&options{run: "("}).leaveOut(&profile.Profile{})
	assert.ErrorContains(t, err, "-run (: ")

	var out strings.Builder
	p := &plan{VMs: []guest{{}, {LeftOut: []string{"A/b"}}, {LeftOut: []string{"A/b", "A/c"}}}}
	p.tellLeftOut(&out)
	assert.Equal(t, "left out: A/b, A/c: "+whyLeftOut+"\n", out.String())
	assert.Contains(t, p.VMs[2].facts(), junit.Property{Name: "left-out", Value: "A/b, A/c: " + whyLeftOut})
	assert.Len(t, p.VMs[0].facts(), 2)
	out.Reset()
	(&plan{VMs: []guest{{}}}).tellLeftOut(&out)
	assert.Empty(t, out.String())
}

// What the profile leaves out is left out whatever else the user leaves out.
func TestProfileSkip(t *testing.T) {
	for _, tt := range []struct {
		skip       string
		args, want []string
	}{
		{"A/b", nil, nil},
		{"A/b", []string{"-cycles", "2"}, []string{"-cycles", "2"}},
		{"A/b", []string{"-test.skip", "C", "-cycles=2"}, []string{"-test.skip", "A/b|C", "-cycles=2"}},
		{"A/b", []string{"-test.skip=C=D", "--test.skip=E"}, []string{"-test.skip=A/b|C=D", "--test.skip=A/b|E"}},
		{"A/b", []string{"--test.skip", "-test.skip=C"}, []string{"--test.skip", "A/b|-test.skip=C"}},
		{"A/b", []string{"-test.skip="}, []string{"-test.skip=A/b"}},
		{"A/b", []string{"-test.skip"}, []string{"-test.skip"}},
		{"A/b", []string{"--", "-test.skip=C"}, []string{"--", "-test.skip=C"}},
		{"", []string{"-test.skip=C"}, []string{"-test.skip=C"}},
	} {
		args := slices.Clone(tt.args)
		argv := (&options{args: args}).argv("binary", &profile.Profile{Skip: tt.skip})
		assert.Equal(t, slices.Concat([]string{"-destructive"}, tt.want), argv[len(argv)-len(tt.want)-1:])
		assert.Equal(t, tt.args, args)
	}
}

// Each VM has its console in a directory of its own, and its results under a
// name of their own.
func TestProfileNames(t *testing.T) {
	isolated, all := []profile.Profile{{Name: "isolcpus"}}, []profile.Profile{{Name: "default"}, {Name: "smt"}}
	for _, tt := range []struct {
		kernels  []string
		profiles []profile.Profile
		last     string // directory of the last VM
	}{
		{[]string{"sid"}, isolated, "/out"},
		{[]string{"sid", "trixie"}, isolated, "/out/trixie"},
		{[]string{"sid"}, all, "/out/smt"},
		{[]string{"sid", "trixie"}, all, "/out/trixie/smt"},
	} {
		o := &options{kernels: tt.kernels, profiles: tt.profiles, vm: vm.Options{Out: "/out"}}
		dirs, names := make(map[string]bool), make(map[string]bool)
		last := ""
		for _, kernel := range tt.kernels {
			for _, p := range tt.profiles {
				last = o.subdir(kernel, &p)
				dirs[last], names[p.Of(kernel)] = true, true
			}
		}
		assert.Equal(t, tt.last, last)
		assert.Len(t, dirs, len(tt.kernels)*len(tt.profiles))
		assert.Len(t, names, len(tt.kernels)*len(tt.profiles))
	}
}
