package syserr_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

func TestError(t *testing.T) {
	malformed := errors.New("no line for cpu1")
	for want, err := range map[string]error{
		"read /f: ENOENT (no such file or directory)":                &syserr.Error{Op: "read", Path: "/f", Err: unix.ENOENT},
		"p: read /f: no line for cpu1":                               &syserr.Error{Package: "p", Op: "read", Path: "/f", Err: malformed},
		`p: write "" to /f: EBUSY (device or resource busy)`:         &syserr.Error{Package: "p", Op: "write", Path: "/f", Err: unix.EBUSY},
		"p: socket: EMFILE (too many open files)":                    &syserr.Error{Package: "p", Op: "socket", Err: unix.EMFILE},
		"p: write \"1\" to /f: errno 524 (errno 524)":                &syserr.Error{Package: "p", Op: "write", Path: "/f", Value: "1", Err: unix.Errno(524)},
		"p: read /f: EBUSY (device or resource busy): has thread 12": &syserr.Error{Package: "p", Op: "read", Path: "/f", Err: fmt.Errorf("%w: has thread 12", syserr.Named(unix.EBUSY))},
	} {
		assert.EqualError(t, err, want)
	}
}

func TestIn(t *testing.T) {
	assert.NoError(t, syserr.In("p", nil))
	malformed := errors.New("no line for cpu1")
	plain := &syserr.Error{Op: "read", Path: "/f", Err: unix.ENOENT}
	for _, tt := range []struct {
		err   error
		want  string
		cause error
	}{
		{plain, "p: read /f: ENOENT (no such file or directory)", unix.ENOENT},
		{syserr.In("p", plain), "p: read /f: ENOENT (no such file or directory)", unix.ENOENT},
		{syserr.In("q", plain), "p: q: read /f: ENOENT (no such file or directory)", unix.ENOENT},
		{&fs.PathError{Op: "stat", Path: "/f", Err: unix.ENOENT}, "p: stat /f: ENOENT (no such file or directory)", fs.ErrNotExist},
		{os.NewSyscallError("poll", unix.EINVAL), "p: poll: EINVAL (invalid argument)", unix.EINVAL},
		{unix.EPERM, "p: EPERM (operation not permitted)", fs.ErrPermission},
		{malformed, "p: no line for cpu1", malformed},
	} {
		err := syserr.In("p", tt.err)
		assert.EqualError(t, err, tt.want)
		assert.ErrorIs(t, err, tt.cause)
	}
	assert.Empty(t, plain.Package, "In changes no error that somebody else may hold")
	assert.EqualError(t, syserr.In("", &fs.PathError{Op: "stat", Path: "/f", Err: unix.ENOENT}), "stat /f: ENOENT (no such file or directory)")
}

func TestCause(t *testing.T) {
	assert.Equal(t, unix.ENOENT, syserr.Cause(&fs.PathError{Op: "stat", Path: "/f", Err: unix.ENOENT}))
	malformed := errors.New("no line for cpu1")
	assert.Equal(t, malformed, syserr.Cause(malformed))
}
