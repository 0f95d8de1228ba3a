package explore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hotplugtest/hotplugtest/uevent"
)

// A Uevent is one that the kernel has sent about a CPU that came or went.
type Uevent struct {
	Action string // "online" or "offline"
	CPU    int
}

// Listen has snapshots tell which uevents conn has received. The caller closes
// it.
func (o *Observer) Listen(conn *uevent.Conn) { o.uevents = conn }

// readUevents returns the uevents about CPUs since it was called last. heard is
// false if nobody listens, or if some were lost.
func (o *Observer) readUevents() (events []Uevent, heard bool, err error) {
	if o.uevents == nil {
		return nil, false, nil
	}
	type numbered struct {
		Uevent
		seqnum uint64
	}
	var all []numbered
	heard = true
	for {
		var e uevent.Event
		ok, err := o.uevents.TryReceiveInto(&e)
		switch {
		case errors.Is(err, uevent.ErrOverrun), errors.Is(err, uevent.ErrMalformed):
			heard = false
			continue
		case err != nil:
			return nil, false, err
		case !ok:
			slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.seqnum, b.seqnum) })
			for _, n := range all {
				events = append(events, n.Uevent)
			}
			return events, heard, nil
		}
		cpu, about := e.CPU()
		_, synthetic := e.Lookup("SYNTH_UUID")
		if action := e.Action(); about && !synthetic && (action == "online" || action == "offline") {
			all = append(all, numbered{Uevent{action, cpu}, e.Seqnum()})
		}
	}
}

var ueventLaw = Law{
	Name: "uevents",
	Text: "a uevent is sent for each CPU that comes online or goes offline, once, and before the operation returns",
	Source: "Documentation/core-api/cpu_hotplug.rst, \"User Space Notification\"; drivers/base/core.c: device_online(), device_offline(); " +
		"kernel/cpu.c: cpuhp_smt_enable(), cpuhp_smt_disable()",
	Check: checkUevents,
}

// checkUevents follows cpuN/online from one state to the next by the uevents.
func checkUevents(c *Case) []Violation {
	if !c.After.Heard || c.Before == nil {
		return nil
	}
	var broken []Violation
	for _, cpu := range c.Base.pluggable() {
		key := keysOf(cpu).online
		was, is := c.Before.Readings[key], c.After.Readings[key]
		var heard []string
		state, wrong := was, ""
		for _, e := range c.After.Uevents {
			if e.CPU != cpu {
				continue
			}
			heard = append(heard, e.Action)
			next := map[string]string{"online": "1", "offline": "0"}[e.Action]
			if next == state && wrong == "" {
				wrong = e.Action + " is sent, and the CPU was so"
			}
			state = next
		}
		if wrong == "" && state != is {
			wrong = map[string]string{"1": "online", "0": "offline"}[is] + " is not sent"
		}
		if wrong != "" {
			broken = append(broken, Violation{
				Touches: wrong,
				Seen:    fmt.Sprintf("%s was %s and is %s, and the uevents of the CPU are [%s]", key, was, is, strings.Join(heard, " ")),
			})
		}
	}
	return broken
}
