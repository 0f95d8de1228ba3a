// Package explore performs random sequences of what user space may do with CPUs,
// cpusets and affinity masks, and judges the kernel by laws after each step. A
// sequence that breaks a law is reduced to a few lines, and becomes a shell
// script. docs/explorer.md has the laws, and what was found.
//
// [Machine] does all of that on the machine that it runs on, which the caller
// guards by package machine:
//
//	release, err := machine.Guard(os.Stderr)
//	…
//	found, err := explore.Machine(ctx, explore.MachineOptions{For: time.Hour})
//	err = errors.Join(err, release())
//
// Rows of one's own, an [Action] or a [Law], go beside those of [Default] into
// MachineOptions.Tables. A law is a function of a [Case]: of the [Snapshot]
// before a step, the one after it, and the result of the step.
//
// The parts are for programs that do it in another way, such as in virtual
// machines. [Sequence] draws lines, a [Target] performs a [Line], an [Observer]
// takes snapshots, and a [Runner], which [Ready] makes, joins them and judges.
// An [Explorer] goes on with that, reduces what it finds to a [Finding], and
// tells of it by an [Event]. [Finding.Script] writes the reproducer.
package explore
