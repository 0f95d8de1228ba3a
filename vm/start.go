package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a running QEMU, and what others say to it and to its guest.
type process struct {
	cmd    *exec.Cmd
	line   *line    // the guest's second serial line
	keys   *line    // what is typed at the console
	qmp    *monitor // QEMU's own
	stderr bytes.Buffer
	ended  error         // how it ended; to be read when it is dead
	dead   chan struct{} // closed then
	kill   context.CancelFunc
}

// launch starts QEMU, which runs until kill is called, ctx is done or not. The
// caller must call close.
func (vm *VM) launch(ctx context.Context, accel string) (_ *process, err error) {
	for _, stale := range []string{vm.gdb, vm.console, vm.opts.GDB} {
		if stale == "" {
			continue
		}
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	p := &process{dead: make(chan struct{})}
	defer func() {
		if err != nil {
			close(p.dead)
			p.close()
		}
	}()
	ctx, p.kill = context.WithCancel(context.WithoutCancel(ctx))
	p.qmp = &monitor{limit: monitorLimit}
	for _, l := range []struct {
		line **line
		path string
	}{{&p.line, vm.line}, {&p.keys, vm.keys}, {&p.qmp.line, vm.qmp}} {
		if *l.line, err = newLine(l.path); err != nil {
			return nil, err
		}
	}
	p.cmd = exec.CommandContext(ctx, vm.emulator, vm.machine.commandLine(vm, accel)...)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.ended = p.cmd.Wait()
		p.line.hangUp()
		p.qmp.line.hangUp()
		close(p.dead)
	}()
	return p, nil
}

// close kills QEMU if it still runs, and waits for its end.
func (p *process) close() {
	p.kill()
	<-p.dead
	for _, l := range []*line{p.line, p.keys, p.qmp.line} {
		if l != nil {
			l.Close()
		}
	}
}

// start boots the VM once, and returns whether its program was started.
func (vm *VM) start(ctx context.Context, accel string, limit time.Duration, out io.Writer) (code int, started bool, err error) {
	// QEMU ends with the thread that starts it. Another goroutine must not end
	// that one, as it does if it has locked itself to it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := vm.launch(ctx, accel)
	if err != nil {
		return 0, false, err
	}
	defer p.close()
	g := &guest{vm: vm, out: out, qmp: p.qmp}
	hello := make(chan struct{})
	done := make(chan error, 1) // how the conversation ended
	go func() {
		defer close(done)
		done <- g.converse(p.line, hello)
	}()
	watch := &watch{stalled: make(chan string, 1)}
	// The conversation ends with QEMU. Nothing is written to out after that.
	end := func() {
		watch.stop()
		p.kill()
		for range done {
		}
		g.leaveShell()
	}
	defer end()

	if vm.opts.attended() {
		limit = endless
	}
	boot := time.NewTimer(limit)
	defer boot.Stop()
	for {
		select {
		case err := <-done:
			return vm.conclude(p, g, err)
		case <-hello:
			hello = nil
			boot.Stop()
			if vm.opts.GDB == "" {
				watch.start(vm.stall, g, p)
			}
		case how := <-watch.stalled:
			answers := vm.question(p) || accel == kvm
			end()
			return 0, true, vm.stoodStill(g, how, answers)
		case <-boot.C:
			return 0, false, vm.tooLate(limit)
		case <-ctx.Done():
			if hello == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				watch.stop()
				vm.question(p)
			}
			end()
			return 0, g.started, vm.failed(fmt.Sprintf("the VM was ended: %v", context.Cause(ctx)), g.started)
		}
	}
}

// tooLate is the failure of a guest that has not started the program by then.
func (vm *VM) tooLate(limit time.Duration) *Failure {
	f := vm.failed(fmt.Sprintf("%s%v", noProgram, limit), false)
	f.again = true
	return f
}

// stoodStill is the failure of a guest that stood still, and answered the
// keyboard or not.
func (vm *VM) stoodStill(g *guest, how string, answers bool) *Failure {
	f := vm.failed(how+g.linux(), true)
	if !answers {
		f.Doubt = deaf
	}
	return f
}

// conclude returns what start does when the conversation has ended with err.
func (vm *VM) conclude(p *process, g *guest, err error) (code int, started bool, _ error) {
	if g.exit != nil {
		if g.exit.Error != "" {
			fmt.Fprintf(g.out, "%s%s: %s\n", Prefix, vm.job.Argv[0], g.exit.Error)
		}
		return g.exit.Code, true, nil
	}
	if errors.As(err, new(*refused)) {
		return 0, true, err
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, g.started, vm.failed(fmt.Sprintf("the guest's line says what nobody understands: %v", err), g.started)
	}
	// The line ends when QEMU does; a moment later it is known how.
	<-p.dead
	return 0, g.started, vm.failure(g, p.ended, p.stderr.String())
}
