package callback_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/internal/callback"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestFunction(t *testing.T) {
	for args, want := range map[string]string{
		"cpu: 0003 target: 236 step: 231 (sched_cpu_activate)":  "sched_cpu_activate",
		"cpu: 0003 target: 236 step:  50 (page_alloc_cpu_dead)": "page_alloc_cpu_dead",
		"cpu: 0003 target: 236 step:   1 (0x0)":                 "",
		"cpu: 0003 target: 236 step:   1 (0000000000000000)":    "",
		"cpu: 0003 target: 236 step:   1 (f.part.0)":            "f.part.0",
		"": "",
	} {
		for _, event := range []string{"cpuhp_enter", "cpuhp_multi_enter"} {
			function, ok := callback.Function(tracefs.Event{Name: event, Args: args})
			assert.Equal(t, want, function, args)
			assert.Equal(t, want != "", ok, args)
		}
	}
	_, ok := callback.Function(tracefs.Event{Name: "cpuhp_exit", Args: " cpu: 0003  state: 236 step: 231 (f)"})
	assert.False(t, ok)
}
