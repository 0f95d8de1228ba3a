package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// failure says how a VM ended that did not say so itself: QEMU with the error ended, which can be nil, and stderr.
func (vm *VM) failure(g *guest, ended error, stderr string) error {
	when := "before the program started"
	if g.started {
		when = "while the program ran"
	}
	f := vm.failed("the VM ended " + when)
	switch {
	case f.Console == "" && stderr != "":
		// Nothing has run. QEMU does not like what it was given.
		return errors.New(complaint(stderr))
	case strings.Contains(f.Console, "Kernel panic"):
		f.What = fmt.Sprintf("the kernel panicked %s", when)
	case stderr != "":
		f.What = fmt.Sprintf("%s: %s", f.What, complaint(stderr))
	case ended != nil:
		f.What = fmt.Sprintf("%s: QEMU: %v", f.What, ended)
	}
	f.What += g.linux()
	return f
}

func (vm *VM) failed(what string) *Failure {
	text, _ := os.ReadFile(vm.console)
	return &Failure{What: what, Console: crash(string(text)), Log: vm.console}
}

const consoleLines = 100

// crashStart matches the first line of what a kernel says when it dies.
var crashStart = regexp.MustCompile(`(?m)^.*(BUG: |Oops: |Oops\[|Internal error: |Unable to handle kernel|general protection fault|kernel BUG at|Kernel panic|sysrq: Show Blocked State).*$`)

// crash picks what matters of the console's text: what the kernel said of its crash, or else the end.
func crash(text string) string {
	text = printable(text, "\n\t")
	if at := crashStart.FindStringIndex(text); at != nil {
		lines := strings.Split(strings.TrimSpace(text[at[0]:]), "\n")
		return strings.Join(lines[:min(len(lines), consoleLines)], "\n")
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-consoleLines/4):], "\n")
}

// printable drops the control characters of a kernel's text, which could pass for the frames of test results, except some.
func printable(text, except string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(except, r) || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}

// Print writes the failure for people, each line marked so that it can be told from the program's own.
func (f *Failure) Print(w io.Writer) {
	fmt.Fprintf(w, "\nvm: %s\n", f.What)
	if f.Console != "" {
		for line := range strings.Lines(f.Console) {
			fmt.Fprintf(w, "vm: | %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	if f.Doubt != "" {
		fmt.Fprintf(w, "vm: %s\n", f.Doubt)
	}
	if f.Log != "" {
		fmt.Fprintf(w, "vm: the whole console is in %s\n", f.Log)
	}
}

// keep moves a console's text to where it outlives the VM.
func keep(console string) string {
	data, err := os.ReadFile(console)
	if err != nil {
		return ""
	}
	f, err := os.CreateTemp("", "vm-console-*.log")
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return ""
	}
	return f.Name()
}

// native tells whether the machine is of the architecture that this runs on.
func (m machine) native() bool {
	return machines[runtime.GOARCH].qemu == m.qemu
}

// kvmFails returns the file that marks KVM as unfit until this machine's next boot, or "" where there is no KVM or it is
// marked already. A virtual machine can have a /dev/kvm that hangs whatever it is given, so only trying tells.
func kvmFails(cache string) string {
	if unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	mark := filepath.Join(cache, "kvm-fails-"+strings.TrimSpace(string(boot)))
	if _, err := os.Stat(mark); err == nil {
		return ""
	}
	return mark
}

// complaint is why QEMU says that it ends: the last line with its name, which hints can follow.
func complaint(stderr string) string {
	for _, line := range slices.Backward(strings.Split(stderr, "\n")) {
		if strings.HasPrefix(line, "qemu") {
			return strings.TrimSpace(line)
		}
	}
	return lastLine(stderr)
}

// lastLine is where programs say why they end.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
