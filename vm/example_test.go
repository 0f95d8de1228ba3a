package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/hotplugtest/hotplugtest/vm"
)

// Run a program on the kernel of a Debian release, and tell a program that
// failed from a kernel that did.
func ExampleRun() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	options := vm.Options{Kernel: "trixie", SMP: "4", Append: "isolcpus=2-3"}
	var out bytes.Buffer
	status, err := vm.Run(ctx, options, []string{"/bin/busybox", "cat", "/sys/devices/system/cpu/isolated"}, &out, os.Stderr)
	var failure *vm.Failure
	switch {
	case errors.As(err, &failure):
		// It had started: the kernel panicked, hung, or the time was up.
		failure.Print(os.Stdout)
	case err != nil:
		log.Fatal(err) // there is no such kernel, no QEMU, or the like
	case status != 0:
		fmt.Printf("the program failed with status %d: %s", status, &out)
	default:
		fmt.Printf("isolated CPUs: %s", &out)
	}
}
