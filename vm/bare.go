package vm

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/cavaliergopher/cpio"
)

// BareBoot returns the time that the kernel takes to boot without what [Run]
// does around it: from the start of QEMU, as QEMU is by itself but for the
// devices that it would add, with nothing but the static program at path in the
// initramfs, until that, as init, writes to the second serial line. It is what
// the start of a run is to be compared with.
func (vm *VM) BareBoot(ctx context.Context, path string) (time.Duration, error) {
	runtime.LockOSThread() // as in start
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bare := *vm
	bare.console = filepath.Join(dir, "console.log")
	initrd, fifo := filepath.Join(dir, "initramfs"), filepath.Join(dir, "line")
	if err := writeBare(initrd, path); err != nil {
		return 0, err
	}
	line, err := newLine(fifo)
	if err != nil {
		return 0, err
	}
	defer line.Close()

	args := []string{
		"-kernel", vm.image.Boot, "-initrd", initrd, "-append", "console=" + vm.machine.console, "-smp", cmp.Or(vm.opts.SMP, defaultSMP), "-m", cmp.Or(vm.opts.Mem, defaultMem),
		"-nodefaults", "-display", "none", "-machine", vm.machine.board,
		"-serial", "file:" + bare.console, "-serial", "pipe:" + fifo,
	}
	if vm.machine.native() && kvmFails(vm.cache) != "" {
		args = append(args, "-accel", kvm, "-cpu", "host")
	}
	limit := time.Now().Add(bootLimit)
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, vm.emulator, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		_ = cmd.Wait() // however it ends, it was to be killed
		line.hangUp()
	}()
	defer func() { cancel(); <-dead }()
	if err := line.out.SetReadDeadline(limit); err != nil {
		return 0, err
	}
	_, err = line.Read(make([]byte, 1))
	took := time.Since(start)
	if err != nil {
		return 0, errors.Join(err, bare.failed("the VM did not start init", false))
	}
	return took, nil
}

// writeBare writes an initramfs of one program.
func writeBare(initrd, program string) error {
	f, err := os.Create(initrd)
	if err != nil {
		return err
	}
	defer f.Close()
	a := &archive{w: cpio.NewWriter(f), dirs: make(map[string]bool)}
	a.mkdir("/dev")
	a.copy("/init", program)
	return errors.Join(a.err, a.w.Close(), f.Close())
}
