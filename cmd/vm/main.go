// Command vm runs a program in a virtual machine under a given Linux kernel. It
// is made for go test:
//
//	go test -exec 'go run github.com/hotplugtest/hotplugtest/cmd/vm exec -kernel bookworm' .
//
// The guest has the program, its package's testdata, and the file systems a
// Linux machine has: no disk or network, and no modules but those of -module.
// Cgroups are of version 2, or of version 1 with -append
// systemd.unified_cgroup_hierarchy=0, where guest.cpuset= gives mount options
// of the cpuset hierarchy. With a module of a disk's driver, guest.disk=nvme0n1
// has the program wait for the disk; with zram, guest.swap=zram0 makes swap
// space. The program's output and exit status are passed on. A kernel that
// panics or hangs ends the run with exit status 1 and the console's last lines
// on standard output, where they become part of the test that was running.
//
// The program may be built for another architecture, which then is the VM's. As
// GOARCH is also in force for go run, take it out there: GOARCH=arm64 go test
// -exec 'env GOARCH= go run …'.
package main

import (
	"errors"
	"flag"
	"os"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/vm"
	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

var program = &cli.Program{Name: "vm", Call: "vm exec", Synopsis: "[flags] program [arguments]"}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("vm exec", flag.ContinueOnError)
	var opts vm.Options
	var dir cli.Dir
	dir.Flag(flags)
	flags.StringVar(&opts.Kernel, "kernel", vm.DefaultKernel, vm.KernelUsage)
	flags.StringVar(&opts.Out, "out", "", "`directory` for console.log (default: it is kept only when the VM fails)")
	opts.Flags(flags)
	if len(args) == 0 || args[0] != "exec" {
		program.Help(os.Stderr, flags)
		return cli.BadUsage
	}
	argv, err := program.Parse(flags, args[1:])
	if err == nil && len(argv) == 0 {
		err = errors.New("no program to run")
	}
	if err != nil {
		return program.Refuse(err)
	}
	opts.Kernel = kernel.From(string(dir), opts.Kernel)
	if opts.Out != "" {
		opts.Out = dir.Path(opts.Out)
	}
	return vm.Exec(opts, argv)
}
