// Command guest is the init process of a VM that runs one program: it mounts
// what a program expects of a Linux machine, runs it, and reports to the host
// over a serial line. See package wire for what is said.
package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// The first thread goes to nobody but main: it is the one that does not end with
// a goroutine which is locked to it, and what sleepOn pins would stay pinned.
func init() { runtime.LockOSThread() }

func main() {
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == wire.AddCPU {
			os.Exit(askForCPU())
		}
		fmt.Fprintln(os.Stderr, "guest: this is the init process of a VM; boot it with cmd/vm")
		os.Exit(2)
	}
	// It returns with an error alone. The console is all there is to say it on.
	// Powering off without an Exit tells the host that it failed.
	fmt.Println("guest:", run())
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	mountAll()
	data, err := os.ReadFile(wire.JobPath)
	if err != nil {
		return err
	}
	var job wire.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return fmt.Errorf("%s: %w", wire.JobPath, err)
	}
	line, err := openRaw("/dev/" + job.Line)
	if err != nil {
		return err
	}
	out := &sender{to: wire.NewSender(line)}
	// The decoder reads no more than it needs of what can read a single byte.
	in := bufio.NewReader(line)

	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return err
	}
	hello := &wire.Hello{Release: unix.ByteSliceToString(uname.Release[:])}
	if err := equip(job.Modules); err != nil {
		hello.Unfit = err.Error()
	}
	// Those of the modules are among them.
	if hello.Symbols, err = lookUp(job.Symbols); err != nil {
		return err
	}
	if err := out.send(wire.Guest{Hello: hello}); err != nil {
		return err
	}
	if err := gob.NewDecoder(in).Decode(&wire.Host{}); err != nil {
		return fmt.Errorf("reading the host's answer: %w", err)
	}
	shell := &shell{out: out, window: job.Shell}
	go func() {
		fmt.Println("guest: answering the host:", answer(in, out, newExaminer(kernelChecks, blockedCalls), shell.typed))
	}()

	forwardRequests(out)
	end := execute(job, out, shell)
	for _, path := range job.Collect {
		if err := collect(path, out); err != nil {
			fmt.Println("guest:", err)
		}
	}
	if err := out.send(wire.Guest{Exit: &end}); err != nil {
		return err
	}
	// The host ends the VM when it has read that. Powering off by ourselves
	// could cut the message short.
	select {}
}

// sender serialises messages of several goroutines.
type sender struct {
	mu sync.Mutex
	to *wire.Sender
}

func (s *sender) send(m wire.Guest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Send(m)
}

// Write sends p as the program's output.
func (s *sender) Write(p []byte) (int, error) {
	return len(p), s.send(wire.Guest{Output: p})
}

// openRaw opens a serial line for binary data. It is opened blocking: the line
// has a thread of its own to wait in.
func openRaw(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: TCGETS: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: TCSETS: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// lookUp finds symbols in /proc/kallsyms, all of it, as a name can be there
// more than once. Its lines are ADDRESS TYPE NAME, where TYPE is one letter and
// a module's NAME is followed by a tab and [MODULE]; there are 100,000 of them
// and an emulated CPU to read them.
func lookUp(symbols []string) (map[string][]wire.Symbol, error) {
	if len(symbols) == 0 {
		return nil, nil
	}
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := find(f, symbols)
	if err != nil {
		return nil, fmt.Errorf("/proc/kallsyms: %w", err)
	}
	return found, nil
}

// find finds symbols in a text like that of /proc/kallsyms.
func find(kallsyms io.Reader, symbols []string) (map[string][]wire.Symbol, error) {
	wanted := make(map[string]bool)
	for _, symbol := range symbols {
		wanted[symbol] = true
	}
	found := make(map[string][]wire.Symbol)
	var all []uint64
	lines := bufio.NewScanner(kallsyms)
	for lines.Scan() {
		address, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		_, rest, _ = bytes.Cut(rest, []byte(" "))
		name, _, _ := bytes.Cut(rest, []byte("\t"))
		addr, err := strconv.ParseUint(string(address), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		all = append(all, addr)
		if wanted[string(name)] {
			found[string(name)] = append(found[string(name)], wire.Symbol{Address: addr})
		}
	}
	// The file is in the order of addresses but for modules and per-CPU
	// variables.
	slices.Sort(all)
	for _, list := range found {
		for i := range list {
			next := sort.Search(len(all), func(n int) bool { return all[n] > list[i].Address })
			if next < len(all) {
				list[i].End = all[next]
			}
		}
	}
	return found, lines.Err()
}

// execute runs the program to its end, and reaps all that is orphaned
// meanwhile. If the program stops, or fails without having stopped, there is a
// shell.
func execute(job wire.Job, out *sender, shell *shell) wire.Exit {
	for _, dir := range append(job.Mkdir, "/tmp", "/run") {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return wire.Exit{Code: 127, Error: err.Error()}
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return wire.Exit{Code: 127, Error: err.Error()}
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return wire.Exit{Code: 127, Error: err.Error()}
	}
	p, err := os.StartProcess(job.Argv[0], job.Argv, &os.ProcAttr{
		Dir: job.Dir, Env: job.Env, Files: []*os.File{null, w, w}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return wire.Exit{Code: 127, Error: err.Error()}
	}

	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, r)
	}()
	flags := 0
	if shell.window != nil {
		flags = unix.WUNTRACED
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, flags, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return wire.Exit{Code: 127, Error: "wait4: " + err.Error()}
		}
		if pid != p.Pid {
			continue
		}
		if status.Stopped() {
			shell.run("the program has stopped")
			_ = unix.Kill(p.Pid, unix.SIGCONT)
			continue
		}
		if err := drain(r, copied, out); err != nil {
			return wire.Exit{Code: 127, Error: "reading the program's output: " + err.Error()}
		}
		if !status.Exited() || status.ExitStatus() != 0 {
			shell.first("the program has failed")
		}
		return exit(status)
	}
}

// exit is how the program ended.
func exit(status unix.WaitStatus) wire.Exit {
	if status.Signaled() {
		return wire.Exit{Code: 128 + int(status.Signal()), Error: "killed by " + unix.SignalName(status.Signal())}
	}
	return wire.Exit{Code: status.ExitStatus()}
}

// drain waits for the copying of r to end, and copies what is in the pipe
// still. That is all that the program wrote, now that it has ended; a child
// that outlives it may hold the pipe open, and is not waited for.
func drain(r *os.File, copied <-chan struct{}, out io.Writer) error {
	if err := r.SetReadDeadline(time.Now()); err != nil {
		return err
	}
	<-copied
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	left, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
	if err != nil {
		return os.NewSyscallError("ioctl(TIOCINQ)", err)
	}
	_, err = io.CopyN(out, r, int64(left))
	return err
}

// collect sends the file at path, or each one below it.
func collect(path string, out *sender) error {
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return out.send(wire.Guest{File: &wire.File{Path: path, Data: data}})
	})
}
