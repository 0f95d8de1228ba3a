package suite

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

func TestUnsupported(t *testing.T) {
	err := Unsupportedf("no %s", "SMT")
	assert.EqualError(t, err, "no SMT")
	assert.True(t, IsUnsupported(err))
	assert.True(t, IsUnsupported(fmt.Errorf("cpu3: %w", err)))
	assert.True(t, IsUnsupported(errors.Join(err, nil)))
	assert.False(t, IsUnsupported(errors.Join(err, unix.EIO)), "a skip must not hide what else went wrong")
	assert.True(t, IsUnsupported(fmt.Errorf("%w, %w", err, err)))
	assert.False(t, IsUnsupported(fmt.Errorf("%w, %w", err, unix.EIO)))
	assert.False(t, IsUnsupported(nil))
}

// A refusal for want of interrupt vectors changes nothing, or is an error.
func TestTakeOffline(t *testing.T) {
	for _, tt := range []struct {
		rule, says  string
		unsupported bool
	}{
		{"log CPU 2 has 183 vectors, 122 available. Cannot disable CPU; ENOSPC",
			"the other CPUs have no room for the interrupts of cpu2 (ENOSPC): CPU 2 has 183 vectors, 122 available. Cannot disable CPU", true},
		{"ENOSPC", "the other CPUs have no room for the interrupts of cpu2 (ENOSPC): the kernel's log does not say how many", true},
		{"half 87; ENOSPC", "cpu2/hotplug/state is 87, and was 236", false},
		{"uevent offline; ENOSPC", "cpu2 sent offline (SEQNUM 2), want none", false},
		{"log CPU 2 is stuck; EIO", "cpuhp: write \"0\" to /sys/devices/system/cpu/cpu2/online: EIO (input/output error)\nthe kernel's log of it:\n    [    1.000000] CPU 2 is stuck", false},
		{"log WARNING: bad", "the kernel's log has a complaint (warning)", false},
	} {
		m, _ := scriptedMachine(t, "cpus 0-3\noffline cpu2: "+tt.rule)
		err := m.TakeOffline(affinity.Of(1, 2, 3))
		assert.ErrorContains(t, err, tt.says)
		assert.Equal(t, tt.unsupported, IsUnsupported(err), tt.rule)
		online, err := m.CPUs.Online()
		require.NoError(t, err)
		assert.True(t, online.Has(3), "it ends with the first that is refused")
		assert.NoError(t, m.restore(m.Online))
	}
	m, _ := scriptedMachine(t, "cpus 0-3")
	assert.NoError(t, m.TakeOffline(affinity.Of(1, 3)))
	online, err := m.Shared()
	require.NoError(t, err)
	assert.Equal(t, "0,2", online.String())
}

func TestOffLimits(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	assert.NoError(t, m.OffLimits(affinity.Of(0)))
	m.Partitioned = affinity.Of(2)
	assert.EqualError(t, m.OffLimits(affinity.Of(1, 2)), "CPU 2 belongs to a cpuset partition")
	m.Options.CPUs = "1-3"
	assert.EqualError(t, m.OffLimits(affinity.Of(0, 1)), "CPU 0 is not among those to be used, 1-3")
	assert.EqualError(t, m.NotGiven(affinity.Of(0)), "CPU 0 is not among those to be used, 1-3")
}

func TestPartitionCPUs(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	cpus, err := m.partitionCPUs(&Partition{Kind: "root"}, 3)
	require.NoError(t, err)
	assert.Equal(t, "2-3", cpus.String())
	cpus, err = m.partitionCPUs(&Partition{Kind: "root", Single: true}, 3)
	require.NoError(t, err)
	assert.Equal(t, "3", cpus.String())

	m, _ = scriptedMachine(t, "cpus 0-1")
	_, err = m.partitionCPUs(&Partition{Kind: "root"}, 1)
	assert.EqualError(t, err, "a partition needs another CPU beside cpu1 that may be used")
	m.Usable = affinity.Of(0, 1)
	_, err = m.partitionCPUs(&Partition{Kind: "root"}, 1)
	assert.EqualError(t, err, "a partition of CPUs 0-1 would leave no CPU to all others")
}

// A task that does not end when it is told to is a failure of the probe.
func TestSpawn(t *testing.T) {
	cpus, err := affinity.Get(0)
	require.NoError(t, err)
	cpu, _ := cpus.First()
	m, _ := scriptedMachine(t, "cpus 0-3")
	over := make(chan struct{}) // closed when the lost tasks may end
	var ended sync.WaitGroup
	defer ended.Wait()
	defer close(over)
	ignores := func(chan struct{}) error {
		<-over
		return nil
	}
	for _, tt := range []struct {
		name string
		run  func(stop chan struct{}) error
		kept error // of the check
		says string
	}{
		{"good", func(stop chan struct{}) error { <-stop; return nil }, nil, ""},
		{"lost", ignores, nil,
			fmt.Sprintf("a task that was pinned to cpu%d for it has not finished for 10s", cpu)},
		{"lost, as the check has said", ignores, unix.EIO, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stop := make(chan struct{})
			var order []string
			p := &Probe{View: View{m, cpu, m.Root}, Invariant: &Invariant{Arm: func(p *Probe) (Check, error) {
				p.Cleanup(func() { order = append(order, "first") })
				ended.Add(1)
				err := p.Spawn(func() error { defer ended.Done(); return tt.run(stop) }, func() {
					order = append(order, "last")
					if tt.says != "" || tt.kept != nil {
						p.over = time.Now()
					}
					close(stop)
				})
				return func() error { return tt.kept }, err
			}}}
			found, err := p.onThread(always, func(check Check) (Finding, error) { return p.first(check), nil })
			assert.Equal(t, tt.kept, found.Err)
			assert.Equal(t, []string{"last", "first"}, order)
			if tt.says == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, tt.says)
			}
		})
	}
	p := &Probe{View: View{m, cpu, m.Root}}
	assert.ErrorIs(t, p.SpawnIn(func() error { return unix.EPERM }, nil, func() {}), unix.EPERM)
	p.cleanup()
}

func TestSceneCPUs(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	x := m.NewScene()
	cpu, err := x.Staying()
	require.NoError(t, err)
	assert.Equal(t, 0, cpu)
	assert.NoError(t, x.Enter(), "without a child it stays where it is")
	m.Partitioned = affinity.Of(0, 2)
	cpu, err = x.Staying()
	require.NoError(t, err)
	assert.Equal(t, -1, cpu)
	assert.NoError(t, x.Stop())
	<-x.Done()
	m.Child.DropsOffline = true
	assert.EqualError(t, NeedsChild(m), "cgroup v1: a child cpuset loses a CPU that goes offline for good, by design")
}

func TestTablesCheck(t *testing.T) {
	arm := func(*Probe) (Check, error) { return nil, nil }
	for _, tt := range []struct {
		tables Tables
		says   string
	}{
		{rows(online, offline), ""},
		{rows(online, online), `transition "Online": there are two`},
		{rows(Transition{Name: "A", Source: "s"}), `transition "A": it must have a Source and an Op`},
		{rows(Transition{Name: "A", Op: setOnline}), `transition "A": it must have a Source and an Op`},
		{rows(with(online, func(tr *Transition) { tr.Before = 0 })), `transition "Online": its Before and its After must each be Offline or Online`},
		{rows(with(online, func(tr *Transition) { tr.After = Online | Offline })), `transition "Online": its Before and its After must each be Offline or Online`},
		{rows(with(online, func(tr *Transition) { tr.Boot = "isolcpu" })), `transition "Online": there is no Boot "isolcpu"`},
		{Tables{Invariants: []Invariant{{Name: "a", Boot: "numas"}}}, `invariant "a": there is no Boot "numas"`},
		{Tables{Scenarios: []Scenario{{Name: "a", Actors: []Actor{{Name: "b"}}}}}, `scenario "a": its actor "b" has no Begin`},
		{Tables{Workloads: []Workload{{Name: "a", Actors: []Actor{{Name: "b"}}}}}, `workload "a": its actor "b" has no Begin`},
		{Tables{Workloads: []Workload{{Name: "idle"}}}, ""},
		{rows(Transition{Name: "A", Op: setOnline, Before: Offline, After: Online}), `transition "A": a CPU that comes or goes sends a uevent, and it has none`},
		{rows(Transition{Name: "A", Op: setOnline, Variants: func(*Machine) ([]string, error) { return nil, nil }}),
			`transition "A": it has variants, and is not rolled back`},
		{Tables{Invariants: []Invariant{{Name: "a/b", Promise: "p", Source: "s", Arm: arm}}}, `invariant "a/b": a slash would make a level of tests of its own`},
		{Tables{Invariants: []Invariant{{Name: "a", Promise: "p", Arm: arm}}}, `invariant "a": it must have a Promise, a Source and an Arm`},
		{Tables{Scenarios: []Scenario{{Name: "a b"}}}, `scenario "a b": this is no name for a test`},
		{Tables{Scenarios: []Scenario{{Name: "a"}}}, `scenario "a": it has neither Actors nor a Cycle`},
		{Tables{Workloads: []Workload{{}}}, `workload "": this is no name for a test`},
	} {
		if err := tt.tables.Check(); tt.says == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, tt.says)
		}
	}
	tables := rows(with(online, func(tr *Transition) { tr.Name = "SMT/on" }), online, with(online, func(tr *Transition) { tr.Name = "SMT/off" }))
	assert.Equal(t, []string{"SMT", "Online"}, tables.Tests())
	copied := tables.Clone()
	copied.Transitions[0].Name = "changed"
	assert.Equal(t, "SMT/on", tables.Transitions[0].Name)
}

// Open says what is wrong before it touches anything.
func TestOpenErrors(t *testing.T) {
	_, err := Open(Options{})
	assert.EqualError(t, err, "no tables to run")
	_, err = Open(Options{Tables: &Tables{Workloads: []Workload{{}}}})
	assert.ErrorContains(t, err, "this is no name for a test")
	_, err = Open(Options{Tables: &Tables{}, Require: "("})
	assert.ErrorContains(t, err, "missing closing )")
	hung.note("an operation")
	defer hung.what.Store(nil)
	_, err = Open(Options{Tables: &Tables{}})
	assert.EqualError(t, err, "cannot run: an operation has not finished, and may hold the kernel's locks")
}
