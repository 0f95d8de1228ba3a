package suspend

import (
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

func failed(call string, errno error) error { return &Error{Package: "suspend", Op: call, Err: errno} }

// HoldWakeup begins a wakeup event that lasts until release is called: a
// suspend is aborted with EBUSY while it does, if [FS.SetWakeupCount] has asked
// for that before. The event is that of a file which is watched with
// EPOLLWAKEUP, see epoll_ctl(2); the kernel ignores that for a caller without
// CAP_BLOCK_SUSPEND. A second call of release does nothing more.
//
// The error wraps the errno of eventfd(2), epoll_create1(2) or epoll_ctl(2),
// such as [unix.EMFILE].
func HoldWakeup() (release func() error, err error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, failed("eventfd", err)
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, errors.Join(failed("epoll_create1", err), unix.Close(event))
	}
	// Once: by a second call the numbers of the descriptors may be another file's.
	release = sync.OnceValue(func() error { return errors.Join(unix.Close(poll), unix.Close(event)) })
	err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLWAKEUP})
	if err != nil {
		return nil, errors.Join(failed("epoll_ctl", err), release())
	}
	if _, err := unix.Write(event, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		return nil, errors.Join(failed("write", err), release())
	}
	return release, nil
}
