package suite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/scripted"
)

// scriptedMachine returns a machine whose kernel does what the script says. The
// suite may use all CPUs but the first, and looks at the second and the last.
func scriptedMachine(t *testing.T, script string) (*Machine, *scripted.Kernel) {
	t.Helper()
	k := scripted.New(t, script)
	online, err := k.Online()
	require.NoError(t, err)
	usable := online.Without(0)
	first, _ := usable.First()
	last, _ := usable.Last()
	m := NewMachine(Facts{
		Kernel: Version{6, 12}, Online: online, Usable: usable, Targets: []int{first, last},
	}, k, k, k.Log)
	return m, k
}

// scriptedRunner returns a runner of tables on such a machine.
func scriptedRunner(t *testing.T, script string, tables Tables) (*Runner, *scripted.Kernel) {
	t.Helper()
	require.NoError(t, tables.Check())
	m, k := scriptedMachine(t, script)
	return &Runner{machine: m, tables: tables}, k
}

var _ CPUs = (*scripted.Kernel)(nil)
