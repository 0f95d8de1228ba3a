// Package profile has the ways to boot a kernel that some promises need.
package profile

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/vm"
)

// A Profile is a way to boot a kernel, for the rows that show something only
// there: those of the suite that need it run wherever it is booted so, in a VM
// as on a real machine.
type Profile struct {
	Name   string
	Append string // more of the kernel's command line
	SMP    string // CPUs, as in QEMU's -smp, where the command line is about a number of them; "": those of the flag -smp
	Mem    string // memory, as in QEMU's -m, where the machine is about it; "": that of the flag -mem
	QEMU   []string
	Packed bool // see vm.Options

	OneThread bool     // see vm.Options
	Modules   []string // see vm.Options
	Args      []string // for the test binary
	Run       string   // tests to run, as in go test -run, if the flag -run does not say; "": all
	Skip      string   // tests to leave out, as in go test -skip
	Apart     bool     // it is not part of "all"
	Arch      string   // the GOARCH that it is for; "": each
}

// Default is the name of the profile that boots a kernel as it is.
const Default = "default"

// Panicking are the scenarios that kernels are known to panic in, however they
// are booted: all so far in deadline-ended, 7.2 and newer in suspend-isolated.
// What comes after one of them in a virtual machine is lost then, so each runs
// only where it is named.
var Panicking = []string{"deadline-ended", "suspend-isolated"}

const suspendOfIsolated = "^TestSuspend$/^last-housekeeping$"

var all = []Profile{
	{Name: Default},
	// One CPU is left for all that is not pinned, and that one cannot go.
	{Name: "isolcpus", Append: "isolcpus=0-2", SMP: "4", Skip: suspendOfIsolated},
	// The isolated one is alone in its root domain, and the first that goes
	// since the kernel was booted.
	{Name: "isolcpus-one", Append: "isolcpus=1", SMP: "4", Run: "^TestOffline$/^at-return$"},
	// Its row has not been passed by a kernel yet. What comes after it would be
	// lost each time.
	{Name: "isolcpus-suspend", Append: "isolcpus=0-2", SMP: "4", Run: suspendOfIsolated, Apart: true},
	// CPU 0 keeps the time for the others.
	{Name: "nohz_full", Append: "nohz_full=1-3 rcu_nocbs=1-3", SMP: "4"},
	// The CPU that keeps the time is the only one with a tick, and of the others
	// two have never been online.
	{Name: "nohz_full-maxcpus", Append: "maxcpus=2 nohz_full=1-3 rcu_nocbs=1-3", SMP: "4"},
	// Handlers of interrupts are threads.
	{Name: "threadirqs", Append: "threadirqs"},
	// A periodic tick, at which timers expire.
	{Name: "lowres", Append: "highres=off nohz=off"},
	// An AMD processor that says little of its caches, of which the kernel makes
	// up the rest.
	{Name: "amd", Arch: "amd64", QEMU: []string{"-cpu", "max,vendor=AuthenticAMD,family=23,model=1,-topoext,-monitor"}},
	{Name: "smt", SMP: "4,cores=2,threads=2"},
	// Second threads are present, and offline since boot.
	{Name: "nosmt", Append: "nosmt", SMP: "4,cores=2,threads=2"},
	// One core is present that has never been online, and the second thread of
	// the other.
	{Name: "nosmt-maxcpus", Append: "nosmt maxcpus=2", SMP: "4,cores=2,threads=2"},
	// Two CPUs are present that have never been online.
	{Name: "maxcpus", Append: "maxcpus=2", SMP: "4"},
	// A CPU is plugged in while the kernel runs. The more places there are, the
	// more often QEMU can do so. x86 kernels, v6.12.y and v6.18 among them, do
	// not believe in an empty place on a machine without a hypervisor, and TCG's
	// is none that they know, so this one passes for VMware's.
	{Name: "hot-add", Arch: "amd64", SMP: "3,maxcpus=32", Args: []string{"-hot-add=/init add-cpu"}, QEMU: []string{
		"-global", "max-x86_64-cpu.hypervisor=off", "-smbios", "type=1,serial=VMware-0",
	}},
	{Name: "numa", SMP: "4,sockets=2,cores=2", Mem: "1G", QEMU: []string{
		"-object", "memory-backend-ram,id=near,size=512M", "-numa", "node,nodeid=0,cpus=0-1,memdev=near",
		"-object", "memory-backend-ram,id=far,size=512M", "-numa", "node,nodeid=1,cpus=2-3,memdev=far",
	}},
	// What is in modules of the kernel: a disk with a queue and an interrupt for
	// each CPU, whose reads take longer than an operation, swap space, timers that
	// expire in a softirq, and errors of suspends.
	{
		Name: "modules", SMP: "4", Append: "guest.disk=nvme0n1 guest.swap=zram0 zswap.enabled=1",
		QEMU:    []string{"-drive", "if=none,id=disk,driver=null-co,size=64M,latency-ns=500000000", "-device", "nvme,serial=1,drive=disk,max_ioqpairs=4"},
		Modules: []string{"nvme", "zram", "can-bcm", "pm-notifier-error-inject"},
		Run:     "^TestScenario$/^(block-reads|swap|soft-timers)$|^TestSuspend$/^mem-notified$",
		Apart:   true, // an image alone has no modules
	},
	// The tick has to look for the timers that expire in a softirq.
	{Name: "lowres-modules", Append: "highres=off nohz=off", Modules: []string{"can-bcm"}, Run: "^TestScenario$/^soft-timers$", Apart: true},
	// The registers of each CPU can be read by a module.
	{Name: "msr", Arch: "amd64", SMP: "4", Modules: []string{"msr"}, Run: "^TestScenario$/^memory-types$", Apart: true},
	// systemd's word, which the VM's init knows too.
	{Name: "cgroup-v1", Append: "systemd.unified_cgroup_hierarchy=0"},
	{Name: "cgroup-v1-v2mode", Append: "systemd.unified_cgroup_hierarchy=0 guest.cpuset=cpuset_v2_mode"},
	// To start and end a BPF scheduler, the kernel changes code that all CPUs run
	// all the time. QEMU with a thread for each CPU does not emulate that well: a
	// CPU can stop at a breakpoint that another one has long removed. The rows
	// are apart, as 7.2 and 7.3 hang in one of them now and then.
	{Name: "sched-ext", Append: "guest.emulation=one-thread", OneThread: true, Run: "^TestScenario$/^sched-ext-", Apart: true},
	// QEMU's clock does not wake a system that is in freeze: that takes an ACPI
	// event, which it raises only in S3.
	{Name: "sleep", Packed: true, Args: []string{"-sleep"}, Run: "^TestSuspend$", Skip: "^TestSuspend$/^freeze$"},
}

// All returns the profiles.
func All() []Profile { return slices.Clone(all) }

// Names returns their names.
func Names() []string {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

// Named returns the profile of a name, or for "all" all but those apart.
func Named(name string) ([]Profile, error) {
	if name == "all" {
		return slices.DeleteFunc(All(), func(p Profile) bool { return p.Apart }), nil
	}
	for _, p := range all {
		if p.Name == name {
			return []Profile{p}, nil
		}
	}
	return nil, fmt.Errorf("there is no such profile, only %s, and all", strings.Join(Names(), ", "))
}

// For returns those of the profiles that are for an architecture. The error
// names the first of the others if there are none.
func For(list []Profile, arch string) ([]Profile, error) {
	fit := slices.DeleteFunc(slices.Clone(list), func(p Profile) bool { return p.Arch != "" && p.Arch != arch })
	if len(fit) == 0 && len(list) > 0 {
		return nil, fmt.Errorf("-profile %s: it is for %s, not for %s", list[0].Name, list[0].Arch, arch)
	}
	return fit, nil
}

// Flag defines the flag -profile, each use of which adds to list what it names.
func Flag(flags *flag.FlagSet, list *[]Profile) {
	usage := "`name` of a way to boot the kernel: " + strings.Join(Names(), ", ") + ", or all, each in a VM of its own; may be repeated (default " + Default + ")"
	flags.Func("profile", usage, func(name string) error {
		more, err := Named(name)
		for _, p := range more {
			if !slices.ContainsFunc(*list, func(q Profile) bool { return q.Name == p.Name }) {
				*list = append(*list, p)
			}
		}
		return err
	})
}

// Options are those of a VM that is booted so, with o for the rest.
func (p *Profile) Options(o vm.Options) vm.Options {
	o.SMP = cmp.Or(p.SMP, o.SMP)
	o.Mem = cmp.Or(p.Mem, o.Mem)
	o.QEMU = slices.Concat(p.QEMU, o.QEMU)
	o.Packed = o.Packed || p.Packed
	o.OneThread = o.OneThread || p.OneThread
	o.Modules = slices.Concat(p.Modules, o.Modules)
	o.Append = strings.Trim(p.Append+" "+o.Append, " ")
	return o
}

// Of is the name under which the results of a kernel go: the kernel's alone by
// default, as in bookworm and bookworm/isolcpus.
func (p *Profile) Of(kernel string) string {
	if p.Name == Default {
		return kernel
	}
	return kernel + "/" + p.Name
}
