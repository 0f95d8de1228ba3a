package vm

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// line is the host's end of the guest's second serial line: two FIFOs, PATH.in
// and PATH.out. QEMU sends one byte at a time. A FIFO takes as many of them as
// it has room for; a socket takes some 300, whatever they hold, and then the
// guest has to wait for this process. What has to wait when the guest goes to
// sleep (S3) is lost.
type line struct {
	in, out *os.File // to the guest, and from it
	hold    *os.File // the end of out that QEMU writes to
}

func newLine(path string) (l *line, err error) {
	l = &line{}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for _, end := range []struct {
		file *(*os.File)
		path string
		flag int
	}{{&l.in, ".in", os.O_RDWR}, {&l.out, ".out", os.O_RDONLY}, {&l.hold, ".out", os.O_WRONLY}} {
		path := path + end.path
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return l, &os.PathError{Op: "mkfifo", Path: path, Err: err}
		}
		if *end.file, err = os.OpenFile(path, end.flag|unix.O_NONBLOCK, 0); err != nil {
			return l, err
		}
	}
	// As much as anybody may have; less will do. (Fd would make it block.)
	raw, err := l.out.SyscallConn()
	if err != nil {
		return l, err
	}
	return l, raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
}

func (l *line) Read(p []byte) (int, error)  { return l.out.Read(p) }
func (l *line) Write(p []byte) (int, error) { return l.in.Write(p) }

// hangUp makes what is still to be read the last of it, once QEMU has ended.
func (l *line) hangUp() { l.hold.Close() }

func (l *line) Close() {
	for _, f := range []*os.File{l.in, l.out, l.hold} {
		f.Close() // of nil, or again, is an error and no harm
	}
}
