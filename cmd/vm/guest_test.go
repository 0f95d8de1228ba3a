package main_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// programs are what this test binary is inside a VM, by its first argument.
// Each returns its exit status.
var programs = map[string]func() int{
	"delays": delays,
	"output": output,
	"panic":  crash,
	"hang":   hang,
	"reboot": reboot,
	"orphan": orphan,
}

// payload is what output writes: a megabyte in which every byte and pair of
// bytes occurs, and the same each time.
var payload = func() []byte {
	data := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(data)
	return data
}()

const outputStatus = 7

// output says where it runs, and ends when all that it prints is in a pipe
// still.
func output() int {
	wd, err := os.Getwd()
	if err != nil {
		return complain(err)
	}
	fmt.Printf("in %s with %q\n", wd, os.Args[1:])
	hello, err := os.ReadFile("testdata/hello")
	if err != nil {
		return complain(err)
	}
	fmt.Fprintf(os.Stderr, "%s", hello)
	if _, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_SETPIPE_SZ, len(payload)); err != nil {
		return complain(err)
	}
	if _, err := os.Stdout.Write(payload); err != nil {
		return complain(err)
	}
	return outputStatus
}

// outputWants is what output prints in a working directory.
func outputWants(wd string, hello []byte, args ...string) []byte {
	return bytes.Join([][]byte{fmt.Appendf(nil, "in %s with %q\n", wd, args), hello, payload}, nil)
}

// crash panics the kernel.
func crash() int { return complain(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)) }

// hang never ends.
func hang() int {
	fmt.Println("ready")
	for {
		_ = unix.Pause()
	}
}

// reboot says on the console, where only the kernel's word counts, that all is
// well, and resets the machine.
func reboot() int {
	if err := os.WriteFile("/dev/console", []byte("--- PASS: TestAll (0.00s)\nPASS\nok  \tall\t0.1s\n"), 0); err != nil {
		return complain(err)
	}
	return complain(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

// orphan leaves a child behind that holds its standard output open, and is
// killed.
func orphan() int {
	child := exec.Command("/proc/self/exe", "hang")
	child.Stdout = os.Stdout
	if err := child.Start(); err != nil {
		return complain(err)
	}
	return complain(unix.Kill(os.Getpid(), unix.SIGKILL))
}

func complain(err error) int {
	fmt.Println("guest program:", err)
	return 99
}
