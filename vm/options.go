package vm

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/cli"
)

// Options describe the VM. The zero value of each field but Kernel is its
// default.
type Options struct {
	Kernel  string        // the path of a kernel, a package or a directory, or a Debian suite: see kernel.Resolve; there is no default
	SMP     string        // CPUs, as in QEMU's -smp; "": 4
	Mem     string        // memory, as in QEMU's -m; "": 1G
	Append  string        // more of the kernel's command line
	QEMU    []string      // more of QEMU's arguments
	Timeout time.Duration // for the VM, boot included; 0: what the program's -test.timeout says, or 10 minutes, and the time to boot
	Out     string        // directory that console.log goes to; "": it is kept only when the run fails
	Pokes   []string      // changes of the kernel's text, as in ParsePoke
	Delays  []string      // functions whose calls wait, as in ParseDelay
	Modules []string      // modules of the kernel to load, each with its parameters after it: "null_blk nr_devices=1"
	Packed  bool          // a bzImage boots as it is: see the flag
	// OneThread emulates all CPUs in one thread of the host. Otherwise, each has
	// a thread of its own.
	OneThread bool
	Init      string // the guest's init, as of WriteInit; "": it is built
	GDB       string // path of a socket where QEMU's gdb stub listens, and the VM waits for gdb, before its first instruction or after the pokes were written; "": it does not
	Shell     string // path of a busybox that gives the user's terminal a shell if the program stops or fails; "": none

	stall time.Duration // how long the guest may stand still; 0: stallLimit
}

// ConsoleFile is the file in [Options.Out] with what the kernel said.
const ConsoleFile = "console.log"

// Defaults of what a command line may leave out.
const (
	DefaultKernel = "stable"
	KernelUsage   = "`kernel` to boot: the path of an image, a .deb, an .rpm, or a directory with a kernel, or a Debian suite with an optional flavour (bookworm, trixie/rt)"
)

const (
	defaultSMP = "4"
	defaultMem = "1G"
)

// Flags defines the options as flags, with their defaults; all but Kernel, Out,
// OneThread, Init, GDB and Shell.
func (o *Options) Flags(flags *flag.FlagSet) {
	flags.StringVar(&o.SMP, "smp", defaultSMP, "`CPUs`, as in QEMU's -smp (4,cores=2,threads=2)")
	flags.StringVar(&o.Mem, "mem", defaultMem, "`memory`, as in QEMU's -m")
	flags.StringVar(&o.Append, "append", "", "more of the kernel's `command line`")
	flags.Func("qemu", "more of QEMU's `arguments`, separated by blanks; may be repeated", func(s string) error {
		o.QEMU = append(o.QEMU, strings.Fields(s)...)
		return nil
	})
	flags.BoolVar(&o.Packed, "packed", false, "boot a bzImage as it is, not the kernel unpacked from it: that takes longer, but wakes from S3")
	flags.Func("timeout", "bound on the VM's `time`, boot included (default the program's -test.timeout, and 2m to boot)", func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("parse error")
		}
		if d <= 0 {
			return errors.New("a virtual machine takes time")
		}
		o.Timeout = d
		return nil
	})
	flags.Func("module", "load a `module` of the kernel's before the program starts, from its package or directory; parameters may follow: 'null_blk nr_devices=1'; may be repeated", func(s string) error {
		if len(strings.Fields(s)) == 0 {
			return errors.New("no module")
		}
		o.Modules = append(o.Modules, s)
		return nil
	})
	flags.Func("poke", "write into the kernel's text before the program starts: `SYMBOL[+OFFSET]=HEX`, =ret or =ret0, or CALLER:CALLEE=HEX or =nop (see docs/selftest.md); may be repeated", func(s string) error {
		_, err := ParsePoke(s)
		o.Pokes = append(o.Pokes, s)
		return err
	})
	flags.Func("delay", "have each call of a kernel function wait first: `SYMBOL=DURATION` (see docs/selftest.md); may be repeated", func(s string) error {
		_, err := parseDelays(append(o.Delays, s))
		o.Delays = append(o.Delays, s)
		return err
	})
}

// The forms of QEMU's -smp and -m.
var (
	smpForm = regexp.MustCompile(`^(` + smpKeys + `=)?[1-9]\d*(,` + smpKeys + `=[1-9]\d*)*$`)
	memForm = regexp.MustCompile(`(?i)^(?:size=)?(\d+(?:\.\d+)?)([KMGT]?)(,[a-z]+=\w+)*$`)
)

const smpKeys = `(?:cpus|maxcpus|drawers|books|sockets|dies|clusters|modules|cores|threads)`

// leastMem is what no kernel boots without, in MiB.
const leastMem = 64

// Check returns an error that names a number of CPUs or an amount of memory with
// which QEMU would end, or the kernel not begin.
func (o *Options) Check() error {
	if o.SMP != "" && !smpForm.MatchString(o.SMP) {
		return fmt.Errorf("-smp %s: it must be a number of CPUs, and what they are made of may follow: 4,cores=2,threads=2", o.SMP)
	}
	if o.Mem == "" {
		return nil
	}
	m := memForm.FindStringSubmatch(o.Mem)
	if m == nil {
		return fmt.Errorf("-mem %s: it must be an amount of memory, such as 512M or 2G", o.Mem)
	}
	shift := map[string]int{"K": -10, "": 0, "M": 0, "G": 10, "T": 20}[strings.ToUpper(m[2])]
	if n, err := strconv.ParseFloat(m[1], 64); err != nil || math.Ldexp(n, shift) < leastMem {
		return fmt.Errorf("-mem %s: a virtual machine takes %dM or more", o.Mem, leastMem)
	}
	return nil
}

// Changes returns the flags that change the text of the running kernel, as a
// shell reads them, or "": with them the kernel is not the one of its package.
func (o *Options) Changes() string {
	var flags []string
	for _, s := range o.Pokes {
		flags = append(flags, "-poke", s)
	}
	for _, s := range o.Delays {
		flags = append(flags, "-delay", s)
	}
	return cli.Quoted(flags...)
}

// Changed returns a kernel for people, with the flags that change it.
func (o *Options) Changed(kernel string) string {
	if flags := o.Changes(); flags != "" {
		return kernel + " changed by " + flags
	}
	return kernel
}
