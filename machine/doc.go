// Package machine is about leaving a machine as it was found: one process at a
// time changes it, and what it changed is put back, however that process ends.
//
// [Guard] is all that a test needs:
//
//	release, err := machine.Guard(os.Stderr)
//	…
//	err = release()
//
// It takes the [Lock] and a [Snapshot], and has a [Supervisor] put the machine
// back when the process is killed. That is this program again, started by an
// init function of this package, so nothing has to be installed, and a
// program's main has nothing to call.
package machine
