package machine

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Guard takes the [Lock] and a [Snapshot] of the machine, and starts a
// [Supervisor]. What it returns restores the snapshot, with what other
// processes have changed meanwhile in it, ends the supervisor, and unlocks. Its
// error names what is different after that, but for an interrupt that others have
// removed, which is written to log. A second call returns the same error
// and does nothing more.
//
// Before all that it restores what a run has left that was killed together with
// its supervisor, as [Recover] does. Whom it waits for, what it restores and
// which cgroups an earlier run has left is written to log, if that is not nil.
//
// It takes root: the error is that of [Lock]. It wraps [ErrUnwritable] if
// something could not be restored later.
func Guard(log io.Writer) (release func() error, err error) {
	return guard("/", LockPath, log, false)
}

// GuardHotAdd is [Guard] for a run that has the machine get CPUs by hot-add:
// what has been added until the end, be it by others, is removed again.
func GuardHotAdd(log io.Writer) (release func() error, err error) {
	return guard("/", LockPath, log, true)
}

// guard is [Guard], or [GuardHotAdd], of the machine at root.
func guard(root, lockPath string, log io.Writer, hotAdd bool) (release func() error, err error) {
	log = orDiscard(log)
	unlock, err := lock(lockPath, log)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func() error, error) { return nil, errors.Join(err, unlock()) }
	if err := recoverAt(root, log); err != nil {
		return fail(err)
	}
	s, err := Take(root)
	if err != nil {
		return fail(err)
	}
	s.HotAdd = hotAdd
	for _, dir := range s.Leftovers {
		fmt.Fprintf(log, "hotplugtest: %s is left of a run that was killed: remove it by find %[1]s -depth -type d -exec rmdir {} +\n", dir)
	}
	if err := s.unwritable(); err != nil {
		return fail(err)
	}
	supervisor, err := Supervise(s)
	if err != nil {
		return fail(err)
	}
	// Once: without the lock it would undo what the next one does.
	return sync.OnceValue(func() error {
		// Whether the kernel or somebody else has made a mask what it is cannot
		// always be told, so nothing is put back in silence.
		if diffs, err := supervisor.Snapshot().Compare(); err == nil && len(mendable(diffs)) > 0 {
			fmt.Fprintln(log, "hotplugtest: at the end of the run this is put back:")
			list(log, mendable(diffs))
		}
		diffs, err := mendAll(supervisor.Snapshot)
		last := end
		if err != nil || len(mendable(diffs)) > 0 {
			last = give // the next run tries again
		}
		errs := []error{err}
		for _, d := range diffs {
			if d.gone() {
				fmt.Fprintf(log, "hotplugtest: this cannot be put back: %v\n", d)
				continue
			}
			errs = append(errs, fmt.Errorf("machine: %v", d))
		}
		return errors.Join(append(errs, supervisor.leave(last), unlock())...)
	}), nil
}
