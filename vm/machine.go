package vm

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// The accelerators.
const (
	kvm = "kvm"
	tcg = "tcg,thread=multi"
	// All CPUs take turns.
	tcgInOneThread = "tcg,thread=single"
)

// machine is how QEMU plays a computer of one architecture.
type machine struct {
	qemu    string // the system emulator
	pkg     string // Debian's package of it
	board   string
	cpu     string   // the CPU model under emulation
	console string   // the kernel's console, as in console=; the first serial line
	line    string   // the line of the conversation with init; the second
	ret     []byte   // "return at once", in memory order
	ret0    []byte   // "return 0 at once"; nil: not known
	calls   bool     // its calls are those of x86, so that pokes can find and make them
	serial  []string // options of the kernel that its serial lines need
}

// needs are the options that a kernel must have built in to run a program here:
// for its init, for programs made by Go, and for the two serial lines.
func (m machine) needs() []string {
	return append([]string{"BLK_DEV_INITRD", "BINFMT_ELF", "PROC_FS", "SYSFS", "DEVTMPFS", "PRINTK", "TTY", "FUTEX", "EPOLL"}, m.serial...)
}

// Serial lines are all that is asked of a guest: the drivers for them are built
// into distribution kernels, those for disks, networks and 9p are not. No
// display and no network card also mean no ROMs to initialise, which take
// longer than the kernel's own boot.
var machines = map[string]machine{
	"amd64": {
		qemu: "qemu-system-x86_64", pkg: "qemu-system-x86", console: "ttyS0", line: "ttyS1",
		board: "pc",
		// Only of an Intel CPU does every kernel read the threads of -smp
		// …,threads=2, and only of one that is new enough does it take the time
		// stamp counter for constant. Else it calibrates each CPU by waiting
		// for ticks, which takes half a second, and on a busy machine fails, or
		// never ends. This model, an Atom, does not speculate: around page
		// tables of its own and retpolines a kernel is a fifth slower. QEMU's
		// MWAIT does not wait, and v5.10 would use it to be idle.
		cpu: "max,vendor=GenuineIntel,family=6,model=54,-monitor",
		ret: []byte{0xc3}, ret0: []byte{0x31, 0xc0, 0xc3}, calls: true,
		serial: []string{"SERIAL_8250", "SERIAL_8250_CONSOLE"},
	},
	"arm64": {
		qemu: "qemu-system-aarch64", pkg: "qemu-system-arm", console: "ttyAMA0", line: "ttyAMA1", // the second since QEMU 9.1
		board: "virt", cpu: "cortex-a72",
		// ret; and mov w0, #0 before it
		ret: []byte{0xc0, 0x03, 0x5f, 0xd6}, ret0: []byte{0, 0, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6},
		serial: []string{"SERIAL_AMBA_PL011", "SERIAL_AMBA_PL011_CONSOLE"},
	},
}

// bootArgs are for every kernel: it says why it dies, then stops instead of
// waiting, and does without two checks that an emulator on a busy machine can
// fail. That of the timer interrupt takes time. That of the TSC by the
// clocksource watchdog calls it unstable, and if a CPU comes online just then,
// two that wait to compare theirs may wait for ever, in 6.1 at least:
// check_tsc_sync_source() returns at once for a TSC that is unstable, while
// check_tsc_sync_target() saw it when it was not.
//
// When the host asks what it is at, it answers each SysRq, and an NMI, by a
// panic with what each CPU does (0x40).
const bootArgs = "panic=-1 oops=panic no_timer_check tsc=nowatchdog no_console_suspend sysrq_always_enabled unknown_nmi_panic panic_print=0x40"

// consoleID is QEMU's name for the other end of the console.
const consoleID = "console"

// commandLine is QEMU's, without the emulator itself.
func (m machine) commandLine(vm *VM, accel string) []string {
	cpu := m.cpu
	if accel == kvm {
		cpu = "host"
	}
	args := []string{
		"-machine", m.board, "-cpu", cpu, "-accel", accel,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-smp", cmp.Or(vm.opts.SMP, defaultSMP), "-m", cmp.Or(vm.opts.Mem, defaultMem),
		"-kernel", vm.boots(), "-initrd", vm.initrd,
		"-append", strings.TrimSpace(fmt.Sprintf("console=%s %s %s", m.console, vm.bootArgs(accel), vm.opts.Append)),
		"-chardev", "file,id=" + consoleID + ",path=" + quote(vm.console) + ",input-path=" + quote(vm.keys+".in"), "-serial", "chardev:" + consoleID,
		"-chardev", "pipe,id=line,path=" + quote(vm.line), "-serial", "chardev:line",
		"-chardev", "pipe,id=monitor,path=" + quote(vm.qmp), "-mon", "chardev=monitor,mode=control",
	}
	switch {
	case vm.changed():
		args = append(args, "-gdb", "unix:"+quote(vm.gdb)+",server=on,wait=off")
	case vm.opts.GDB != "":
		args = append(args, "-S", "-gdb", "unix:"+quote(vm.opts.GDB)+",server=on,wait=off")
	}
	return append(args, vm.opts.QEMU...)
}

// CommandLine returns QEMU's command line for a VM with these options, of the
// kernel that was prepared, for people: what is made for one run, such as the
// initramfs, has a name without a directory.
func (vm *VM) CommandLine(opts Options) []string {
	of := &VM{
		opts: opts, machine: vm.machine, image: vm.image,
		initrd: "initramfs", console: ConsoleFile, keys: "keys", line: "line", qmp: "qmp", gdb: "gdb",
		pokes: vm.pokes, delays: vm.delays, clock: vm.clock,
	}
	accel := opts.emulation()
	if vm.machine.native() && kvmFails(vm.cache) != "" {
		accel = kvm
	}
	return append([]string{filepath.Base(vm.emulator)}, vm.machine.commandLine(of, accel)...)
}

// emulation is the accelerator that emulates.
func (o *Options) emulation() string {
	if o.OneThread {
		return tcgInOneThread
	}
	return tcg
}

// quote is a value in a list of QEMU's, where a comma is written as two.
func quote(value string) string { return strings.ReplaceAll(value, ",", ",,") }
