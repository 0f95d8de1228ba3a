// Package vm runs one program in a virtual machine under a given kernel: no
// disk or network, just the program in an initramfs with an init of its own, the
// modules of the kernel that are asked for, and two serial lines. What the
// program prints, and how it ends, is the caller's as if it had run here.
//
// [Run] is all of it. It builds the init with the go command, which must be
// there, or takes [Options].Init.
package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/tsc"
	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

// boots is the file to boot. At every reset, and a wakeup from S3 is one, QEMU
// writes the segments of an ELF kernel into memory anew; of a bzImage it gives
// the boot loader's code a copy, which then stays out of it.
func (vm *VM) boots() string {
	if vm.opts.Packed {
		return vm.image.Given
	}
	return vm.image.Boot
}

const (
	bootLimit = 2 * time.Minute  // 64 emulated CPUs on two busy ones take 21 s
	kvmLimit  = 20 * time.Second // what hardware runs at all, it boots in 2 s
)

// VM is a virtual machine that is ready to run programs.
type VM struct {
	opts     Options
	machine  machine
	pokes    []Poke
	delays   delays
	cache    string // directory of what outlives a run
	emulator string // QEMU's path
	image    *kernel.Image
	modules  []kernel.Module
	init     []byte // the guest's init
	clock    string // what tells an emulated kernel the frequency of its TSC
	log      io.Writer

	// Of one run:
	job     wire.Job
	initrd  string
	console string // file with what the kernel said
	keys    string // the path of a pipe with what is typed at the console
	line    string // the path of the second serial line
	qmp     string // the path of QEMU's monitor
	gdb     string // where QEMU's gdb stub listens

	stall time.Duration // how long the guest may show no sign of life
}

// changed reports whether the kernel's text is changed before the program
// starts.
func (vm *VM) changed() bool { return len(vm.pokes)+len(vm.delays) > 0 }

// Failure is a VM that did not come to the program's end: a panic, a hang, a
// reboot, an emulator that died.
type Failure struct {
	What    string
	Console string // the end of the console's text, or what it says of the crash
	Log     string // the file with all of it
	Doubt   string // why it may not be the kernel's fault; "": there is no reason known
	Started bool   // the program was started

	again      bool   // a second boot may come further
	breakpoint string // the doubt that the console gives, if the VM was emulated
}

func (f *Failure) Error() string { return f.What }

// Architectures are those that there are virtual machines for, by the names
// that Go has for them.
func Architectures() []string { return slices.Sorted(maps.Keys(machines)) }

// Prepare gets everything that a VM for programs of the architecture needs:
// QEMU, the kernel and init. What is wrong with the options, or missing here,
// is known after it. Messages about the way there go to log.
func Prepare(ctx context.Context, opts Options, goarch string, log io.Writer) (*VM, error) {
	m, ok := machines[goarch]
	if !ok {
		return nil, fmt.Errorf("there is no virtual machine for %s, only for %s", goarch, strings.Join(Architectures(), ", "))
	}
	if err := opts.Check(); err != nil {
		return nil, err
	}
	vm := &VM{opts: opts, machine: m, log: log, stall: cmp.Or(opts.stall, stallLimit)}
	if m.native() {
		vm.clock = tsc.BootArg()
	}
	for _, s := range opts.Pokes {
		p, err := ParsePoke(s)
		if err != nil {
			return nil, err
		}
		vm.pokes = append(vm.pokes, p)
		vm.job.Symbols = append(vm.job.Symbols, p.symbols()...)
	}
	var err error
	if vm.delays, err = parseDelays(opts.Delays); err != nil {
		return nil, err
	}
	if len(vm.delays) > 0 && !m.calls {
		return nil, fmt.Errorf("-delay: only for amd64, not for %s", goarch)
	}
	vm.job.Symbols = append(vm.job.Symbols, vm.delays.symbols()...)
	if err := vm.checkDebug(); err != nil {
		return nil, err
	}
	if vm.cache, err = cacheDir(); err != nil {
		return nil, err
	}
	if vm.emulator, err = m.find(ctx, log); err != nil {
		return nil, err
	}
	if vm.image, err = kernel.Resolve(ctx, opts.Kernel, goarch, vm.cache, log); err != nil {
		return nil, err
	}
	if vm.image.Arch != goarch {
		return nil, fmt.Errorf("kernel %s is for %s, not for %s", opts.Kernel, vm.image.Arch, goarch)
	}
	if err := vm.Require("a virtual machine", m.needs()...); err != nil {
		return nil, err
	}
	if err := vm.findModules(ctx); err != nil {
		return nil, err
	}
	if opts.Init != "" {
		vm.init, err = os.ReadFile(opts.Init)
	} else {
		vm.init, err = Build(ctx, "init", goarch, guestPackage, "build")
	}
	return vm, err
}

// WriteInit writes the guest's init to a file, for another process that
// prepares such a VM: it need not be built there.
func (vm *VM) WriteInit(path string) error { return os.WriteFile(path, vm.init, 0o644) }

// Kernel describes the kernel that the VM boots, for people.
func (vm *VM) Kernel() string { return vm.image.Source }

// File returns the path of the kernel as it was given or downloaded: of the
// package, if it was in one.
func (vm *VM) File() string { return vm.image.Named }

// Require returns an error that names each option that what needs and the
// kernel has not built in, if its configuration is known. Options are named
// without CONFIG_.
func (vm *VM) Require(what string, options ...string) error {
	lacking, err := vm.image.Lacks(options...)
	if err != nil || len(lacking) == 0 {
		return err
	}
	return fmt.Errorf("kernel %s lacks what %s needs built in: %s", vm.opts.Kernel, what, strings.Join(lacking, ", "))
}

// Run runs argv in a VM, copies its output to out and returns its exit status.
// An error says why there is none; it is a *Failure when the VM had started,
// unless the guest refused what it was asked, such as a module, or out could not
// be written.
// Messages about the way there go to log. If ctx is done the VM ends.
//
// argv[0] is the path of the program here, an ELF file. It has no files in the
// VM beside the shared libraries that it needs. If it is a Go test binary, its
// -test.timeout counts, and the files that its flags name come back.
//
// The goroutine is locked to its thread until Run returns, and QEMU ends with
// that thread, and so with this process, however that ends.
func Run(ctx context.Context, opts Options, argv []string, out, log io.Writer) (int, error) {
	if len(argv) == 0 {
		return 0, errors.New("no program to run")
	}
	goarch, err := programArch(argv[0])
	if err != nil {
		return 0, err
	}
	libs, err := libraries(ctx, argv[0])
	if err != nil {
		return 0, err
	}
	vm, err := Prepare(ctx, opts, goarch, log)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	vm.initrd = filepath.Join(dir, "initramfs")
	vm.line = filepath.Join(dir, "line")
	vm.keys = filepath.Join(dir, "keys")
	vm.qmp = filepath.Join(dir, "qmp")
	vm.gdb = filepath.Join(dir, "gdb")
	vm.console = filepath.Join(dir, ConsoleFile)
	if opts.Out != "" {
		if err := os.MkdirAll(opts.Out, 0o755); err != nil {
			return 0, err
		}
		if vm.console, err = filepath.Abs(filepath.Join(opts.Out, ConsoleFile)); err != nil {
			return 0, err
		}
	}
	timeout, err := vm.fillJob(argv)
	if err != nil {
		return 0, err
	}
	if err := writeInitramfs(vm.initrd, vm.init, argv[0], opts.Shell, libs, vm.modules, vm.job); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it was not done after %v", timeout))
	defer cancel()
	code, err := vm.boot(ctx, out)
	var failure *Failure
	if errors.As(err, &failure) && opts.Out == "" {
		failure.Log = keep(vm.console)
	}
	return code, err
}

// fillJob says what the guest is to do, and returns how long that may take.
func (vm *VM) fillJob(argv []string) (time.Duration, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	job := &vm.job
	job.Line = vm.machine.line
	job.Argv = append([]string{"/bin/" + filepath.Base(argv[0])}, argv[1:]...)
	job.Dir = dir
	job.Env = []string{"PATH=/bin", "HOME=/", "TMPDIR=/tmp", "TERM=dumb"}
	for _, name := range []string{"GODEBUG", "GOTRACEBACK"} {
		if value, ok := os.LookupEnv(name); ok {
			job.Env = append(job.Env, name+"="+value)
		}
	}
	test := readTestFlags(argv[1:], dir)
	job.Mkdir, job.Collect = test.mkdir, test.files
	if vm.opts.Shell != "" {
		if job.Shell, err = windowSize(); err != nil {
			return 0, err
		}
	}
	timeout := vm.opts.Timeout
	switch {
	case timeout > 0:
	case vm.opts.attended():
		timeout = endless
	default:
		timeout = bootLimit + test.timeout
	}
	return timeout, nil
}

// boot runs the VM by KVM where that works, and by emulation where not.
func (vm *VM) boot(ctx context.Context, out io.Writer) (int, error) {
	mark := kvmFails(vm.cache)
	if !vm.machine.native() || mark == "" || vm.opts.GDB != "" {
		code, _, err := vm.emulate(ctx, out)
		return code, err
	}
	code, started, err := vm.start(ctx, kvm, kvmLimit, out)
	if started || ctx.Err() != nil {
		return code, err
	}
	fmt.Fprintf(vm.log, "%s%v; using emulation\n", kvmPrefix, err)
	code, started, err = vm.emulate(ctx, out)
	// A kernel that dies early, or a wrong option, says nothing of KVM.
	if started {
		if err := os.WriteFile(mark, nil, 0o644); err != nil {
			fmt.Fprintln(vm.log, "vm:", err)
		}
	}
	return code, err
}

// emulate runs the VM by emulation.
func (vm *VM) emulate(ctx context.Context, out io.Writer) (code int, started bool, err error) {
	return vm.emulateWithin(ctx, bootLimit, out)
}

// emulateWithin is emulate with the time to boot. As a kernel boots it changes
// its own code, and an emulator can stand still then: nothing is lost by a
// second boot.
func (vm *VM) emulateWithin(ctx context.Context, limit time.Duration, out io.Writer) (code int, started bool, err error) {
	var failure *Failure
	for again := range 2 {
		code, started, err = vm.start(ctx, vm.opts.emulation(), limit, out)
		if failure = nil; !errors.As(err, &failure) || !failure.again {
			break
		}
		if again == 0 {
			fmt.Fprintf(vm.log, "%s%s\n", againPrefix, failure.What)
		}
	}
	if failure != nil {
		failure.Doubt = cmp.Or(failure.breakpoint, failure.Doubt)
	}
	return code, started, err
}
