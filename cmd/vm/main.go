// Command vm runs a program in a virtual machine under a given Linux kernel. It is made for go test:
//
//	go test -exec 'go run github.com/hotplugtest/hotplugtest/cmd/vm exec -kernel bookworm' .
//
// The guest has the program, its package's testdata, and the file systems a Linux machine has: no modules, disk or
// network. Cgroups are of version 2, or of version 1 with -append systemd.unified_cgroup_hierarchy=0, where guest.cpuset=
// gives mount options of the cpuset hierarchy. The program's output and exit status are passed on. A kernel that panics or hangs ends the run with exit
// status 1 and the console's last lines on standard output, where they become part of the test that was running.
//
// The program may be built for another architecture, which then is the VM's. As GOARCH is also in force for go run, take
// it out there: GOARCH=arm64 go test -exec 'env GOARCH= go run …'.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/hotplugtest/hotplugtest/vm"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("vm exec", flag.ContinueOnError)
	var opts vm.Options
	flags.StringVar(&opts.Kernel, "kernel", vm.DefaultKernel, vm.KernelUsage)
	flags.StringVar(&opts.Out, "out", "", "`directory` for console.log (default: it is kept only when the VM fails)")
	opts.Flags(flags)
	flags.SetOutput(io.Discard)
	usage := func(w io.Writer) {
		fmt.Fprintln(w, "usage: vm exec [flags] program [arguments]")
		flags.SetOutput(w)
		flags.PrintDefaults()
	}
	if len(args) == 0 || args[0] != "exec" {
		usage(os.Stderr)
		return 2
	}
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		usage(os.Stdout)
		return 0
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v (vm exec -help lists the flags)\n", err)
		return 2
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "vm: no program to run: vm exec [flags] program [arguments]")
		return 2
	}
	return vm.Exec(opts, flags.Args())
}
