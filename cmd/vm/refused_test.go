package main_test

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm"
)

// What cannot work is told in one line, before a VM is started.
func TestRefused(t *testing.T) {
	text := "vm_test.go"
	for _, tt := range []struct {
		name   string
		flags  []string
		file   string        // the program, in place of one that runs; what "PROGRAM" stands for
		goOnly bool          // no QEMU, no APT
		stderr string        // regular expression of its only line
		bound  time.Duration // 0: grace
	}{
		{name: "no kernel file", flags: []string{"-kernel", "./nosuch"}, stderr: `vm: no kernel file \./nosuch`},
		{name: "no kernel image", flags: []string{"-kernel", text}, stderr: `vm: kernel vm_test\.go: not a kernel image that QEMU boots \(want .*\)`},
		{name: "no suite", flags: []string{"-kernel", "nosuchsuite"}, stderr: `vm: kernel "nosuchsuite": neither a file nor a Debian suite that http\S+ has`, bound: patience},
		{name: "bad -smp", flags: []string{"-smp", "many"}, stderr: `vm: -smp many: it must be a number of CPUs, .*`},
		{name: "bad -mem", flags: []string{"-mem", "much"}, stderr: `vm: -mem much: it must be an amount of memory, .*`},
		{name: "no QEMU, no APT", goOnly: true, stderr: `vm: qemu-system-\S+ is not installed, and there is no apt-get to install it with: .*`},
		{name: "no program", file: "./nosuch", stderr: `vm: program: open \./nosuch: no such file or directory`},
		{name: "no executable", file: text, stderr: `vm: program vm_test\.go is not an ELF executable: .*`},
		{name: "program for another architecture", file: "PROGRAM", stderr: `vm: program \S+ is for EM_MIPS`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := needVM(t)
			program := b.guest
			switch tt.file {
			case "":
			case "PROGRAM":
				program = filepath.Join(t.TempDir(), "program")
				require.NoError(t, os.WriteFile(program, mips(t), 0o755))
			default:
				program = tt.file
			}
			args := append([]string{"-kernel", suite}, tt.flags...)
			cmd := b.command(t, append(args, program, "output")...)
			if tt.goOnly {
				cmd.Env = append(cmd.Environ(), "PATH="+b.goOnly)
			}
			r := run(t, cmd)
			assert.Equal(t, 1, r.code)
			assert.Empty(t, r.stdout)
			if assert.Len(t, r.complaints(), 1) {
				assert.Regexp(t, `^`+tt.stderr+`\n$`, r.complaints()[0])
			}
			assert.Less(t, r.took, cmp.Or(tt.bound, grace))
		})
	}
}

// mips is the header of an executable for a computer that there is no VM of.
func mips(t *testing.T) []byte {
	t.Helper()
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_MIPS), Version: uint32(elf.EV_CURRENT)}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.BigEndian, header))
	return b.Bytes()
}

// A usage error has an exit status of its own, and is told in one line.
func TestUsage(t *testing.T) {
	const usage = "usage: vm exec [flags] program [arguments]\n"
	_, badPoke := vm.ParsePoke("f")
	require.Error(t, badPoke)
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string // of the usage: the beginning
	}{
		{args: "", code: 2, stderr: usage},
		{args: "run x", code: 2, stderr: usage},
		{args: "exec -help", stdout: usage},
		{args: "exec", code: 2, stderr: "vm: no program to run (vm exec -help lists the flags)\n"},
		{args: "exec -nosuch x", code: 2, stderr: "vm: flag provided but not defined: -nosuch (vm exec -help lists the flags)\n"},
		{
			args: "exec -poke f x", code: 2,
			stderr: `vm: invalid value "f" for flag -poke: ` + badPoke.Error() + " (vm exec -help lists the flags)\n",
		},
	} {
		t.Run(tt.args, func(t *testing.T) {
			b := needVM(t)
			cmd := b.command(t)
			cmd.Args = append(cmd.Args[:1], strings.Fields(tt.args)...)
			r := run(t, cmd)
			assert.Equal(t, tt.code, r.code)
			for _, stream := range []struct{ got, want string }{{r.stdout, tt.stdout}, {r.stderr, tt.stderr}} {
				if stream.want == usage {
					assert.True(t, strings.HasPrefix(stream.got, usage), stream.got)
					assert.Contains(t, stream.got, "-kernel kernel")
				} else {
					assert.Equal(t, stream.want, stream.got)
				}
			}
		})
	}
}
