// Package suite runs tables of promises about CPU hotplug on a kernel.
//
// A row is a [Transition], an [Invariant], a [Scenario] or a [Workload], and
// [Tables] are what is run. The rows of package hotplugtest are written with
// the exported names of this package alone, as are anybody's.
//
// The package has three parts:
//   - the [Machine]: [Facts] that do not change once it is opened, and the
//     instruments to work on it. Rows get it.
//   - the cycle: an [Operation] has an [Outcome]; a look at a CPU gives a
//     [Finding].
//   - the [Runner]: tables on a machine, as subtests.
//
// # From a row to the report
//
// Values go one way. This is one cycle of a transition, looked at by one
// invariant, with the files that the steps are in:
//
//	Transition ─ Setup ─▶ Prepared{CPUs, Undo}                    trial.go
//	Invariant ─── Arm ──▶ Check, on a thread in a Placement       probe.go
//	Operation ─── Op ───▶ Outcome{Err, Began, Uevent, Returned}   transition.go, cycle.go
//	the moment ─ Check ─▶ Finding{Err, Window, Tries}             probe.go
//	                          │ once for each CPU and cycle
//	                          ▼
//	                      result ─▶ test failure, attributes      result.go, report.go
//
// At [AtUevent] the thread with the check waits for the uevent while another
// one does the operation, and that one checks at [AtReturn]: so one operation
// serves both moments. At other moments the thread with the check does the
// operation itself. Nothing is between the moment and the check. If an
// operation takes seconds or takes other CPUs along ([Transition].Together),
// one cycle serves all invariants.
//
// The soak makes the same cycles, on and on (soak.go). A scenario has a [Scene]
// instead, with actors on threads of their own (scene.go, scenario.go).
package suite
