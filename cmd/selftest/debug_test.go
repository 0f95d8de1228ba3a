package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onTerminal starts ci/selftest with a terminal of its own, and returns the
// other end of that.
func onTerminal(t *testing.T, dir string, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer terminal.Close()
	script, err := filepath.Abs("../../ci/selftest")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, script, append([]string{"-kernel", "bookworm"}, args...)...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	return cmd, master
}

// At the first failure there is a shell in the machine as that left it: here
// with two CPUs offline. When it ends, the run goes on, and the terminal is as
// it was.
func TestShell(t *testing.T) {
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	cmd, terminal := onTerminal(t, t.TempDir(), "-shell", "-poke", "print_cpus_offline=ret0", "-run", "^TestSameValue$/^offline$/^at-return$/^(offline-mask|cpu-online)$")
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	var screen bytes.Buffer
	typed := []string{"cat /sys/devices/system/cpu/online; stty -a | head -1\r", "exit\r"}
	buf := make([]byte, 4096)
	for {
		n, err := terminal.Read(buf)
		if err != nil {
			break // EIO: nobody has the other end any more
		}
		screen.Write(buf[:n])
		if prompts := strings.Count(screen.String(), "guest# "); len(typed) > 0 && prompts > 2-len(typed) {
			_, err := terminal.WriteString(typed[0])
			require.NoError(t, err)
			typed = typed[1:]
		}
	}
	err = cmd.Wait()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v\n%s", err, &screen)
		}
	})
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	text := strings.ReplaceAll(screen.String(), "\r", "")
	assert.Contains(t, text, "vm: the program has stopped: a shell in the machine as it is now.")
	assert.Contains(t, text, "\n1-2\n", "CPUs 0 and 3 are offline")
	assert.Contains(t, text, "1 passed, 0 skipped, 1 failed", "the run goes on")
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// The VM waits for gdb before its first instruction, or when its kernel is
// changed, and goes on when gdb lets it.
func TestGDB(t *testing.T) {
	if os.Getenv("HOTPLUGTEST_VM") != "1" {
		t.Skip("boots virtual machines: set HOTPLUGTEST_VM=1")
	}
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("there is no gdb: install it")
	}
	const first = "0xfff0" // the first instruction of a processor
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		begins string // the command, up to the path of the socket
		first  bool
	}{
		{"from the start", []string{"-run", "TestSameValue/offline/at-return/cpu-online$"}, 0, "    gdb -ex 'target remote ", true},
		{"after a poke", []string{"-run", "TestOffline/at-return/perf-event$", "-poke", "perf_event_exit_cpu=ret0"}, 1, "    until [ -S ", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a b")
			require.NoError(t, os.Mkdir(dir, 0o755))
			socket := filepath.Join(dir, "out", "gdb.socket")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			said := attachGDB(ctx, socket)
			cmd, terminal := onTerminal(t, dir, append([]string{"-gdb"}, tt.args...)...)
			var screen bytes.Buffer
			_, _ = screen.ReadFrom(terminal)
			_ = cmd.Wait()
			cancel() // there is nothing more to attach to
			gdb := <-said
			assert.Equal(t, tt.code, cmd.ProcessState.ExitCode(), "%s", &screen)
			assert.Contains(t, gdb, "$1 = ")
			assert.Equal(t, tt.first, strings.Contains(gdb, first), gdb)
			assert.Contains(t, screen.String(), tt.begins)
			assert.Contains(t, screen.String(), "gdb -ex 'target remote "+socket+"' /")
			assert.Regexp(t, `\r\x1b\[Kbookworm: \d+ (of \d+ )?tests, 0 failed.*: Test`, screen.String(), "a terminal has a last line")
			assert.NotContains(t, screen.String(), "\x00")
			console, err := os.ReadFile(filepath.Join(dir, "out", "console.log"))
			require.NoError(t, err)
			assert.Contains(t, string(console), " nokaslr ")
		})
	}
}

// attachGDB attaches gdb to the socket when that is there, lets the guest go
// on, and returns what gdb said.
func attachGDB(ctx context.Context, socket string) <-chan string {
	said := make(chan string, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(socket); err == nil {
				out, err := exec.CommandContext(ctx, "gdb", "-batch", "-ex", "set architecture i386:x86-64",
					"-ex", "target remote "+socket, "-ex", "print $rip", "-ex", "detach").CombinedOutput()
				said <- fmt.Sprintf("%s%v", out, err)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		said <- "no socket"
	}()
	return said
}
