package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// shell is a shell for the host's user, on a terminal of the guest's whose other
// end is the line to the host.
type shell struct {
	out    *sender
	window *wire.Window // nil: there is none
	ran    bool

	mu   sync.Mutex
	keys *os.File // takes what is typed; nil: no shell runs
}

// typed takes what the host's user has typed.
func (s *shell) typed(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys != nil {
		_, _ = s.keys.Write(text)
	}
}

// first runs a shell if none has run.
func (s *shell) first(why string) {
	if !s.ran {
		s.run(why)
	}
}

// run runs a shell to its end, if there is to be one.
func (s *shell) run(why string) {
	if s.window == nil {
		return
	}
	s.ran = true
	err := s.out.send(wire.Guest{Shell: &wire.Shell{Why: why}})
	if err == nil {
		err = s.busybox()
	}
	end := wire.Shell{Ends: true}
	if err != nil {
		end.Why = err.Error()
	}
	_ = s.out.send(wire.Guest{Shell: &end})
}

// busybox runs busybox's shell.
func (s *shell) busybox() error {
	master, terminal, err := openTerminal(s.window)
	if err != nil {
		return err
	}
	defer master.Close()
	defer terminal.Close()
	_ = exec.Command("/bin/busybox", "--install", "-s", "/bin").Run() // or it has builtins alone
	cmd := exec.Command("/bin/busybox", "sh")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/bin", "HOME=/", "TERM=linux", "PS1=guest# "}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	terminal.Close() // so that the other end ends with the shell
	s.set(master)
	defer s.set(nil)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(screen{s.out}, master)
	}()
	_ = cmd.Wait() // its status is the user's
	<-copied
	return nil
}

func (s *shell) set(keys *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
}

// screen sends what it is given as the terminal's.
type screen struct{ out *sender }

func (s screen) Write(p []byte) (int, error) { return len(p), s.out.send(wire.Guest{Screen: p}) }

// openTerminal makes a pseudoterminal.
func openTerminal(size *wire.Window) (master, terminal *os.File, err error) {
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		return nil, nil, err
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"); err != nil && err != unix.EBUSY {
		return nil, nil, fmt.Errorf("mount devpts on /dev/pts: %w (CONFIG_UNIX98_PTYS)", err)
	}
	master, err = os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	return master, terminal, nil
}
