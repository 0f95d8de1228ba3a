package suite

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/testpattern"
)

// Nothing is done to the machine for tests that -run and -skip leave out, though
// their parents run.
func TestChosen(t *testing.T) {
	for _, tt := range []struct{ run, skip, did string }{
		{"", "", "able set-up one two op"},
		{"T", "T/Rollback/offline/one", "able set-up two op"},
		{"T/Rollback/offline/one", "", "able set-up one"},
		{"T/Rollback/offline/none", "", ""},
		{"T/Rollback/none", "", ""},
		{"T/Rollback", "T/Rollback/./.", ""},
		{"T/Suspend/at-return/mask", "", "set-up op"},
		{"T/Suspend/at-return/none", "", ""},
		{"T/Suspend/none", "", ""},
		{"T/Suspend", "uspend/.*/(mask|uevent)", "set-up op"},
		{"T/Suspend", "T/uspend/.*/(mask|uevent)", ""},
		{"T/Scenario", "", ""},
	} {
		did := make(map[string]bool)
		setup := func(*Machine) (Prepared, error) { did["set-up"] = true; return Prepared{}, nil }
		tables := rows(Transition{
			Name: "Rollback/offline", Source: "its document", Before: Online, After: Online, Err: unix.EAGAIN, RolledBack: true, Setup: setup,
			Variants: func(*Machine) ([]string, error) { return []string{"one", "two"}, nil },
			Able:     func(_ *Machine, _ int, names []string) ([]string, error) { did["able"] = true; return names, nil },
			Op:       func(o *Operation) error { did[o.Variant] = true; return unix.EAGAIN },
		}, with(offline, func(tr *Transition) {
			tr.Name, tr.Together, tr.Setup = "Suspend", true, setup
			tr.Op = func(o *Operation) error { did["op"] = true; return setOffline(o) }
		}))
		chosen, err := testpattern.Select(tt.run, tt.skip)
		require.NoError(t, err)
		playRows(t, "cpus 0-3", tables, func(r *Runner) { r.chosen, r.machine.Targets = chosen, []int{3} })
		assert.ElementsMatch(t, strings.Fields(tt.did), slices.Collect(maps.Keys(did)), "-run %q -skip %q", tt.run, tt.skip)
	}
}
