package explore

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// A reader reads files again and again. It keeps them open: to find a file by its
// path takes the kernel longer than to read it.
type reader struct {
	open map[string]int
	buf  []byte
}

func newReader() *reader { return &reader{open: make(map[string]int), buf: make([]byte, 64<<10)} }

// read returns what is in the file, without the newline at its end. The error is
// an [*fs.PathError].
func (r *reader) read(path string) (string, error) {
	fd, ok := r.open[path]
	if ok {
		if text, err := r.readFrom(fd); err == nil {
			return text, nil
		}
		// A cgroup was removed, and perhaps made again.
		r.close(path)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	text, err := r.readFrom(fd)
	if err != nil {
		unix.Close(fd)
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	r.open[path] = fd
	return text, nil
}

// readFrom reads a file from its beginning. One read returns all that is in a file
// of sysfs or of a cgroup; those of /proc may take more.
func (r *reader) readFrom(fd int) (string, error) {
	n := 0
	for {
		if n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		m, err := unix.Pread(fd, r.buf[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		n += m
		if m == 0 || n < 4096 && n == m {
			return strings.TrimSuffix(string(r.buf[:n]), "\n"), nil
		}
	}
}

func (r *reader) close(path string) {
	if fd, ok := r.open[path]; ok {
		unix.Close(fd)
		delete(r.open, path)
	}
}

// closeBelow closes the files whose path begins with prefix.
func (r *reader) closeBelow(prefix string) {
	for path := range r.open {
		if strings.HasPrefix(path, prefix) {
			r.close(path)
		}
	}
}
