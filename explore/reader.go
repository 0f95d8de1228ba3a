package explore

import (
	"bytes"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A file is one that is read again and again. It is kept open: to find a file
// by its path takes the kernel longer than to read it.
type file struct {
	key  Key
	path string

	// records reports that one read may return less than all: the file is a list
	// that the kernel prints record by record.
	records bool

	fd     int    // below 0: it is not open
	absent bool   // it could not be opened the last time
	text   string // what was read last
}

func newFile(key Key, path string) *file { return &file{key: key, path: path, fd: -1} }

// A reader has the buffer for all files. It belongs to one goroutine.
type reader struct{ buf []byte }

func newReader() *reader { return &reader{buf: make([]byte, 64<<10)} }

// read returns what is in the file, without the newline at its end; it is valid
// until the next read. The error is an [*fs.PathError].
func (r *reader) read(f *file) ([]byte, error) {
	if f.fd >= 0 {
		if text, err := r.readFrom(f); err == nil {
			return text, nil
		}
		// A cgroup was removed, and perhaps made again.
		f.close()
	}
	fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.absent = true
		return nil, &fs.PathError{Op: "open", Path: f.path, Err: err}
	}
	f.fd, f.absent = fd, false
	text, err := r.readFrom(f)
	if err != nil {
		f.close()
		return nil, &fs.PathError{Op: "read", Path: f.path, Err: err}
	}
	return text, nil
}

// readFrom reads a file from its beginning. One read returns all that is in a
// file of sysfs or of a cgroup.
func (r *reader) readFrom(f *file) ([]byte, error) {
	n := 0
	for {
		if n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		m, err := unix.Pread(f.fd, r.buf[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		n += m
		if m == 0 || !f.records {
			return bytes.TrimSuffix(r.buf[:n], []byte("\n")), nil
		}
	}
}

func (f *file) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
	f.fd = -1
}
