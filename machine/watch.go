package machine

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watch sees what other processes write while tests run, through fanotify(7),
// and has it in the snapshot from then on: what they have written is restored,
// not what it was before. The kernel's own changes are no writes.
type watch struct {
	file   *os.File
	ours   []int // process ids whose writes are the tests'
	buffer []byte

	// classes are the paths of files of /sys/class, by where these are.
	classes map[string]string

	mutex    sync.Mutex
	snapshot *Snapshot
	changed  func()        // called when the snapshot has changed
	ended    chan struct{} // closed when nothing is read any more
}

// watched are the settings that others may write meanwhile. What a controller
// is used for says more than who wrote subtree_control last.
func watched() []setting {
	var list []setting
	for _, p := range parts {
		if f, ok := p.(setting); ok && !f.fixed && f.name != subtreeControl.name {
			list = append(list, f)
		}
	}
	return list
}

// watchOthers watches the files of a snapshot, and calls changed when it has
// changed. Of /proc it watches all, since the interrupts of a driver that has
// resumed have other files than before.
func watchOthers(s *Snapshot, changed func(), ours ...int) (*watch, error) {
	const flags = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, &Error{Op: "fanotify_init", Err: err}
	}
	w := &watch{
		file: os.NewFile(uintptr(fd), "fanotify"), ours: ours, buffer: make([]byte, 64<<10),
		snapshot: s, changed: changed, ended: make(chan struct{}), classes: make(map[string]string),
	}
	mark := func(path string, flags uint) error {
		err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|flags, unix.FAN_MODIFY, unix.AT_FDCWD, s.path(path))
		if err != nil && err != unix.ENOENT { // a cgroup may have gone meanwhile
			return &Error{Op: "fanotify_mark", Path: path, Err: err}
		}
		return nil
	}
	var errs []error
	var proc unix.Statfs_t
	if unix.Statfs(s.path("proc"), &proc) == nil && proc.Type == unix.PROC_SUPER_MAGIC {
		errs = append(errs, mark("/proc", unix.FAN_MARK_FILESYSTEM))
	}
	for _, path := range s.watchedFiles() {
		if place, err := filepath.EvalSymlinks(s.path(path)); err == nil && strings.HasPrefix(path, "/sys/class/") {
			w.classes[s.name(place)] = path
		}
		errs = append(errs, mark(path, 0))
	}
	if err := errors.Join(errs...); err != nil {
		w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// watchedFiles returns the files outside of /proc whose writes are watched.
func (s *Snapshot) watchedFiles() []string {
	files, _ := filepath.Glob(s.path(onlinePattern))
	for i, file := range files {
		files[i] = s.name(file)
	}
	for _, f := range watched() {
		files = slices.AppendSeq(files, maps.Keys(s.Settings[f.name]))
	}
	return files
}

// run takes in what others write until the watch is closed.
func (w *watch) run() {
	defer close(w.ended)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	// It never says that it is done, so it is called whenever there is more.
	_ = raw.Read(func(fd uintptr) bool { return w.drain(int(fd)) != nil })
}

// latest returns a copy of the snapshot, with all that was written so far.
func (w *watch) latest() *Snapshot {
	if raw, err := w.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = w.drain(int(fd)) })
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.snapshot.clone()
}

// close ends the watch.
func (w *watch) close() {
	w.file.Close()
	<-w.ended
}

// drain takes in what was written so far.
func (w *watch) drain(fd int) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	theirs, ours, err := w.written(fd)
	changed := false
	for err == nil && len(theirs) > 0 {
		// What the tests have written too may be their value by now.
		paths := slices.DeleteFunc(theirs, func(path string) bool { return slices.Contains(ours, path) })
		before := w.snapshot.clone()
		adopted := w.snapshot.adopt(paths)
		theirs, ours, err = w.written(fd)
		if slices.ContainsFunc(paths, func(path string) bool { return slices.Contains(ours, path) }) {
			*w.snapshot = *before
			theirs = append(theirs, paths...)
			continue
		}
		changed = changed || adopted
	}
	if changed {
		w.changed()
	}
	return err
}

// written returns the files that others have written since it was called last,
// and those that the tests have.
func (w *watch) written(fd int) (theirs, ours []string, err error) {
	by := map[bool]map[string]bool{true: {}, false: {}}
	for {
		n, err := unix.Read(fd, w.buffer)
		switch {
		case err == unix.EAGAIN:
			return slices.Sorted(maps.Keys(by[false])), slices.Sorted(maps.Keys(by[true])), nil
		case err == unix.EBADF:
			return nil, nil, os.NewSyscallError("read of fanotify", err)
		case err != nil:
			// The kernel could not open the file for this process, such as the
			// uid_map of a process that has ended. The event is gone.
		default:
			w.collect(w.buffer[:n], by)
		}
	}
}

// collect adds the files of a number of events, by whether the tests have
// written them.
func (w *watch) collect(events []byte, by map[bool]map[string]bool) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	for len(events) >= size {
		event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(unsafe.SliceData(events)))
		events = events[min(max(int(event.Event_len), size), len(events)):]
		if event.Fd < 0 {
			continue // what was written is gone, such as a cgroup
		}
		if path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(event.Fd))); err == nil {
			by[slices.Contains(w.ours, int(event.Pid))][w.name(path)] = true
		}
		unix.Close(int(event.Fd))
	}
}

// name returns the path that the snapshot has for a file: not one through which
// a device's class leads to it, and one of the two of an interrupt's mask.
func (w *watch) name(path string) string {
	name := w.snapshot.name(path)
	if class, ok := w.classes[name]; ok {
		return class
	}
	return strings.Replace(name, "/smp_affinity_list", "/smp_affinity", 1)
}

// onlinePattern matches the files by which CPUs are taken offline and online.
const onlinePattern = "/sys/devices/system/cpu/cpu[0-9]*/online"

// adopt has the snapshot take the present values of files that somebody else
// has written for those that are to be restored. It reports whether any of the
// files is one of the snapshot.
func (s *Snapshot) adopt(paths []string) bool {
	adopted := false
	irqs := make(map[int]bool)
	for _, path := range paths {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "cpu"))
		if match, _ := filepath.Match("/proc/irq/[0-9]*/smp_affinity*", path); match && err == nil {
			irqs[number] = true
			continue
		}
		if match, _ := filepath.Match(onlinePattern, path); match && err == nil {
			adopted = s.adoptOnline(number, path) || adopted
			continue
		}
		for _, f := range watched() {
			if _, ok := s.Settings[f.name][path]; !ok {
				continue
			}
			if value, ok := f.read(s, path); ok {
				f.set(s, path, value)
				adopted = true
			}
		}
	}
	return s.adoptIRQs(irqs) || adopted
}

func (s *Snapshot) adoptOnline(cpu int, path string) bool {
	text, err := read(s.path(path))
	if err != nil {
		return false
	}
	online := cpuList(s.Online).Without(cpu)
	if strings.TrimSpace(text) == "1" {
		online = online.With(cpu)
	}
	s.Online = online.String()
	return true
}

// adoptIRQs has the snapshot take the masks of the interrupts that have these
// numbers now.
func (s *Snapshot) adoptIRQs(numbers map[int]bool) bool {
	if len(numbers) == 0 {
		return false
	}
	now := &Snapshot{Root: s.Root}
	if err := (irqMasks{}).take(now); err != nil {
		return false
	}
	found, _ := matchIRQs(s.IRQs, now.IRQs)
	// A new slice, for the other may be somebody's.
	var irqs []IRQ
	for _, irq := range s.IRQs {
		if after, ok := found[irq]; !ok || !numbers[after.Number] {
			irqs = append(irqs, irq)
		}
	}
	for _, irq := range now.IRQs {
		if numbers[irq.Number] {
			irqs = append(irqs, irq)
		}
	}
	s.IRQs = irqs
	return true
}
