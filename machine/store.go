package machine

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
)

// storePaths are where the snapshot of a run lies until the machine is
// restored: in the first directory that can be written. What is left of a run
// whose supervisor was killed as well is restored by the next one. A reboot
// resets all that a run changes but the alarm of the real-time clock, which is
// why it is not /run alone.
//
// If /var becomes read-only meanwhile, what lies there can be neither changed
// nor removed. So a later path counts before an earlier one: it is written only
// if the earlier one cannot be, and removed when that can be written again.
var storePaths = []string{"/var/lib/hotplugtest.snapshot", "/run/hotplugtest.snapshot"}

// RecordPaths returns the files in one of which the snapshot of a run is until
// the machine is restored.
func RecordPaths() []string { return slices.Clone(storePaths) }

// A record is what lies there, encoded by gob.
type record struct {
	Boot     string // bootID of the machine when the snapshot was taken
	Process  int    // the one that took it
	Snapshot *Snapshot

	// Done says that the run has ended, and that its record in an earlier path
	// could not be removed. There is no snapshot then.
	Done bool
}

// bootID identifies the time since the kernel was booted.
func bootID(root string) string {
	id, _ := read(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(id)
}

// store writes the record so that a crash leaves the old or the new one, and
// returns the path where it is. The error has a line for each path.
func (r *record) store(root string) (path string, err error) {
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(r); err != nil {
		return "", syserr.In("machine", err)
	}
	var errs []error
	for i, path := range storePaths {
		err := writeWhole(filepath.Join(root, path), text.Bytes())
		if err == nil {
			err = removeAll(root, storePaths[i+1:])
		}
		if err == nil {
			return path, nil
		}
		errs = append(errs, syserr.In("machine", err))
	}
	return "", errors.Join(errs...)
}

// update writes the record again, which was at a path, or nowhere any more if
// that is "". It returns the new path. If that is another one, it says so to
// log: once, however often the record changes after that.
func (r *record) update(was string, log io.Writer) (path string) {
	path, err := r.store(r.Snapshot.Root)
	switch {
	case path == was:
	case path == "":
		fmt.Fprintf(log, "hotplugtest: %s cannot be written any more: if this run and its supervisor are killed, "+
			"what others have changed since will be undone: %s\n", was, strings.ReplaceAll(err.Error(), "\n", "; "))
	default:
		fmt.Fprintf(log, "hotplugtest: the record of this run is now in %s\n", path)
	}
	return path
}

func writeWhole(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
	}
	return err
}

// remove is replaced in tests, where no file system is read-only.
var remove = os.Remove

// removeAll removes the files that are there.
func removeAll(root string, paths []string) error {
	var errs []error
	for _, path := range paths {
		path = filepath.Join(root, path)
		// Where nothing can be removed, the error is EROFS also for what is not
		// there.
		if _, err := os.Lstat(path); absent(err) {
			continue
		}
		if err := remove(path); !absent(err) {
			errs = append(errs, syserr.In("machine", err))
		}
	}
	return errors.Join(errs...)
}

// unstore removes the record, or has it count no more.
func unstore(root string) error {
	err := removeAll(root, storePaths)
	if err == nil {
		return nil
	}
	if _, storeErr := (&record{Done: true}).store(root); storeErr != nil {
		return errors.Join(err, storeErr)
	}
	return nil
}

// absent reports whether there is no such file, or not even its directory.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// stored returns the record that a run has left, or nil.
func stored(root string) (*record, error) {
	for _, path := range slices.Backward(storePaths) {
		path = filepath.Join(root, path)
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, syserr.In("machine", err)
		}
		defer f.Close()
		var r record
		if err := gob.NewDecoder(f).Decode(&r); err != nil || r.Snapshot == nil && !r.Done {
			return nil, fmt.Errorf("machine: %s is no snapshot (%v): see that the machine is as it should be, and remove it", path, err)
		}
		if r.Done {
			return nil, nil
		}
		return &r, nil
	}
	return nil, nil
}

// Recover restores the snapshot of a run that was killed together with its
// supervisor, if there is one, and writes to log what it did, if that is not
// nil. It waits for a run that goes on, as [Lock] does. A run does this itself
// before it begins.
//
// After a reboot only the alarm of the real-time clock is restored: all else
// is what the new kernel made it.
//
// The error says what could not be restored. The snapshot is kept then, and
// tried again the next time.
func Recover(log io.Writer) error {
	log = orDiscard(log)
	unlock, err := Lock(log)
	if err != nil {
		return err
	}
	if r, err := stored("/"); r == nil && err == nil {
		fmt.Fprintln(log, "hotplugtest: there is nothing to restore: no run was killed together with its supervisor")
	}
	return errors.Join(recoverAt("/", log), unlock())
}

// recoverAt is [Recover] with the lock held, for the machine at root.
func recoverAt(root string, log io.Writer) error {
	r, err := stored(root)
	if err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	when := ""
	if r.Boot != bootID(root) {
		when = ", before a reboot,"
		r.Snapshot = r.Snapshot.lasting()
	}
	if err := r.Snapshot.awaitAdded(); err != nil {
		fmt.Fprintln(log, err)
	}
	diffs, err := r.Snapshot.Compare()
	if err != nil {
		return err
	}
	if len(diffs) == 0 {
		fmt.Fprintf(log, "hotplugtest: process %d was killed%s together with its supervisor; the machine is as it was\n", r.Process, when)
		return unstore(root)
	}
	fmt.Fprintf(log, "hotplugtest: process %d was killed%s together with its supervisor, and left the machine changed:\n", r.Process, when)
	list(log, diffs)
	diffs, err = mendAll(r.Snapshot.clone)
	for _, d := range diffs {
		if d.lost {
			fmt.Fprintf(log, "hotplugtest: this cannot be put back: %v\n", d)
		}
	}
	for _, d := range mendable(diffs) {
		err = errors.Join(err, fmt.Errorf("machine: not restored: %v", d))
	}
	if err == nil {
		err = unstore(root)
	}
	if err != nil {
		return fmt.Errorf("%w\nif that is as it should be, remove %s", err, strings.Join(storePaths, " and "))
	}
	if len(diffs) == 0 {
		fmt.Fprintln(log, restoredLine)
	}
	return nil
}

// restoredLine is what is said of a machine that was restored.
const restoredLine = "hotplugtest: the machine is as it was"

// lasting is what of a snapshot a reboot does not reset.
func (s *Snapshot) lasting() *Snapshot {
	lasting := &Snapshot{Root: s.Root, PID: s.PID, Settings: make(map[string]map[string]string)}
	// Of the new kernel, so that none of it is a difference.
	_ = online{}.take(lasting)
	_ = leftovers{}.take(lasting)
	_ = tracing{}.take(lasting)
	_ = modules{}.take(lasting)
	for _, f := range []setting{wakeAlarm, rtcTime} {
		lasting.Settings[f.name] = s.Settings[f.name]
	}
	return lasting
}
