// Package suite runs tables of promises about CPU hotplug on a kernel.
//
// A row is a [Transition], an [Invariant], a [Scenario] or a [Workload], and
// [Tables] are what is run. The rows of package hotplugtest are written with
// the exported names of this package alone, as are anybody's.
//
// The package has three parts:
//   - the [Machine]: facts that do not change once it is opened, and the
//     instruments to work on it. Rows get it.
//   - the cycle: an [Operation] has an [Outcome]; a look at a CPU gives a
//     [Finding]. Values go this way only, and end in a report.
//   - the [Runner]: tables on a machine, as subtests.
package suite
