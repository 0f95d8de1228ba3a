package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// QEMU is killed while the program runs, as when memory runs out: that is no
// success.
func TestQEMUKilled(t *testing.T) {
	b := needVM(t)
	cmd := b.command(t, "-kernel", suite, b.guest, "hang")
	stdout, emulator := untilReady(t, cmd)
	require.NoError(t, unix.PidfdSendSignal(emulator, unix.SIGKILL, nil, 0))
	start := time.Now()
	rest, err := io.ReadAll(stdout)
	require.NoError(t, err)
	_ = cmd.Wait()
	assert.Less(t, time.Since(start), grace)
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	assert.Regexp(t, `(?m)^vm: the VM ended while the program ran: QEMU: signal: killed \(Linux 6\.1\..*\)$`, string(rest))
}

// The runner is killed by what gives it no chance to clean up: QEMU ends with
// it.
func TestRunnerKilled(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			b := needVM(t)
			cmd := b.command(t, "-kernel", suite, "-timeout", "1m", b.guest, "hang")
			_, emulator := untilReady(t, cmd)
			require.NoError(t, cmd.Process.Signal(sig))
			assert.Error(t, cmd.Wait())
			assert.NoError(t, awaitExit(emulator, grace), "QEMU runs on")
		})
	}
}

// awaitExit waits for the end of the process that a pidfd stands for.
func awaitExit(pidfd int, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		left := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR): // by one of the Go runtime's own signals: poll(2) is never restarted
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 0:
			return fmt.Errorf("no end within %v", limit)
		default:
			return nil
		}
	}
}

// untilReady starts a command that runs the program hang, and returns when that
// runs: what comes on standard output then, and a pidfd of QEMU's process.
func untilReady(t *testing.T, cmd *exec.Cmd) (io.Reader, int) {
	t.Helper()
	cmd.Env = append(cmd.Environ(), "TMPDIR="+t.TempDir())
	// A pipe of its own, as cmd's is closed when the runner has ended.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	require.NoError(t, cmd.Start())
	w.Close()
	stdout := bufio.NewReader(r)
	line, err := stdout.ReadString('\n')
	if line != "ready\n" {
		rest, _ := io.ReadAll(stdout)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the program did not start: %v\n%s%s", err, line, rest)
	}
	pid := child(t, cmd.Process.Pid)
	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		// For a failed test.
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
	})
	return stdout, fd
}

// child returns the only child of a process.
func child(t *testing.T, parent int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	var children []int
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (COMM) STATE PPID …, where COMM can have anything in it.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			children = append(children, pid)
		}
	}
	require.Len(t, children, 1, "QEMU is the runner's only child")
	return children[0]
}
