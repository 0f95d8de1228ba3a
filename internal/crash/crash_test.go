package crash

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/vm"
)

func TestViolation(t *testing.T) {
	const panicked = "the kernel panicked while the program ran (Linux 7.2)"
	for _, tt := range []struct{ what, console, want string }{
		{panicked, "Oops\nRIP: 0010:partition_sched_domains+0x1/0x2\nCR2: 0", "survives: crash in partition_sched_domains"},
		{panicked, "Oops\npc : f.part.0+0x1/0x2\n", "survives: crash in f.part.0"},
		{panicked, "", "survives: the kernel panicked while the program ran"},
		{"it was not done after 5m0s: thread 17 (Linux 7.2)", "", "survives: it was not done after NmNs: thread N"},
	} {
		v := Violation(&vm.Failure{What: tt.what, Console: tt.console})
		assert.Equal(t, tt.want, v.Key())
		assert.Equal(t, tt.what, v.Seen)
	}
}

// A crash is known of the kernels that it was seen in, in one function.
func TestKnown(t *testing.T) {
	const rip = "RIP: 0010:inactive_task_timer+0xe0/0x580"
	for _, tt := range []struct {
		what, console string
		want          bool
	}{
		{"the kernel panicked (Linux 7.3.4+deb13-amd64)", rip, true},
		{"the kernel panicked (Linux 4.19.0)", rip, false},
		{"the kernel panicked", rip, false},
		{"the kernel panicked (Linux 7.3.4)", "RIP: 0010:f+0xe0/0x580", false},
		{"the kernel panicked (Linux 7.3.4)", "", false},
	} {
		assert.Equal(t, tt.want, Known(&vm.Failure{What: tt.what, Console: tt.console}), "%s %s", tt.what, tt.console)
	}
}
