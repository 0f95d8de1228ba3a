// Package callback reads the kernel's trace events of the callbacks of hotplug
// states, and makes a cpuset for those that have to do with one.
package callback

import (
	"regexp"
	"strconv"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// Events are those that a callback is entered with: of a state, and of one of
// several instances of a state.
var Events = []string{"cpuhp:cpuhp_enter", "cpuhp:cpuhp_multi_enter"}

// name matches the function of an event, as in "cpu: 0003 target: 236 step: 231
// (sched_cpu_activate)". A state without a callback has the address of NULL,
// which is in parentheses too.
var name = regexp.MustCompile(`\(([A-Za-z_][^()]*)\)$`)

// step matches the number of an event's state.
var step = regexp.MustCompile(` step: *(\d+) `)

// OneWay returns the states that have a callback on the way back and none on the
// way forth, of the events of both. One with instances may have a callback and no
// event: it is left out.
func OneWay(forth, back []tracefs.Event) map[int]bool {
	states := make(map[int]bool)
	for _, e := range back {
		if _, ok := Function(e); ok && e.Name == "cpuhp_enter" {
			states[state(e)] = true
		}
	}
	for _, e := range forth {
		if _, ok := Function(e); ok {
			delete(states, state(e))
		}
	}
	return states
}

func state(e tracefs.Event) int {
	found := step.FindStringSubmatch(e.Args)
	if found == nil {
		return -1
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// Function returns the function that an event enters, and whether the event is
// one of [Events] and its state has a callback.
func Function(e tracefs.Event) (string, bool) {
	if e.Name != "cpuhp_enter" && e.Name != "cpuhp_multi_enter" {
		return "", false
	}
	found := name.FindStringSubmatch(e.Args)
	if found == nil {
		return "", false
	}
	return found[1], true
}
