package suite

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// Options say what to run. The zero value of each field is its default.
type Options struct {
	// Tables are the rows to run. nil: those of the package that opens the
	// suite.
	Tables *Tables

	// CPUs is the cpulist of the CPUs that may be taken offline. "": any that
	// can be and is online.
	CPUs string
	// AllCPUs probes each of those CPUs. Otherwise some are probed that differ
	// in where they are, at most four.
	AllCPUs bool
	// HotAdd is a command, with arguments that blanks separate, by which the
	// machine gets one more CPU, such as one of its hypervisor's. The machine
	// gets one at the beginning, which tests use like the others, and loses it
	// at the end, as it does all that others have added meanwhile. "": none,
	// and rows about hot-add are left out.
	HotAdd string
	// Cycles is how often each CPU is probed in each case. 0: once.
	Cycles int
	// Cpusets is how many cpusets come before the child that is probed from.
	// 0: 5000.
	Cpusets int
	// Soak is for how long to soak. 0: not at all.
	Soak time.Duration
	// Require is a regular expression: a test of a matching name fails instead
	// of being skipped. "": none.
	Require string

	// Known are lists of known defects: files, or "builtin" for the defects of
	// the rows of this module. A test that fails by one of them alone is
	// skipped, and says so. Lists match tests by the names that they have in
	// this module's own suite.
	Known []string

	// MustTest makes a run fail that tests nothing, because the machine does
	// not allow it or because each test is skipped. Otherwise such a run
	// passes.
	MustTest bool

	// OtherTests says that the test binary has other tests than the suite's:
	// see [Options.Conclude].
	OtherTests bool

	// SoakContinue makes a soak go on after a failure.
	SoakContinue bool
	// Settle is a pause before each operation, after the machine was brought
	// into the state before it. A kernel whose work was made late on purpose
	// finishes that of the operation before meanwhile: what was still waiting
	// would do the work of both. 0: no pause.
	Settle time.Duration
	// Stop stops the process, by SIGSTOP, at the end of the first test that
	// fails, for somebody to look at the machine as it is. SIGCONT makes it go
	// on.
	Stop bool
	// Destructive also runs rows that may crash a broken kernel.
	Destructive bool
	// Sleep makes the machine really sleep, until the real-time clock wakes
	// it, and hibernate up to the image. A machine whose clock cannot wake it
	// does not wake.
	Sleep bool
}

const (
	defaultCycles  = 1
	defaultCpusets = 5000
)

// Flags defines a flag for each option that a command line can have: -cpus,
// -all-cpus, -hot-add, -cycles, -cpusets, -soak, -soak-continue, -require,
// -known, -must-test, -settle, -stop, -destructive and -sleep. The default of
// each is what the option is by then.
func (o *Options) Flags(flags *flag.FlagSet) {
	flags.StringVar(&o.CPUs, "cpus", o.CPUs, "`cpulist` of the CPUs that may be taken offline (default any that is online and can be)")
	flags.BoolVar(&o.AllCPUs, "all-cpus", o.AllCPUs, "probe each CPU (default some that differ in where they are)")
	flags.StringVar(&o.HotAdd, "hot-add", o.HotAdd, "`command` by which the machine gets one more CPU, which it has for as long as the tests run")
	flags.IntVar(&o.Cycles, "cycles", cmp.Or(o.Cycles, defaultCycles), "probes of each CPU in each case")
	flags.IntVar(&o.Cpusets, "cpusets", cmp.Or(o.Cpusets, defaultCpusets), "how many cpusets come before the child that is probed from; 0: the default")
	flags.DurationVar(&o.Soak, "soak", o.Soak, "for how long TestSoak must take CPUs offline and online under changing workloads")
	flags.BoolVar(&o.SoakContinue, "soak-continue", o.SoakContinue, "don't end the soak with the first failure")
	flags.StringVar(&o.Require, "require", o.Require, "`regexp` of tests that fail instead of being skipped")
	flags.Func("known", "`file` of known defects, or builtin for those of the suite's rows: their failures don't fail the run; may be repeated", func(file string) error {
		o.Known = append(o.Known, file)
		return nil
	})
	flags.BoolVar(&o.MustTest, "must-test", o.MustTest, "fail if nothing is tested")
	flags.BoolVar(&o.Sleep, "sleep", o.Sleep, "really suspend, too: the real-time clock must be able to wake the machine")
	flags.DurationVar(&o.Settle, "settle", o.Settle, "pause before each operation, for a kernel whose work is made late on purpose")
	flags.BoolVar(&o.Stop, "stop", o.Stop, "stop the process, by SIGSTOP, at the first failure, for somebody to look at the machine")
	flags.BoolVar(&o.Destructive, "destructive", o.Destructive, "also run what may crash a broken kernel")
}

// CheckFlags is [Options.Check] when the command line was parsed. It also refuses
// an empty -cpus: a variable of a script may be empty, and all CPUs would go
// offline.
func (o *Options) CheckFlags(flags *flag.FlagSet) error {
	empty := false
	flags.Visit(func(f *flag.Flag) { empty = empty || f.Name == "cpus" && f.Value.String() == "" })
	if empty {
		return errNoCPU
	}
	return o.Check()
}

var errNoCPU = errors.New("-cpus: no CPU is given: leave the flag out if it may be any")

// Check says what of the options cannot be, on any machine, by the name of the
// flag.
func (o *Options) Check() error {
	switch {
	case o.Cycles < 0:
		return fmt.Errorf("-cycles %d: a CPU is probed once or more", o.Cycles)
	case o.Cpusets < 0:
		return fmt.Errorf("-cpusets %d: there are no fewer than none", o.Cpusets)
	case o.Soak < 0:
		return fmt.Errorf("-soak %v: a soak takes time", o.Soak)
	case o.Settle < 0:
		return fmt.Errorf("-settle %v: a pause takes time", o.Settle)
	}
	if cpus, err := affinity.ParseList(o.CPUs); err != nil {
		return fmt.Errorf("-cpus %q: %w", o.CPUs, err)
	} else if o.CPUs != "" && cpus.Empty() {
		return errNoCPU
	}
	if _, err := regexp.Compile(o.Require); err != nil {
		return fmt.Errorf("-require %w", err)
	}
	_, err := loadKnown(o.Known)
	return err
}

// withDefaults returns the options with their defaults filled in.
func (o Options) withDefaults() Options {
	o.Cycles = max(o.Cycles, defaultCycles)
	if o.Cpusets == 0 {
		o.Cpusets = defaultCpusets
	}
	return o
}
