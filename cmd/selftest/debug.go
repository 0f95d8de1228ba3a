package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/hotplugtest/hotplugtest/internal/busybox"
	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/vm"
)

// gdbSocket is where gdb finds the VM, in the directory of the reports.
const gdbSocket = "gdb.socket"

// gdbArchitectures are gdb's names of architectures.
var gdbArchitectures = map[string]string{"amd64": "i386:x86-64", "arm64": "aarch64"}

// checkDebug says what speaks against -gdb and -shell.
func (o *options) checkDebug() error {
	flag := "-gdb"
	if o.shell {
		flag = "-shell"
	}
	switch n := len(o.kernels) * len(o.profiles); {
	case !o.gdb && !o.shell:
		return nil
	case n > 1:
		return fmt.Errorf("%s with %d virtual machines: give one kernel and one profile", flag, n)
	case o.retry > 0:
		return fmt.Errorf("%s with -retry: a test is tried again without anybody", flag)
	}
	return nil
}

// debugged returns the VM's options, for a debugger or a shell if they are asked
// for.
func (o *options) debugged(ctx context.Context) (vm.Options, error) {
	options := o.vm
	var err error
	if o.gdb {
		options.GDB, err = filepath.Abs(filepath.Join(o.vm.Out, gdbSocket))
	}
	if err == nil && o.shell {
		options.Shell, err = busybox.Find(ctx, o.arch)
	}
	return options, err
}

// tellDebug prints the command that connects gdb. symbols is the file with the
// kernel's, or "".
func (o *options) tellDebug(w io.Writer, options vm.Options, symbols string) {
	if !o.gdb {
		return
	}
	command := "gdb"
	if o.arch != runtime.GOARCH {
		command = "gdb-multiarch -ex " + cli.Quoted("set architecture "+gdbArchitectures[o.arch])
	}
	command += " -ex " + cli.Quoted("target remote "+options.GDB)
	if symbols != "" {
		command += " " + cli.Quoted(symbols)
	}
	when := "before its first instruction"
	if len(options.Pokes)+len(options.Delays) > 0 {
		when = "when the kernel has booted and its text is changed"
		command = fmt.Sprintf("until [ -S %s ]; do sleep 1; done; %s", cli.Quoted(options.GDB), command)
	}
	fmt.Fprintf(w, "gdb: %s, the virtual machine waits for this, and for continue:\n\n    %s\n\n", when, command)
}

// attended reports whether somebody talks to a guest on this terminal.
func (p *plan) attended() bool {
	return slices.ContainsFunc(p.VMs, func(g guest) bool { return g.Options.Shell != "" })
}
