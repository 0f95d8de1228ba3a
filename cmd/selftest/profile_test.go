package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm"
)

func TestProfileOptions(t *testing.T) {
	given := vm.Options{Kernel: "trixie", SMP: "8", Mem: "2G", Append: "quiet", QEMU: []string{"-S"}}
	for _, tt := range []struct {
		profile profile
		arch    string
		want    vm.Options
	}{
		{profile{name: "default"}, "amd64", vm.Options{Kernel: "trixie", SMP: "8", Mem: "2G", Append: "cpu0_hotplug quiet", QEMU: []string{"-S"}}},
		{profile{name: "default"}, "arm64", given},
		{
			profile{name: "p", append: "nosmt", smp: "4,cores=2,threads=2", mem: "1G", qemu: []string{"-numa", "node"}}, "amd64",
			vm.Options{Kernel: "trixie", SMP: "4,cores=2,threads=2", Mem: "1G", Append: "cpu0_hotplug nosmt quiet", QEMU: []string{"-numa", "node", "-S"}},
		},
	} {
		assert.Equal(t, tt.want, tt.profile.options(given, tt.arch))
	}
}

func TestProfilesOf(t *testing.T) {
	all, err := profilesOf("all")
	require.NoError(t, err)
	var names, apart []string
	for _, p := range all {
		names = append(names, p.name)
	}
	for _, p := range profiles {
		if p.apart {
			apart = append(apart, p.name)
		}
	}
	assert.ElementsMatch(t, profileNames(), append(names, apart...))
	assert.Equal(t, []string{"isolcpus-suspend"}, apart)
	assert.Equal(t, "default", names[0])
	for _, name := range append(names, apart...) {
		one, err := profilesOf(name)
		require.NoError(t, err)
		require.Len(t, one, 1)
		assert.Equal(t, name, one[0].name)
	}
	_, err = profilesOf("")
	assert.Error(t, err)
}

// A profile's own choice of tests is what runs if the user has none.
func TestProfileTests(t *testing.T) {
	p := &profile{run: "TestA", skip: "TestB", args: []string{"-sleep", "-cycles=1"}}
	for _, tt := range []struct{ run, want string }{{"", "TestA"}, {"TestC", "TestC"}} {
		argv := (&options{run: tt.run, args: []string{"-cycles=2"}}).argv("binary", p)
		assert.Contains(t, argv, "-test.run="+tt.want)
		assert.Contains(t, argv, "-test.skip=TestB")
		assert.Contains(t, argv, "-destructive")
		assert.Contains(t, argv, "-sleep")
		assert.Equal(t, "-cycles=2", argv[len(argv)-1], "what the user says is the last word")
	}
}

// Each VM has its console in a directory of its own, and its results under a
// name of their own.
func TestProfileNames(t *testing.T) {
	isolated, all := []profile{{name: "isolcpus"}}, []profile{{name: "default"}, {name: "smt"}}
	for _, tt := range []struct {
		kernels  []string
		profiles []profile
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
				dirs[last], names[p.of(kernel)] = true, true
			}
		}
		assert.Equal(t, tt.last, last)
		assert.Len(t, dirs, len(tt.kernels)*len(tt.profiles))
		assert.Len(t, names, len(tt.kernels)*len(tt.profiles))
	}
	assert.Equal(t, "sid", profiles[0].of("sid"))
	assert.Equal(t, "sid/isolcpus", isolated[0].of("sid"))
}
