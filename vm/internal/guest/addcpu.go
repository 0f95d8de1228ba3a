package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// request is the signal by which a process asks init for one more CPU.
const request = unix.SIGUSR1

// askForCPU asks init, and returns the exit status. When it returns, the CPU may
// be still to come: a uevent tells.
func askForCPU() int {
	if err := unix.Kill(1, request); err != nil {
		fmt.Fprintln(os.Stderr, "guest: asking init for a CPU:", err)
		return 1
	}
	return 0
}

// forwardRequests asks the host for what others ask init for, from now on.
func forwardRequests(out *sender) {
	requests := make(chan os.Signal, 1)
	signal.Notify(requests, request)
	go forward(requests, out)
}

func forward(requests <-chan os.Signal, out *sender) {
	for range requests {
		if err := out.send(wire.Guest{AddCPU: true}); err != nil {
			fmt.Println("guest:", err)
		}
	}
}
