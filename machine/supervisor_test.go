package machine

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// victim is this binary as a process that is supervised, changes the machine at
// root, which is a tree of text files, and then ends in a way that its test
// says.
func victim(root, end string) {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	unlock, err := lock(filepath.Join(root, "lock"), os.Stderr)
	check(err)
	s, err := Take(root)
	check(err)
	supervisor, err := Supervise(s)
	check(err)
	check(write(filepath.Join(root, "sys/power/pm_test"), "none [core]"))
	os.Stdout.WriteString("changed\n")
	switch end {
	case "panic":
		go panic("as a test does")
	case "exit":
		os.Exit(0)
	case "close":
		check(supervisor.Close())
		check(supervisor.Close())
		check(unlock())
		os.Exit(0)
	}
	for {
		_ = unix.Pause()
	}
}

func TestSupervisor(t *testing.T) {
	for _, tt := range []struct {
		end      string // "" for the signal
		signal   unix.Signal
		group    bool // the signal goes to the process group
		restored bool
	}{
		{signal: unix.SIGKILL, restored: true},
		{signal: unix.SIGKILL, group: true, restored: true},
		{signal: unix.SIGINT, group: true, restored: true},
		{signal: unix.SIGHUP, group: true, restored: true},
		{signal: unix.SIGTERM, restored: true},
		// what go test sends after its timeout
		{signal: unix.SIGQUIT, restored: true},
		{end: "panic", restored: true},
		{end: "exit", restored: true},
		{end: "close", restored: false},
	} {
		name := tt.end
		if name == "" {
			name = unix.SignalName(tt.signal)
		}
		if tt.group {
			name += " to the group"
		}
		t.Run(name, func(t *testing.T) {
			if tt.end == "" && signal.Ignored(tt.signal) {
				t.Skipf("%s is ignored here, as below nohup, and so by the process that it would end", unix.SignalName(tt.signal))
			}
			root := t.TempDir()
			for path, text := range map[string]string{"sys/devices/system/cpu/online": "0-3\n", "sys/power/pm_test": "[none] core\n"} {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
			}
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.Command(self, tt.end)
			cmd.Env = append(os.Environ(), "SUPERVISED="+root)
			cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			_, err = io.ReadFull(out, make([]byte, len("changed\n")))
			require.NoError(t, err)

			if tt.end == "" {
				// What may come to the supervisor as well does not end it.
				for _, s := range []unix.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGQUIT} {
					require.NoError(t, unix.Kill(child(t, cmd.Process.Pid), s))
				}
				to := cmd.Process.Pid
				if tt.group {
					to = -to
				}
				require.NoError(t, unix.Kill(to, tt.signal))
			}

			// The next to change the machine gets it restored.
			unlock, err := lock(filepath.Join(root, "lock"), io.Discard)
			require.NoError(t, err)
			text, err := read(filepath.Join(root, "sys/power/pm_test"))
			require.NoError(t, err)
			require.NoError(t, unlock())

			said, err := io.ReadAll(stderr) // until the supervisor has ended
			require.NoError(t, err)
			_ = cmd.Wait()
			if !tt.restored {
				assert.Equal(t, "none [core]", text)
				assert.Empty(t, string(said))
				return
			}
			// On a tree of text files the kernel's brackets do not come back.
			assert.Equal(t, "none", text)
			assert.Contains(t, string(said), "hotplugtest: process "+strconv.Itoa(cmd.Process.Pid)+" ended and left the machine changed:\n"+
				"  /sys/power/pm_test is core, was none\n")
		})
	}
}

// child returns the only child of a process.
func child(t *testing.T, pid int) int {
	t.Helper()
	for _, id := range numbers("/proc") {
		stat, _ := read(filepath.Join("/proc", strconv.Itoa(id), "stat"))
		if fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			return id
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

func TestSupervisorThatWasKilled(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/devices/system/cpu"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/online"), []byte("0-3\n"), 0o644))
	s, err := Take(root)
	require.NoError(t, err)
	supervisor, err := Supervise(s)
	require.NoError(t, err)
	require.NoError(t, supervisor.cmd.Process.Kill())
	err = supervisor.Close()
	assert.ErrorContains(t, err, "machine: supervisor: signal: killed")
	assert.Equal(t, err, supervisor.Close())
}

// A supervisor that ends before anything is changed leaves no record, or the next
// run would undo what others change until then.
func TestSupervisorThatCannotBegin(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/devices/system/cpu"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/online"), []byte("0-3\n"), 0o644))
	s, err := Take(root)
	require.NoError(t, err)
	record := filepath.Join(root, storePaths[0])
	script := filepath.Join(t.TempDir(), "supervisor")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nmkdir -p "+filepath.Dir(record)+"\n: >"+record+"\nkill -SYS $$\n"), 0o755))
	defer func(path string) { thisProgram = path }(thisProgram)
	thisProgram = script
	_, err = Supervise(s)
	require.ErrorContains(t, err, "machine: supervisor: it ended before it was ready: signal: bad system call")
	assert.NoFileExists(t, record)
}
