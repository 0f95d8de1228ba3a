package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// typesFile has the types of the running kernel, in the format BTF.
const typesFile = "/sys/kernel/btf/vmlinux"

// readTypes returns the types, until end is called. Reading goes page by page
// and takes ten times as long as mapping, which old kernels refuse.
func readTypes() (btf []byte, end func(), err error) {
	f, err := os.Open(typesFile)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	btf, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		return btf, func() { _ = unix.Munmap(btf) }, nil
	}
	btf, err = io.ReadAll(f)
	return btf, func() {}, err
}

// Kinds of types, in Documentation/bpf/btf.rst.
const (
	kindStruct = 4
	kindFunc   = 12
	lastKind   = 19
)

// After a type, there is so much for each of its elements, or once.
var (
	eachElement = [lastKind + 1]uint32{kindStruct: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12} // struct, union, enum, prototype, section, enum64
	onceForType = [lastKind + 1]uint32{1: 4, 3: 12, 14: 4, 17: 4}                          // int, array, variable, tag of a declaration
)

// A kernelType is a struct or a function of the kernel.
type kernelType struct {
	id, kind, size uint32
	members        []typeMember // of a struct
}

type typeMember struct {
	name   string
	offset int // bytes
}

// find returns the index of a member and its offset.
func (t kernelType) find(name string) (index, offset int, err error) {
	for i, m := range t.members {
		if m.name == name {
			return i, m.offset, nil
		}
	}
	return 0, 0, fmt.Errorf("a struct has no member %s", name)
}

var errTypes = errors.New("no BTF that is understood")

// findTypes returns the structs and functions with some names. Those that there
// are not are missing in the result. It does no more than that, since to decode
// all of the kernel's types takes long.
func findTypes(btf []byte, names ...string) (map[string]kernelType, error) {
	word := func(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
	if len(btf) < 24 || binary.NativeEndian.Uint16(btf) != 0xeb9f {
		return nil, fmt.Errorf("%w: no header", errTypes)
	}
	section := func(i int) ([]byte, error) {
		from, size := uint64(word(btf, 1))+uint64(word(btf, i)), uint64(word(btf, i+1))
		if from+size > uint64(len(btf)) {
			return nil, fmt.Errorf("%w: it is cut off", errTypes)
		}
		return btf[from : from+size], nil
	}
	types, err := section(2)
	texts, failed := section(4)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	name := func(at uint32) string { return unix.ByteSliceToString(texts[min(int(at), len(texts)):]) }
	// Most are told from the wanted ones by their first letter.
	var wanted [256][]string
	for _, name := range names {
		wanted[name[0]] = append(wanted[name[0]], name)
	}
	isWanted := func(at uint32) bool {
		return int(at) < len(texts) && wanted[texts[at]] != nil && slices.Contains(wanted[texts[at]], name(at))
	}
	found := make(map[string]kernelType)
	for id := uint32(1); len(types) > 0; id++ {
		if len(types) < 12 {
			return nil, fmt.Errorf("%w: type %d is cut off", errTypes, id)
		}
		info := word(types, 1)
		kind, elements := info>>24&0x1f, info&0xffff
		if kind == 0 || kind > lastKind {
			return nil, fmt.Errorf("%w: type %d is of kind %d", errTypes, id, kind)
		}
		length := int(12 + onceForType[kind] + elements*eachElement[kind])
		if len(types) < length {
			return nil, fmt.Errorf("%w: type %d is cut off", errTypes, id)
		}
		if at := word(types, 0); (kind == kindStruct || kind == kindFunc) && isWanted(at) {
			t := kernelType{id: id, kind: kind, size: word(types, 2)}
			for i := 3; kind == kindStruct && i < length/4; i += 3 {
				bits := word(types, i+2)
				if info>>31 != 0 {
					// The rest is the size of a bit field.
					bits &= 0xffffff
				}
				t.members = append(t.members, typeMember{name(word(types, i)), int(bits / 8)})
			}
			found[name(at)] = t
		}
		types = types[length:]
	}
	return found, nil
}
