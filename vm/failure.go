package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

// failure says how a VM ended that did not say so itself: QEMU with the error
// ended, which can be nil, and stderr.
func (vm *VM) failure(g *guest, ended error, stderr string) error {
	when := beforeProgram
	if g.started {
		when = "while the program ran"
	}
	f := vm.failed("the VM ended "+when, g.started)
	switch {
	case f.Console == "" && stderr != "":
		// Nothing has run. QEMU does not like what it was given.
		return errors.New(complaint(stderr))
	case strings.Contains(f.Console, "Kernel panic"):
		f.What = fmt.Sprintf("the kernel panicked %s", when)
	case asserted.MatchString(stderr):
		f.What = fmt.Sprintf("%s: %s", f.What, complaint(stderr))
		f.Doubt, f.again = mayBeQEMU+"it found an error of its own", !g.started
	case signaled(ended):
		f.What = fmt.Sprintf("%s: QEMU: %v", f.What, ended)
		f.Doubt, f.again = killed, !g.started
	case stderr != "":
		f.What = fmt.Sprintf("%s: %s", f.What, complaint(stderr))
		if terminated.MatchString(stderr) {
			f.Doubt, f.again = killed, !g.started
		}
	case ended != nil:
		f.What = fmt.Sprintf("%s: QEMU: %v", f.What, ended)
	}
	f.What += g.linux()
	return f
}

func (vm *VM) failed(what string, started bool) *Failure {
	text, _ := os.ReadFile(vm.console)
	return &Failure{What: what, Console: crash(string(text)), Log: vm.console, Started: started, breakpoint: breakpoint(string(text))}
}

// mayBeQEMU begins a doubt about an emulator.
const mayBeQEMU = "this may be QEMU's doing: "

// The kernel changes its own code by breakpoints: it sets one, waits until all
// CPUs know, and takes it away. foreign matches a crash at one that is gone,
// changing a CPU that waits for the others, and trapped one that meets it. One
// that traps for ever stands at what a static branch is made of, a jump or a nop:
// patched matches it with the two bytes before.
var (
	foreign  = regexp.MustCompile(`\bint3: 0000 \[#1\]`)
	changing = regexp.MustCompile(`\b(text_poke_bp_batch|smp_text_poke_batch_finish)\+0x`)
	trapped  = regexp.MustCompile(`\b((asm_)?exc_int3|(smp_text_)?poke_int3_handler)\+0x`)
	patched  = regexp.MustCompile(`\bCode: .*(\w\w \w\w) <(?:eb> |e9> |66> 90|0f> 1f 44)`)
)

// asserted matches what QEMU says when it gives up on itself, by assert(3) or
// GLib's: no guest may make it do so.
var asserted = regexp.MustCompile(`(?m)(: Assertion .* failed\.|^ERROR:.*: assertion failed)`)

// terminated matches what QEMU says if it is asked to end, as by SIGTERM.
var terminated = regexp.MustCompile(`(?m)^qemu.*: terminating on signal \d+`)

// killed is the doubt if a signal ended QEMU that this program did not send.
const killed = mayBeQEMU + "a signal from outside ended it, as when this machine's memory runs out, or it crashed"

// signaled reports whether a process ended by a signal that it did not catch.
func signaled(ended error) bool {
	exit := new(exec.ExitError)
	if !errors.As(ended, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// breakpoint is the doubt that the console's text gives about a kernel that
// crashed at a breakpoint, or stands at one: on an emulated CPU they can stay
// after they are gone, now and then.
func breakpoint(text string) string {
	switch {
	case foreign.MatchString(text):
		return mayBeQEMU + "a processor that it emulates met a breakpoint that another one had removed from the kernel's code"
	case changing.MatchString(text) && trapped.MatchString(text):
		return mayBeQEMU + "a processor that it emulates does not get past a breakpoint in the kernel's code, and another one waits for it"
	case trapped.MatchString(text) && slices.ContainsFunc(patched.FindAllStringSubmatch(text, -1), notPausing):
		return mayBeQEMU + "a processor that it emulates stands where the kernel's code is changed, and may not get past a breakpoint that is gone"
	}
	return ""
}

// notPausing reports whether what patched matches is no jump in a loop that waits
// for a lock: that comes after a pause.
func notPausing(m []string) bool { return m[1] != "f3 90" }

// consoleLines is how much of the console is shown, in lines. It is all in a
// file.
const consoleLines = 30

// The kinds of the kernel's complaints by which it ends, with those that it may
// outlive, and of those that explain why it stands still.
var (
	oops     = []string{"oops"}
	fatal    = []string{"bug", "oops"}
	standing = []string{"lockup", "RCU stall", "hung task"}
)

// stamp matches what the console puts before each record, and noise what makes
// the text of a crash longer than clear: registers, and frames that may be
// leftovers on the stack.
var (
	stamp = regexp.MustCompile(`^\[ *(\d+\.\d+)\](\[ *[TC]\d+\])? `)
	noise = regexp.MustCompile(`^ *\? |^(R([ABCD]X|[SD]I|BP|SP|\d\d)|[CDF]S|CR\d|DR\d|PKRU|Code|Modules linked in|Hardware name): ?`)
)

// crash picks what matters of the console's text: what the kernel said of its
// crash, or else of what stands still, or else the end.
func crash(text string) string {
	lines := strings.Split(strings.TrimSpace(plain(text)), "\n")
	start := crashAt(lines)
	if start < 0 {
		start = complaintAt(lines, standing)
	}
	if start < 0 {
		start = slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "sysrq: Show Blocked State") })
	}
	if start < 0 {
		return strings.Join(lines[max(0, len(lines)-consoleLines):], "\n")
	}
	lines = slices.DeleteFunc(lines[start:], func(line string) bool { return noise.MatchString(record(line)) })
	return strings.Join(lines[:min(len(lines), consoleLines)], "\n")
}

// record is the text of a record on the console.
func record(line string) string { return line[len(stamp.FindString(line)):] }

// A kernel that has an oops panics within dyingTime: an emulated processor took
// 12 s. It may be of a BUG up to causeTime before. The kernel outlives an earlier
// one, which can be of another test.
const (
	dyingTime = time.Minute
	causeTime = 10 * time.Second
)

// crashAt returns the index of the line that the kernel's crash begins with, or
// -1.
func crashAt(lines []string) int {
	for i, line := range slices.Backward(lines) {
		if complains(line, oops) {
			i = firstWithin(lines[:i+1], oops, dyingTime)
			return firstWithin(lines[:i+1], fatal, causeTime)
		}
	}
	for i, line := range slices.Backward(lines) {
		if complains(line, fatal) {
			return firstWithin(lines[:i+1], fatal, causeTime)
		}
	}
	return -1
}

// firstWithin returns the index of the first line that complains in one of these
// ways, at most d before the last line, which does.
func firstWithin(lines, kinds []string, d time.Duration) int {
	last, known := written(lines[len(lines)-1])
	return slices.IndexFunc(lines, func(line string) bool {
		at, ok := written(line)
		return complains(line, kinds) && (!known || !ok || last-at <= d)
	})
}

// written is when a line on the console was, in the kernel's time.
func written(line string) (at time.Duration, ok bool) {
	m := stamp.FindStringSubmatch(line)
	if m == nil {
		return 0, false
	}
	at, err := time.ParseDuration(m[1] + "s")
	return at, err == nil
}

// complaintAt returns the index of the first line that complains in one of
// these ways, or -1.
func complaintAt(lines, kinds []string) int {
	return slices.IndexFunc(lines, func(line string) bool { return complains(line, kinds) })
}

func complains(line string, kinds []string) bool {
	return slices.Contains(kinds, kmsg.Record{Text: record(line)}.Problem())
}

// plain is a text of the guest's without what cannot be printed.
func plain(text string) string {
	return strings.ReplaceAll(kmsg.Printable(text), "\uFFFD", "")
}

// What the lines begin with that a runner of VMs prints beside a program's own:
// all of them, and those of them with the kernel's console.
const (
	Prefix        = "vm: "
	ConsolePrefix = Prefix + "| "
)

// What the lines begin with after which it goes on: the one that says why KVM is
// not used, and the one about a boot that is tried again.
const (
	kvmPrefix   = Prefix + "by /dev/kvm: "
	againPrefix = Prefix + "once more: "
)

// What the text of a failure has if the VM did not get as far as its program.
const (
	beforeProgram = "before the program started"
	noProgram     = "the VM did not start a program within "
)

// NotStarted reports whether the text of a failure says that the VM did not get
// as far as to start the program: nothing can be told from that.
func NotStarted(what string) bool {
	return strings.Contains(what, beforeProgram) || strings.HasPrefix(what, noProgram)
}

// MayBeQEMU reports whether a line is the one by which a runner says that an
// emulator may have ended the VM, and not the kernel: once in a hundred runs.
func MayBeQEMU(line string) bool { return strings.HasPrefix(line, Prefix+mayBeQEMU) }

// Ends reports whether a line is of those by which a runner says how a VM ended,
// other than by the program's end.
func Ends(line string) bool {
	return strings.HasPrefix(line, Prefix) && !strings.HasPrefix(line, kvmPrefix) && !strings.HasPrefix(line, againPrefix)
}

// Print writes the failure for people, each line marked so that it can be told
// from the program's own.
func (f *Failure) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s%s\n", Prefix, f.What)
	if f.Console != "" {
		for line := range strings.Lines(f.Console) {
			fmt.Fprintf(w, "%s%s\n", ConsolePrefix, strings.TrimSuffix(line, "\n"))
		}
	}
	if f.Doubt != "" {
		fmt.Fprintf(w, "%s%s\n", Prefix, f.Doubt)
	}
	if f.Log != "" {
		fmt.Fprintf(w, "%sthe whole console is in %s\n", Prefix, f.Log)
	}
}

// keep moves a console's text to where it outlives the VM.
func keep(console string) string {
	data, err := os.ReadFile(console)
	if err != nil {
		return ""
	}
	f, err := os.CreateTemp("", "vm-console-*.log")
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return ""
	}
	return f.Name()
}

// native tells whether the machine is of the architecture that this runs on.
func (m machine) native() bool {
	return machines[runtime.GOARCH].qemu == m.qemu
}

// kvmFails returns the file that marks KVM as unfit until this machine's next
// boot, or "" where there is no KVM or it is marked already. A virtual machine
// can have a /dev/kvm that hangs whatever it is given, so only trying tells.
func kvmFails(cache string) string {
	if unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	mark := filepath.Join(cache, "kvm-fails-"+strings.TrimSpace(string(boot)))
	if _, err := os.Stat(mark); err == nil {
		return ""
	}
	return mark
}

// complaint is why QEMU says that it ends: the last line with its name, which
// hints can follow.
func complaint(stderr string) string {
	for _, line := range slices.Backward(strings.Split(stderr, "\n")) {
		if strings.HasPrefix(line, "qemu") {
			return strings.TrimSpace(line)
		}
	}
	return lastLine(stderr)
}

// lastLine is where programs say why they end.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
