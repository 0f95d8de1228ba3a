package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// endless is the limit of what a person attends to.
const endless = 30 * 24 * time.Hour

// attended reports whether a person may stop the VM, or its program.
func (o *Options) attended() bool { return o.GDB != "" || o.Shell != "" }

// longestSocket is how long the path of a Unix socket can be.
const longestSocket = 107

// checkDebug says what speaks against a debugger or a shell.
func (vm *VM) checkDebug() error {
	if len(vm.opts.GDB) > longestSocket {
		return fmt.Errorf("-gdb: the path of its socket is longer than %d bytes: give a shorter -out: %s", longestSocket, vm.opts.GDB)
	}
	if vm.opts.Shell != "" {
		if _, err := windowSize(); err != nil {
			return err
		}
	}
	return nil
}

// change writes the pokes and delays into the guest, if there are any. QEMU has
// one gdb stub, through which they are written: after that it is gdb's, if
// somebody wants it, and the guest waits.
func (vm *VM) change(symbols symbolTable, qmp *monitor) error {
	if !vm.changed() {
		return nil
	}
	if err := apply(vm.pokes, vm.delays, vm.machine, symbols, vm.gdb); err != nil || vm.opts.GDB == "" {
		return err
	}
	if _, err := qmp.call("stop", nil); err != nil {
		return err
	}
	// The one that is there must end before another one can begin.
	if _, err := qmp.human("gdbserver none"); err != nil {
		return err
	}
	device := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace("unix:" + quote(vm.opts.GDB) + ",server=on,wait=off")
	said, err := qmp.human(`gdbserver "` + device + `"`)
	if err != nil {
		return err
	}
	if _, err := os.Stat(vm.opts.GDB); err != nil {
		return fmt.Errorf("-gdb: QEMU's gdb stub: %w: %s", err, said)
	}
	return nil
}

// bootArgs are the first words of the kernel's command line. A debugger finds
// the kernel where it was linked to be.
func (vm *VM) bootArgs(accel string) string {
	words := bootArgs
	if vm.opts.GDB != "" {
		words += " nokaslr"
	}
	if accel != kvm && vm.clock != "" {
		words += " " + vm.clock
	}
	return words
}

// Symbols returns the path of the kernel's ELF file with its symbols, if there
// is one beside it, or else of the one that is booted. It is "" if that is no
// ELF file.
func (vm *VM) Symbols() string {
	var candidates []string
	if vm.image.Config != "" {
		candidates = append(candidates, filepath.Join(filepath.Dir(vm.image.Config), "vmlinux"))
	}
	for _, path := range append(candidates, vm.image.Boot) {
		var magic [4]byte
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		_, err = io.ReadFull(f, magic[:])
		f.Close()
		if err == nil && string(magic[:]) == "\x7fELF" {
			return path
		}
	}
	return ""
}

// openTerminal opens the user's terminal.
func openTerminal() (*os.File, error) {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("-shell needs a terminal: open /dev/tty: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/tty"), nil
}

// windowSize is that of the user's terminal.
func windowSize() (*wire.Window, error) {
	tty, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	raw, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	window := &wire.Window{Rows: 24, Columns: 80}
	err = raw.Control(func(fd uintptr) {
		if size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil && size.Row > 0 {
			window.Rows, window.Columns = size.Row, size.Col
		}
	})
	return window, err
}

// terminal is the user's, while he talks to a shell in the guest.
type terminal struct {
	tty    *os.File
	before *unix.Termios
	ended  chan struct{} // closed when nothing is read from it any more
}

// talk takes what a shell in the guest has to say.
func (g *guest) talk(m wire.Guest, line io.Writer) (err error) {
	switch {
	case m.Screen != nil && g.shell != nil:
		_, err = g.shell.tty.Write(m.Screen)
	case m.Shell == nil:
	case m.Shell.Ends:
		if g.shell != nil && m.Shell.Why != "" {
			_, err = fmt.Fprintf(g.shell.tty, "vm: there is no shell: %s\n", plain(m.Shell.Why))
		}
		g.leaveShell()
	case g.vm.opts.Shell != "" && g.shell == nil:
		err = g.enterShell(m.Shell.Why, line)
	}
	return err
}

// enterShell connects the user's terminal with the guest's.
func (g *guest) enterShell(why string, line io.Writer) error {
	tty, err := openTerminal()
	if err != nil {
		return err
	}
	t := &terminal{tty: tty, ended: make(chan struct{})}
	if t.before, err = setRaw(tty); err != nil {
		tty.Close()
		return err
	}
	g.shell = t
	g.attend(true)
	fmt.Fprintf(tty, "\nvm: %s: a shell in the machine as it is now. The program goes on when the shell ends.\n", plain(why))
	go func() {
		defer close(t.ended)
		frame := make([]byte, 2+wire.MostKeys)
		for {
			n, err := tty.Read(frame[2:])
			if err != nil {
				return
			}
			frame[0], frame[1] = wire.Keys, byte(n)
			if _, err := line.Write(frame[:2+n]); err != nil {
				return
			}
		}
	}()
	return nil
}

// leaveShell gives the user his terminal back, if a shell has it.
func (g *guest) leaveShell() {
	t := g.shell
	if t == nil {
		return
	}
	g.shell = nil
	g.attend(false)
	_ = t.tty.SetReadDeadline(time.Now())
	<-t.ended
	_ = control(t.tty, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETSW, t.before) })
	t.tty.Close()
}

// attend notes whether a shell runs.
func (g *guest) attend(is bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attended = is
}

// setRaw makes a terminal pass on each key, and returns how it was. Its output
// stays as it is for what others print.
func setRaw(tty *os.File) (before *unix.Termios, err error) {
	err = control(tty, func(fd int) error {
		if before, err = unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return err
		}
		raw := *before
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(fd, unix.TCSETSW, &raw)
	})
	if err != nil {
		return nil, fmt.Errorf("/dev/tty: %w", err)
	}
	return before, nil
}

// control calls f with the file's descriptor.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}
