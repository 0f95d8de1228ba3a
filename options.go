package hotplugtest

import (
	"flag"
	"time"
)

// Options say what to run. The zero value of each field is its default.
type Options struct {
	CPUs    string        // cpulist of the CPUs that may be taken offline; default: any that can be and is online
	AllCPUs bool          // probe each of those; default: some that differ in where they are, at most four
	Cycles  int           // probes of each CPU in each case; default: 1
	Cpusets int           // how many cpusets come before the child that is probed from; default: 5000
	Soak    time.Duration // for how long to soak; default: not at all
	Require string        // regular expression: a test of a matching name fails where it would be skipped; default: none

	// MustTest makes a run fail that tests nothing, because the machine does not
	// allow it or because each test is skipped; default: such a run passes.
	MustTest bool

	// SoakContinue makes a soak go on after a failure.
	SoakContinue bool

	// Destructive has those rows run, too, that may take a kernel down that is broken.
	Destructive bool

	// Sleep has the machine really sleep, until the real-time clock wakes it, and hibernate up to the image. A machine whose
	// clock cannot wake it does not wake.
	Sleep bool
}

// Flags defines a flag for each option: -cpus, -all-cpus, -cycles, -cpusets, -soak, -soak-continue, -require, -must-test,
// -destructive and -sleep. The default of -must-test is what MustTest is by then.
func (o *Options) Flags(flags *flag.FlagSet) {
	flags.StringVar(&o.CPUs, "cpus", "", "`cpulist` of the CPUs that may be taken offline (default any that is online and can be)")
	flags.BoolVar(&o.AllCPUs, "all-cpus", false, "probe each CPU (default some that differ in where they are)")
	flags.IntVar(&o.Cycles, "cycles", 1, "probes of each CPU in each case")
	flags.IntVar(&o.Cpusets, "cpusets", 5000, "how many cpusets come before the child that is probed from")
	flags.DurationVar(&o.Soak, "soak", 0, "for how long TestSoak is to take CPUs offline and online under changing workloads")
	flags.BoolVar(&o.SoakContinue, "soak-continue", false, "don't end the soak with the first failure")
	flags.StringVar(&o.Require, "require", "", "`regexp` of tests that fail where they would be skipped")
	flags.BoolVar(&o.MustTest, "must-test", o.MustTest, "fail if nothing is tested")
	flags.BoolVar(&o.Sleep, "sleep", false, "really suspend, too: the real-time clock has to be able to wake the machine")
	flags.BoolVar(&o.Destructive, "destructive", false, "run what may take a broken kernel down, too")
}
