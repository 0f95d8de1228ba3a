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

// A state with instances says nothing if it has none, though it has a callback.
func TestOneWay(t *testing.T) {
	single := func(state, function string) tracefs.Event {
		return tracefs.Event{Name: "cpuhp_enter", Args: "cpu: 0003 target: 236 step: " + state + " (" + function + ")"}
	}
	multi := single(" 55", "cpu_is_dead")
	multi.Name = "cpuhp_multi_enter"
	exit := tracefs.Event{Name: "cpuhp_exit", Args: " cpu: 0003  state:  11 step:  11 ret: 0"}
	forth := []tracefs.Event{single("  2", "prepare"), single(" 11", "0x0"), single("231", "activate"), exit}
	back := []tracefs.Event{single("231", "deactivate"), multi, single(" 11", "is_dead"), single("  2", "0x0")}
	assert.Equal(t, map[int]bool{11: true}, callback.OneWay(forth, back))
	assert.Equal(t, map[int]bool{2: true}, callback.OneWay(back, forth))
}
