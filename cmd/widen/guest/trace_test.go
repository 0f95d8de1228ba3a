package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestSightings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event tracefs.Event
		want  []suspect.Sighting
	}{
		{"a callback", tracefs.Event{Name: "cpuhp_enter", Args: "cpu: 0003 target: 236 step: 231 (sched_cpu_activate)"}, []suspect.Sighting{{Kind: suspect.Callback, Function: "sched_cpu_activate"}}},
		{"one of an instance", tracefs.Event{Name: "cpuhp_multi_enter", Args: "cpu: 0003 target: 236 step:  50 (page_alloc_cpu_dead)"}, []suspect.Sighting{{Kind: suspect.Callback, Function: "page_alloc_cpu_dead"}}},
		{"no callback", tracefs.Event{Name: "cpuhp_enter", Args: "cpu: 0003 target: 236 step:   1 (0x0)"}, nil},
		{
			"a wait's end", tracefs.Event{Name: "sched_waking", Stack: []string{"try_to_wake_up", "f", "complete", "g"}},
			[]suspect.Sighting{{Kind: suspect.Waker, Function: "f"}, {Kind: suspect.Waker, Function: "g"}},
		},
		{"a wait", tracefs.Event{Name: "sched_switch", Stack: []string{"schedule", "f", "g"}}, []suspect.Sighting{{Kind: suspect.Wait, Function: "f"}}},
		{"plumbing", tracefs.Event{Name: "sched_switch", Stack: []string{"schedule", "kthread"}}, nil},
		{"something else", tracefs.Event{Name: "cpuhp_exit", Args: " cpu: 0003  state: 236 step: 231 ret: 0"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, sightings(tt.event)) })
	}
}
