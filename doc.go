// Package hotplugtest holds a Linux kernel to one promise: when a CPU hotplug
// operation says that it is done, it is done.
//
// The suite is the product of tables. A [Transition] does something to a CPU:
// it takes it offline, brings it online, writes the value that is there
// already, is refused, is rolled back, is suspended. A [Moment] is when one can
// look: at the uevent, or at the return of the write. An [Invariant] is one
// promise about a CPU that is online or offline: a thread can be pinned to it,
// the cpuset has it, /proc/stat lists it. Each transition × moment × invariant
// is a test of its own. Each transition × invariant has a cycle of its own, in
// which one thread looks at each moment, so that nothing comes between the
// moment and the check. A promise that depends on the checking thread's cpuset
// is checked from each placement: the root cpuset and a child.
//
// A [Scenario] is about what goes on while CPUs go offline and online. A
// [Workload] is what the machine is busy with in a soak, which goes through all
// of them for as long as one likes.
//
// No check waits or retries before it judges. If a promise is broken, the suite
// goes on looking, to say how long it was.
//
// # Running it
//
// On this machine, where the test itself runs as root:
//
//	go test -count=1 -exec sudo .
//
// On any other kernel, in a virtual machine, as anyone:
//
//	ci/selftest -kernel bookworm
//	ci/selftest -kernel arch/x86/boot/bzImage -run TestOnline
//
// Some rows apply only to machines that are booted in a certain way, such as
// with isolcpus=: see [Boot]. Elsewhere they are left out. ci/selftest -profile
// boots a virtual machine that way. A row that may crash a broken kernel needs
// [Options].Destructive.
//
// With -short nothing is touched. If the machine does not allow the suite to
// run, each test skips and says why: without root, without CPU hotplug, in a
// container with a read-only /sys, with one CPU. A run that tests nothing
// fails: see [Options].Conclude, which prints the last line of a run.
//
// # Embedding it
//
// [Run] is the whole suite as subtests of a test of one's own. It skips if the
// machine does not allow it to run, unless [Options].MustTest is set:
//
//	func TestHotplug(t *testing.T) {
//		hotplugtest.Run(t, hotplugtest.Options{CPUs: "2-3"})
//	}
//
// [Default] returns the rows of this package. Append rows of your own, or leave
// some out, and run these with [Options].Tables. Package suite is what rows are
// written with; a scenario, an actor or a set-up has the same functions as
// those of this package.
//
// Packages cpuhp, affinity, uevent, cpuset, kmsg, suspend, tracefs and machine
// are what the suite is made of, and stand on their own. Package explore looks
// for defects that no row is about, and package vm runs any program on any
// kernel.
//
// # What it changes
//
// It takes CPUs offline and online, creates a tree of cpusets below the root
// one, moves its own process to the root cgroup and enables the cpuset
// controller there. Package machine takes a snapshot before that, restores it
// at the end, and has a supervisor that does so when the process is killed.
package hotplugtest
