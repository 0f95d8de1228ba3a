package hotplugtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
	"github.com/hotplugtest/hotplugtest/suite"
)

// takenPages is less than what a kernel counts on a CPU before it adds it to
// the cgroup's.
const takenPages = 20

// takeMemory starts a process in a cgroup that takes memory on a CPU, and
// returns when it has. end ends it.
func takeMemory(c *cpuset.Group, cpu int) (end func() error, err error) {
	program, err := takerFile()
	if err != nil {
		return nil, err
	}
	defer program.Close()
	group, err := unix.Open(c.Path(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: c.Path(), Err: err}
	}
	defer unix.Close(group)
	in, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	taken, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stop.Close())
	}
	defer taken.Close()
	var process *os.Process
	// It inherits the mask of the thread that starts it.
	err = affinity.Run(affinity.Of(cpu), func() (err error) {
		process, err = os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), []string{program.Name()}, &os.ProcAttr{
			Files: []*os.File{in, out, nil}, Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: group},
		})
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			err = suite.Unsupportedf("a program in memory is not executed here: %v", err)
		}
		return err
	})
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, errors.Join(err, stop.Close())
	}
	end = func() error {
		err := stop.Close()
		state, waitErr := process.Wait()
		if waitErr == nil && !state.Success() {
			waitErr = fmt.Errorf("the program that takes memory: %v", state)
		}
		return errors.Join(err, waitErr)
	}
	if n, err := taken.Read(make([]byte, 1)); n != 1 {
		return nil, errors.Join(fmt.Errorf("the program that takes memory has ended: %w", err), end())
	}
	return end, nil
}

// takerFile has [takerProgram] in memory, which leaves nothing behind and does
// not ask for a directory in which programs can be executed.
func takerFile() (*os.File, error) {
	const name = "hotplugtest-taker"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC: before v6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if errors.Is(err, unix.EACCES) {
		err = suite.Unsupportedf("no program can be executed from memory: the sysctl vm.memfd_noexec forbids it")
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.Write(takerProgram()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// takerProgram is an ELF program for amd64 without a runtime that takes memory
// of its own. It touches its pages, writes a byte to its standard output, and
// ends when its standard input does.
func takerProgram() []byte {
	const text, data, headers = 0x400000, 0x600000, 64 + 2*56
	code := []byte{
		0x48, 0xc7, 0xc7, 0, 0, 0x60, 0, // mov $data, %rdi
		0xb9, takenPages, 0, 0, 0, // mov $takenPages, %ecx
		0xc6, 0x07, 1, // movb $1, (%rdi)
		0x48, 0x81, 0xc7, 0, 0x10, 0, 0, // add $4096, %rdi
		0xff, 0xc9, // dec %ecx
		0x75, 0xf2, // jnz to movb
		0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, // mov $SYS_write, %eax; mov $1, %edi
		0xbe, 0, 0, 0x40, 0, 0xba, 1, 0, 0, 0, 0x0f, 0x05, // mov $text, %esi; mov $1, %edx; syscall
		0x31, 0xc0, 0x31, 0xff, // xor %eax, %eax: SYS_read; xor %edi, %edi
		0xbe, 0, 0, 0x60, 0, 0xba, 1, 0, 0, 0, 0x0f, 0x05, // mov $data, %esi; mov $1, %edx; syscall
		0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // mov $SYS_exit, %eax; xor %edi, %edi; syscall
	}
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = append16(b, 2, 62)               // ET_EXEC, EM_X86_64
	b = append32(b, 1)                   // EV_CURRENT
	b = append64(b, text+headers, 64, 0) // e_entry, e_phoff, e_shoff
	b = append32(b, 0)
	b = append16(b, 64, 56, 2, 0, 0, 0) // of the header, of a program header, how many; no sections
	size := uint64(headers + len(code))
	b = append32(b, 1, 5) // PT_LOAD, PF_R|PF_X
	b = append64(b, 0, text, text, size, size, 4096)
	b = append32(b, 1, 6) // PT_LOAD, PF_R|PF_W
	b = append64(b, 0, data, data, 0, takenPages*4096, 4096)
	return append(b, code...)
}

func append16(b []byte, values ...uint16) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

func append32(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func append64(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
