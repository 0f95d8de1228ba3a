package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/vm"
)

// profile is a way to boot a kernel, for the rows that show something only
// there: those of the suite that need it run wherever it is booted so, in these
// VMs as on a real machine.
type profile struct {
	name   string
	append string // more of the kernel's command line
	smp    string // CPUs, as in QEMU's -smp, where the command line is about a number of them; "": those of the flag -smp
	mem    string // memory, as in QEMU's -m, where the machine is about it; "": that of the flag -mem
	qemu   []string
	packed bool     // see vm.Options
	args   []string // for the test binary
	run    string   // tests to run, as in go test -run, if the flag -run does not say; "": all
	skip   string   // tests to leave out, as in go test -skip
	apart  bool     // it is not part of "all"
}

const defaultProfile = "default"

const suspendOfIsolated = "^TestSuspend$/^last-housekeeping$"

var profiles = []profile{
	{name: defaultProfile},
	// One CPU is left for all that is not pinned, and that one cannot go.
	{name: "isolcpus", append: "isolcpus=0-2", smp: "4", skip: suspendOfIsolated},
	// The isolated one is alone in its root domain, and the first that goes
	// since the kernel was booted.
	{name: "isolcpus-one", append: "isolcpus=1", smp: "4", run: "^TestOffline$/^at-return$"},
	// Its row has not been passed by a kernel yet. What comes after it would be
	// lost each time.
	{name: "isolcpus-suspend", append: "isolcpus=0-2", smp: "4", run: suspendOfIsolated, apart: true},
	// CPU 0 keeps the time for the others.
	{name: "nohz_full", append: "nohz_full=1-3 rcu_nocbs=1-3", smp: "4"},
	// The CPU that keeps the time is the only one with a tick, and of the others
	// two have never been online.
	{name: "nohz_full-maxcpus", append: "maxcpus=2 nohz_full=1-3 rcu_nocbs=1-3", smp: "4"},
	// Handlers of interrupts are threads.
	{name: "threadirqs", append: "threadirqs"},
	// A periodic tick, at which timers expire.
	{name: "lowres", append: "highres=off nohz=off"},
	{name: "smt", smp: "4,cores=2,threads=2"},
	// Second threads are present, and offline since boot.
	{name: "nosmt", append: "nosmt", smp: "4,cores=2,threads=2"},
	// One core is present that has never been online, and the second thread of
	// the other.
	{name: "nosmt-maxcpus", append: "nosmt maxcpus=2", smp: "4,cores=2,threads=2"},
	// Two CPUs are present that have never been online.
	{name: "maxcpus", append: "maxcpus=2", smp: "4"},
	{name: "numa", smp: "4,sockets=2,cores=2", mem: "1G", qemu: []string{
		"-object", "memory-backend-ram,id=near,size=512M", "-numa", "node,nodeid=0,cpus=0-1,memdev=near",
		"-object", "memory-backend-ram,id=far,size=512M", "-numa", "node,nodeid=1,cpus=2-3,memdev=far",
	}},
	// systemd's word, which the VM's init knows too.
	{name: "cgroup-v1", append: "systemd.unified_cgroup_hierarchy=0"},
	{name: "cgroup-v1-v2mode", append: "systemd.unified_cgroup_hierarchy=0 guest.cpuset=cpuset_v2_mode"},
	// QEMU's clock does not wake a system that is in freeze: that takes an ACPI
	// event, which it raises only in S3.
	{name: "sleep", packed: true, args: []string{"-sleep"}, run: "^TestSuspend$", skip: "^TestSuspend$/^freeze$"},
}

// profilesOf returns the profile of a name, or for "all" all but those apart.
func profilesOf(name string) ([]profile, error) {
	if name == "all" {
		return slices.DeleteFunc(slices.Clone(profiles), func(p profile) bool { return p.apart }), nil
	}
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no such profile, only %s, and all", strings.Join(profileNames(), ", "))
	}
	return profiles[i : i+1], nil
}

func profileNames() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// options are those of a VM that is booted so.
func (p *profile) options(o vm.Options, arch string) vm.Options {
	o.SMP = cmp.Or(p.smp, o.SMP)
	o.Mem = cmp.Or(p.mem, o.Mem)
	o.QEMU = slices.Concat(p.qemu, o.QEMU)
	o.Packed = o.Packed || p.packed
	o.Append = joined(" ", bootArgs[arch], p.append, o.Append)
	return o
}

// of is the name under which results go: the kernel's alone by default, as in
// bookworm and bookworm/isolcpus.
func (p *profile) of(kernel string) string {
	if p.name == defaultProfile {
		return kernel
	}
	return kernel + "/" + p.name
}

// subdir is the directory for what one VM leaves: below that of all a level for
// the kernel and one for the profile, where there are several of them.
func (o *options) subdir(kernel string, p *profile) string {
	dir := o.vm.Out
	if len(o.kernels) > 1 {
		dir = filepath.Join(dir, kernel)
	}
	if len(o.profiles) > 1 {
		dir = filepath.Join(dir, p.name)
	}
	return dir
}

// withoutRepeats is the list with the first of each name alone.
func withoutRepeats(list []profile) []profile {
	var once []profile
	for _, p := range list {
		if !slices.ContainsFunc(once, func(q profile) bool { return q.name == p.name }) {
			once = append(once, p)
		}
	}
	return once
}

// joined joins those of the texts that are not empty.
func joined(sep string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), sep)
}
