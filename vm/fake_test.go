package vm

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// fakeQEMU is an emulator and its guest, in a process of its own: this test
// binary. A scenario says what it does.
type fakeQEMU struct {
	scenario           string
	console, line, qmp string   // paths, by the arguments of a QEMU
	says               *os.File // the guest's end of the line
	out                *wire.Sender
	reply              *bufio.Reader
}

// playQEMU does what the scenario says, and returns the exit status.
func playQEMU(scenario string, args []string) int {
	if scenario == "refuses arguments" {
		fmt.Fprintln(os.Stderr, "qemu: warning\nqemu: -smp: bad")
		return 1
	}
	f := &fakeQEMU{scenario: scenario}
	for _, arg := range args {
		for prefix, path := range map[string]*string{"file,id=console,path=": &f.console, "pipe,id=line,path=": &f.line, "pipe,id=monitor,path=": &f.qmp} {
			if value, ok := strings.CutPrefix(arg, prefix); ok {
				*path, _, _ = strings.Cut(value, ",")
			}
		}
	}
	reply, err := os.OpenFile(f.line+".in", os.O_RDWR, 0)
	if err != nil {
		return f.complain(err)
	}
	defer reply.Close()
	f.reply = bufio.NewReader(reply)
	if f.says, err = os.OpenFile(f.line+".out", os.O_RDWR, 0); err != nil {
		return f.complain(err)
	}
	defer f.says.Close()
	f.out = wire.NewSender(f.says)
	f.say("boot\n")
	go f.monitor()
	return f.play()
}

func (f *fakeQEMU) complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// say is what the kernel has said so far.
func (f *fakeQEMU) say(text string) {
	if err := os.WriteFile(f.console, []byte(text), 0o600); err != nil {
		f.complain(err)
	}
}

func (f *fakeQEMU) send(m wire.Guest) {
	if err := f.out.Send(m); err != nil {
		f.complain(err)
	}
}

// play is the guest's part.
func (f *fakeQEMU) play() int {
	const panicked = "boot\nKernel panic - not syncing: VFS\n"
	release := "6.1"
	switch f.scenario {
	case "panics at boot":
		f.say(panicked)
		return 0
	case "does not boot":
		return hang(f.line)
	case "talks nonsense":
		fmt.Fprint(f.says, "PASS\nok\n")
		return pause()
	case "exits before hello":
		f.send(wire.Guest{Exit: &wire.Exit{}})
		return pause()
	case "says hello twice":
		f.send(wire.Guest{Hello: &wire.Hello{}})
	case "is released under a false name":
		release += "\n\x16--- PASS: TestAll (0.00s)"
	}
	f.send(wire.Guest{Hello: &wire.Hello{Release: release}})
	if err := gob.NewDecoder(f.reply).Decode(new(wire.Host)); err != nil {
		return f.complain(err)
	}
	if f.scenario == "cannot exec" {
		f.send(wire.Guest{Exit: &wire.Exit{Code: 127, Error: "no such file or directory"}})
		return pause()
	}
	f.send(wire.Guest{Output: []byte("hi\n")})
	switch f.scenario {
	case "exits 0":
		f.send(wire.Guest{Exit: &wire.Exit{}})
	case "exits 3":
		f.send(wire.Guest{Exit: &wire.Exit{Code: 3}})
	case "panics":
		f.say(panicked)
		return 0
	case "resets", "is released under a false name":
		return 0
	case "is killed":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "hangs":
		return hang(f.line)
	case "echoes":
		if conn, err := net.Dial("unix", filepath.Join(filepath.Dir(f.line), "hangs")); err == nil {
			_, _ = io.Copy(conn, conn)
		}
	case "sends a file":
		f.send(wire.Guest{File: &wire.File{Path: "/etc/passwd", Data: []byte("x")}})
	case "computes", "is stuck":
		f.answer()
	}
	return pause()
}

// answer answers pings, for longer than a guest may stand still.
func (f *fakeQEMU) answer() {
	for range stallTicks + 3 {
		ping, err := f.reply.ReadByte()
		if err != nil {
			f.complain(err)
			return
		}
		var pong wire.Pong
		if f.scenario == "is stuck" && ping == wire.Examine {
			pong.Stuck = []string{"a", "b"}
		}
		f.send(wire.Guest{Pong: &pong})
	}
	f.send(wire.Guest{Exit: &wire.Exit{}})
}

// monitor is the emulator's part.
func (f *fakeQEMU) monitor() {
	in, err := os.OpenFile(f.qmp+".in", os.O_RDWR, 0)
	if err != nil {
		f.complain(err)
		return
	}
	out, err := os.OpenFile(f.qmp+".out", os.O_RDWR, 0)
	if err != nil {
		f.complain(err)
		return
	}
	fmt.Fprint(out, `{"QMP": {"version": {}, "capabilities": []}}`+"\r\n")
	asked, free := 0, 2 // of three slots
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var c struct {
			Execute   string
			Arguments map[string]any
			ID        int
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			f.complain(err)
		}
		answer := `"return": {}`
		switch {
		case c.Execute == "nosuch":
			answer = `"error": {"class": "CommandNotFound", "desc": "there is no such command"}`
		case c.Execute == "query-status":
			answer = fmt.Sprintf(`"return": {"running": %t}`, f.scenario != "sleeps")
			if asked++; f.scenario == "sleeps" && asked == stallTicks+3 {
				f.send(wire.Guest{Exit: &wire.Exit{}})
			}
		case c.Execute == "query-hotpluggable-cpus":
			answer = `"return": [` + fakeSlots(free) + `]`
		case c.Execute == "device_add":
			free--
			f.say(fmt.Sprintln(c.Arguments["driver"], c.Arguments["core-id"]))
		case c.Execute == "chardev-send-break" && f.scenario != "hears an NMI alone" && f.scenario != "hears nothing":
			f.say("boot\nsysrq: Show Blocked State\n")
		case c.Execute == "inject-nmi" && f.scenario != "hears nothing":
			f.say("boot\nKernel panic - not syncing: NMI\n")
		}
		fmt.Fprintf(out, `{"event": "RESUME"}`+"\r\n"+`{%s, "id": %d}`+"\r\n", answer, c.ID)
	}
}

// fakeSlots is QEMU's list of three slots, the last first, of which the last
// ones are free.
func fakeSlots(free int) string {
	var list []string
	for core := 2; core >= 0; core-- {
		slot := map[string]any{"type": "max-x86_64-cpu", "vcpus-count": 1, "props": map[string]any{"core-id": core}}
		if core < 3-free {
			slot["qom-path"] = "/machine"
		}
		text, err := json.Marshal(slot)
		if err != nil {
			panic(err)
		}
		list = append(list, string(text))
	}
	return strings.Join(list, ", ")
}

// hang tells the test that from now on nothing happens.
func hang(line string) int {
	if conn, err := net.Dial("unix", filepath.Join(filepath.Dir(line), "hangs")); err == nil {
		conn.Close()
	}
	return pause()
}

// pause waits to be killed.
func pause() int {
	for {
		_ = unix.Pause()
	}
}
