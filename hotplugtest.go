package hotplugtest

import (
	"slices"
	"testing"

	"github.com/hotplugtest/hotplugtest/suite"
)

// The row types, and what rows work with, are those of package suite.
type (
	Tables     = suite.Tables
	Transition = suite.Transition
	Invariant  = suite.Invariant
	Scenario   = suite.Scenario
	Workload   = suite.Workload

	Machine   = suite.Machine
	Setup     = suite.Setup
	Prepared  = suite.Prepared
	Operation = suite.Operation
	Partition = suite.Partition
	Placement = suite.Placement
	View      = suite.View
	Probe     = suite.Probe
	Check     = suite.Check
	Scene     = suite.Scene
	Actor     = suite.Actor
	Act       = suite.Act

	State       = suite.State
	Moment      = suite.Moment
	Boot        = suite.Boot
	Version     = suite.Version
	Span        = suite.Span
	Defect      = suite.Defect
	Signature   = suite.Signature
	Unsupported = suite.Unsupported

	Options = suite.Options
	Runner  = suite.Runner
)

// The states of a CPU, the moments of a transition, and the ways to boot.
const (
	Offline = suite.Offline
	Online  = suite.Online

	AtUevent    = suite.AtUevent
	AtReturn    = suite.AtReturn
	AfterResume = suite.AfterResume

	Isolcpus      = suite.Isolcpus
	IsolcpusFirst = suite.IsolcpusFirst
	NohzFull      = suite.NohzFull
	SMT           = suite.SMT
	NoSMT         = suite.NoSMT
	MaxCPUs       = suite.MaxCPUs
	NUMA          = suite.NUMA
	HotAdd        = suite.HotAdd
	CgroupV1      = suite.CgroupV1
)

// Default returns the rows of this package. The caller may change them.
func Default() Tables {
	return Tables{
		Transitions: slices.Clone(transitions), Invariants: slices.Concat(invariants, topologyInvariants, identityInvariants, bystanderInvariants, notifyInvariants),
		Scenarios: slices.Concat(scenarios, identityScenarios, contentScenarios, kthreadScenarios, uringScenarios, settingScenarios, memoryScenarios, percpuScenarios, ledScenarios, mtrrScenarios, tickScenarios, idleScenarios, softTimerScenarios, promiseScenarios, suspendScenarios, sleeperScenarios, schedScenarios), Workloads: slices.Clone(workloads),
	}
}

// withTables returns the options with the rows of this package, unless they
// have others.
func withTables(opts Options) Options {
	if opts.Tables == nil {
		tables := Default()
		opts.Tables = &tables
	}
	return opts
}

// Run is the whole suite as subtests of t, for use in tests of one's own: that
// of [Options.Tables], or of the [Default] ones. It skips, with the reason, if
// the machine does not allow it to run, and under -short.
func Run(t *testing.T, opts Options) { suite.Run(t, withTables(opts)) }

// Open gets the machine ready to run opts.Tables, or the [Default] ones: see
// [suite.Open].
func Open(opts Options) (*Runner, error) { return suite.Open(withTables(opts)) }

// SkipOrFail ends a test for which [Open] failed: it is skipped if the error is
// an [*Unsupported] and opts do not require the test, and fails otherwise.
func SkipOrFail(t *testing.T, err error, opts Options) {
	t.Helper()
	suite.SkipOrFail(t, err, opts)
}
