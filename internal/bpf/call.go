package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// What a scheduler takes is loaded by bpf(2) itself: the library would decode
// all of the kernel's types first, which takes seconds under emulation.

// byteOrder is this machine's: the assembler knows binary.NativeEndian not.
var byteOrder binary.ByteOrder = func() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}()

// attrSize is more than the kernel knows of union bpf_attr. The rest is 0.
const attrSize = 256

// attr is union bpf_attr of include/uapi/linux/bpf.h.
type attr [attrSize / 8]uint64

func (a *attr) u32(offset int, value uint32) {
	*(*uint32)(unsafe.Add(unsafe.Pointer(a), offset)) = value
}

// pointer writes an address. pin keeps what is there.
func (a *attr) pointer(pin *runtime.Pinner, offset int, to []byte) {
	pin.Pin(&to[0])
	a[offset/8] = uint64(uintptr(unsafe.Pointer(&to[0])))
}

func (a *attr) text(offset int, text string) {
	copy(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(a), offset)), 15), text)
}

// call is bpf(2). The descriptors that it returns are closed by exec(2).
func call(command int, a *attr, size int) (int, error) {
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(a)), uintptr(size))
		// EAGAIN: the verifier was interrupted by a signal.
		if errno != unix.EINTR && errno != unix.EAGAIN {
			if errno != 0 {
				return -1, errno
			}
			return int(fd), nil
		}
	}
}

// loadTypes gives the kernel a type of one's own, an integer. A map of
// callbacks must name some types, and no more than that.
func loadTypes() (int, error) {
	words := func(words ...uint32) (b []byte) {
		for _, w := range words {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	btf := binary.NativeEndian.AppendUint16(nil, 0xeb9f)
	btf = append(btf, 1, 0) // version, flags
	btf = append(btf, words(24, 0, 16, 16, 5)...)
	btf = append(btf, words(1, 1<<24, 4, 32)...) // its name, kind, bytes, bits
	btf = append(btf, 0, 'i', 'n', 't', 0)
	var a attr
	var pin runtime.Pinner
	defer pin.Unpin()
	a.pointer(&pin, 0, btf)
	a.u32(16, uint32(len(btf)))
	fd, err := call(unix.BPF_BTF_LOAD, &a, 28)
	return fd, failed("load", "a type", err)
}

// newCallbacks makes a map of a struct of callbacks: t is the struct that the
// kernel has around it.
func newCallbacks(t kernelType, value []byte) (int, error) {
	types, err := loadTypes()
	if err != nil {
		return -1, err
	}
	defer unix.Close(types)
	var a attr
	a.u32(0, unix.BPF_MAP_TYPE_STRUCT_OPS)
	a.u32(4, 4) // the size of a key
	a.u32(8, t.size)
	a.u32(12, 1) // entries
	a.u32(16, unix.BPF_F_LINK)
	a.text(28, "hotplugtest")
	a.u32(48, uint32(types))
	a.u32(60, t.id)
	fd, err := call(unix.BPF_MAP_CREATE, &a, 72)
	if err != nil {
		return -1, failed("create the map", "of callbacks", err)
	}
	a = attr{}
	var pin runtime.Pinner
	defer pin.Unpin()
	a.u32(0, uint32(fd))
	a.pointer(&pin, 8, make([]byte, 4))
	a.pointer(&pin, 16, value)
	if _, err := call(unix.BPF_MAP_UPDATE_ELEM, &a, 32); err != nil {
		unix.Close(fd)
		return -1, failed("update", "the map of callbacks", err)
	}
	return fd, nil
}

// loadCallback loads the program of a callback: a member of the struct t.
func loadCallback(t kernelType, name string, code asm.Instructions) (int, error) {
	member, _, err := t.find(name)
	if err != nil {
		return -1, failed("load the callback", name, err)
	}
	var insns bytes.Buffer
	if err := code.Marshal(&insns, byteOrder); err != nil {
		return -1, failed("assemble the callback", name, err)
	}
	var a attr
	var pin runtime.Pinner
	defer pin.Unpin()
	a.u32(0, unix.BPF_PROG_TYPE_STRUCT_OPS)
	a.u32(4, uint32(insns.Len()/asm.InstructionSize))
	a.pointer(&pin, 8, insns.Bytes())
	a.pointer(&pin, 16, []byte("GPL\x00"))
	if name == "init" {
		a.u32(44, unix.BPF_F_SLEEPABLE)
	}
	a.text(48, name)
	a.u32(68, uint32(member))
	a.u32(108, t.id)
	fd, err := call(unix.BPF_PROG_LOAD, &a, 120)
	if err == nil {
		return fd, nil
	}
	// Once more, for what the verifier says.
	log := make([]byte, 1<<16)
	a.u32(24, 1) // its level
	a.u32(28, uint32(len(log)))
	a.pointer(&pin, 32, log)
	if fd, again := call(unix.BPF_PROG_LOAD, &a, 120); again == nil {
		return fd, nil
	}
	lines := strings.Split(strings.TrimSpace(unix.ByteSliceToString(log)), "\n")
	return -1, failed("load the callback", fmt.Sprintf("%s (%s)", name, strings.Join(lines[max(0, len(lines)-3):], "; ")), err)
}

// link enables the callbacks of a map until the descriptor is closed.
func linkCallbacks(callbacks int) (int, error) {
	var a attr
	a.u32(0, uint32(callbacks))
	a.u32(8, unix.BPF_STRUCT_OPS)
	fd, err := call(unix.BPF_LINK_CREATE, &a, 16)
	return fd, failed("enable", "the callbacks", os.NewSyscallError("bpf", err))
}
