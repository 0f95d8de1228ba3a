package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cavaliergopher/cpio"
)

// Tags of an RPM's header: see https://rpm.org/docs/latest/manual/tags.html.
const (
	rpmName          = 1000
	rpmVersion       = 1001
	rpmRelease       = 1002
	rpmEpoch         = 1003
	rpmArch          = 1022
	rpmRequireName   = 1049
	rpmSourcePackage = 1106

	rpmSigSize     = 1000 // in the header with signatures: of all that follows it
	rpmSigLongSize = 270
)

// rpmArchitectures are the names of architectures in RPMs.
var rpmArchitectures = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x", "noarch": "",
}

// rpmHeader is the values of a header, by tag: strings, or numbers.
type rpmHeader struct {
	texts   map[uint32][]string
	numbers map[uint32]uint64
}

func (h *rpmHeader) text(tag uint32) string {
	if list := h.texts[tag]; len(list) > 0 {
		return list[0]
	}
	return ""
}

// readRPM reads the headers of an RPM: a lead of 96 bytes, a header with
// signatures, padded to 8 bytes, a header that describes the package, and the
// files, as a packed cpio archive.
func readRPM(f io.ReaderAt, size int64) (*archive, error) {
	const lead = 96
	signatures, end, err := readRPMHeader(f, lead, size)
	if err != nil {
		return nil, err
	}
	start := (end + 7) &^ 7
	follows := signatures.numbers[rpmSigSize]
	if n := signatures.numbers[rpmSigLongSize]; n > 0 {
		follows = n
	}
	if follows > uint64(max(size-start, 0)) {
		return nil, fmt.Errorf("the package is cut off after %d of %d bytes", size, uint64(start)+follows)
	}
	h, payload, err := readRPMHeader(f, start, size)
	if err != nil {
		return nil, err
	}
	a := &archive{name: h.text(rpmName), version: h.text(rpmVersion) + "-" + h.text(rpmRelease), depends: h.texts[rpmRequireName]}
	if epoch := h.numbers[rpmEpoch]; epoch > 0 {
		a.version = fmt.Sprintf("%d:%s", epoch, a.version)
	}
	if a.name == "" {
		return nil, errors.New("the package is damaged: its header has no name")
	}
	arch := h.text(rpmArch)
	goarch, ok := rpmArchitectures[arch]
	if !ok {
		goarch = arch
	}
	a.goarch = goarch
	if h.numbers[rpmSourcePackage] > 0 {
		a.source, a.goarch = true, "" // it says where it was made
	}
	a.files = func(visit visitor) error { return visitCPIO(io.NewSectionReader(f, payload, size-payload), visit) }
	return a, nil
}

// readRPMHeader reads the header at an offset, and returns the offset after it.
func readRPMHeader(f io.ReaderAt, at, size int64) (*rpmHeader, int64, error) {
	const (
		magic     = "\x8e\xad\xe8\x01"
		intro     = 16
		entrySize = 16
		most      = 64 << 20
	)
	var head [intro]byte
	if _, err := f.ReadAt(head[:], at); err != nil {
		return nil, 0, fmt.Errorf("the package is cut off after %d bytes", size)
	}
	be := binary.BigEndian
	entries, length := int64(be.Uint32(head[8:])), int64(be.Uint32(head[12:]))
	if string(head[:4]) != magic || entries > most/entrySize || length > most {
		return nil, 0, fmt.Errorf("the package is damaged at byte %d", at)
	}
	end := at + intro + entries*entrySize + length
	if end > size {
		return nil, 0, fmt.Errorf("the package is cut off after %d bytes", size)
	}
	index, store := make([]byte, entries*entrySize), make([]byte, length)
	_, err := f.ReadAt(index, at+intro)
	_, storeErr := f.ReadAt(store, at+intro+entries*entrySize)
	if err := errors.Join(err, storeErr); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	h := &rpmHeader{texts: make(map[uint32][]string), numbers: make(map[uint32]uint64)}
	for ; len(index) > 0; index = index[entrySize:] {
		tag, kind := be.Uint32(index), be.Uint32(index[4:])
		offset, count := be.Uint32(index[8:]), be.Uint32(index[12:])
		if int64(offset) <= length {
			h.read(tag, kind, store[offset:], count)
		}
	}
	return h, end, nil
}

// read reads a value, if it is a text or a number.
func (h *rpmHeader) read(tag, kind uint32, data []byte, count uint32) {
	const (
		int32Kind   = 4
		int64Kind   = 5
		stringKind  = 6
		stringsKind = 8
		i18nKind    = 9
	)
	switch kind {
	case int32Kind:
		if len(data) >= 4 {
			h.numbers[tag] = uint64(binary.BigEndian.Uint32(data))
		}
	case int64Kind:
		if len(data) >= 8 {
			h.numbers[tag] = min(binary.BigEndian.Uint64(data), math.MaxInt64)
		}
	case stringKind, stringsKind, i18nKind:
		for range count {
			text, rest, ok := bytes.Cut(data, []byte{0})
			if !ok {
				return
			}
			h.texts[tag] = append(h.texts[tag], string(text))
			data = rest
		}
	}
}

// visitCPIO visits the files of a packed cpio archive.
func visitCPIO(r io.Reader, visit visitor) error {
	unpacked, err := decompress(r)
	if err != nil {
		return damaged(err)
	}
	for c := cpio.NewReader(unpacked); ; {
		h, err := c.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		if !h.FileInfo().Mode().IsRegular() || h.Size == 0 {
			continue
		}
		if more, err := visit(h.Name, c); err != nil || !more {
			return damaged(err)
		}
	}
}
