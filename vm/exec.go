package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// Exec is [Run] for the main goroutine of a command: it returns the status for
// the command to exit with, which is the program's, or 1 where the VM did not
// come to its end. The reason is printed: on standard error what is wrong here,
// on standard output, after the program's own output, what became of the VM.
func Exec(opts Options, argv []string) int {
	// QEMU and this process are to end with whoever started them, however that
	// ends; for QEMU that hangs on this thread.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "vm: prctl(PR_SET_PDEATHSIG):", err)
	}
	// A reader that goes away is an error of the write, by which everything
	// comes to its end.
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	code, err := Run(ctx, opts, argv, os.Stdout, os.Stderr)
	var failure *Failure
	switch {
	case errors.As(err, &failure):
		failure.Print(os.Stdout)
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		return 1
	}
	return code
}
