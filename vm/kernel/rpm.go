package kernel

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cavaliergopher/cpio"
	"github.com/cavaliergopher/rpm"
)

// Tags of an RPM's header that package rpm has no method for: see
// https://rpm.org/docs/latest/manual/tags.html.
const (
	rpmRequireName   = 1049
	rpmSourcePackage = 1106

	rpmSigSize     = 1000 // in the header with signatures: of all that follows it
	rpmSigLongSize = 270
)

// rpmArchitectures are the names of architectures in RPMs.
var rpmArchitectures = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x", "noarch": "",
}

// readRPM reads the headers of an RPM: a lead of 96 bytes, a header with
// signatures, padded to 8 bytes, a header that describes the package, and the
// files, as a packed cpio archive.
func readRPM(f io.ReaderAt, size int64) (*archive, error) {
	const lead = 96
	end, err := checkRPMHeader(f, lead, size)
	if err != nil {
		return nil, err
	}
	start := (end + 7) &^ 7
	payload, err := checkRPMHeader(f, start, size)
	if err != nil {
		return nil, err
	}
	p, err := readRPMHeaders(io.NewSectionReader(f, 0, payload))
	if err != nil {
		return nil, err
	}
	follows := cmp.Or(p.Signature.GetTag(rpmSigLongSize).Int64(), p.Signature.GetTag(rpmSigSize).Int64())
	if follows < 0 || follows > size-start {
		return nil, fmt.Errorf("the package is cut off after %d of %d bytes", size, start+follows)
	}
	a := &archive{name: p.Name(), version: p.Version() + "-" + p.Release(), depends: p.Header.GetTag(rpmRequireName).StringSlice()}
	if epoch := p.Epoch(); epoch > 0 {
		a.version = fmt.Sprintf("%d:%s", epoch, a.version)
	}
	if a.name == "" {
		return nil, errors.New("the package is damaged: its header has no name")
	}
	goarch, ok := rpmArchitectures[p.Architecture()]
	if !ok {
		goarch = p.Architecture()
	}
	a.goarch = goarch
	if p.Header.GetTag(rpmSourcePackage).Int64() > 0 {
		a.source, a.goarch = true, "" // it says where it was made
	}
	a.files = func(visit visitor) error { return visitCPIO(io.NewSectionReader(f, payload, size-payload), visit) }
	return a, nil
}

// checkRPMHeader checks that the header at an offset is whole and has no more
// values than room for them, and returns the offset after it. Package rpm makes
// room for as many values as a header says that there are.
func checkRPMHeader(f io.ReaderAt, at, size int64) (end int64, err error) {
	const (
		magic     = "\x8e\xad\xe8\x01"
		intro     = 16
		entrySize = 16
		most      = 32 << 20 // of the index and of the values, in package rpm
	)
	var head [intro]byte
	if _, err := f.ReadAt(head[:], at); err != nil {
		return 0, fmt.Errorf("the package is cut off after %d bytes", size)
	}
	be := binary.BigEndian
	entries, length := int64(be.Uint32(head[8:])), int64(be.Uint32(head[12:]))
	damaged := fmt.Errorf("the package is damaged at byte %d", at)
	if string(head[:4]) != magic || entries > most/entrySize || length > most {
		return 0, damaged
	}
	end = at + intro + entries*entrySize + length
	if end > size {
		return 0, fmt.Errorf("the package is cut off after %d bytes", size)
	}
	index := make([]byte, entries*entrySize)
	if _, err := f.ReadAt(index, at+intro); err != nil {
		return 0, err
	}
	values := int64(0)
	for ; len(index) > 0; index = index[entrySize:] {
		values += int64(be.Uint32(index[12:]))
		if offset := int64(be.Uint32(index[8:])); offset >= length || values > length {
			return 0, damaged
		}
	}
	return end, nil
}

// readRPMHeaders reads headers that were checked. Of a text without an end,
// package rpm panics, and its errors are about its own code.
func readRPMHeaders(r io.Reader) (p *rpm.Package, err error) {
	defer func() {
		if recover() != nil || err != nil {
			err = errors.New("the package is damaged: its header has values that are none")
		}
	}()
	return rpm.Read(r)
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
