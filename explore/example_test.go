package explore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/machine"
)

// cpu0Stays is a law of one's own.
var cpu0Stays = explore.Law{
	Name:   "cpu0-stays",
	Text:   "the boot CPU is online",
	Source: "Documentation/core-api/cpu_hotplug.rst: CPU0",
	State:  true,
	Check: func(c *explore.Case) []explore.Violation {
		const online = "/sys/devices/system/cpu/online"
		cpus := c.After.List(online)
		if cpus.Has(0) {
			return nil
		}
		return []explore.Violation{{
			Touches: "the boot CPU", Seen: fmt.Sprintf("CPUs %v are online", cpus), Facts: []explore.Fact{{Key: online, Value: cpus.String()}},
		}}
	},
}

// Explore the machine for an hour, by a law more than the explorer's own.
func ExampleMachine() {
	release, err := machine.Guard(os.Stderr)
	if err != nil {
		log.Fatal(err)
	}
	tables := explore.Default()
	tables.Laws = append(tables.Laws, cpu0Stays)
	found, err := explore.Machine(context.Background(), explore.MachineOptions{For: time.Hour, Tables: &tables})
	if err := errors.Join(err, release()); err != nil {
		log.Fatal(err)
	}
	for _, f := range found {
		fmt.Println(f.Violation.Key())
		law := slices.IndexFunc(tables.Laws, func(l explore.Law) bool { return l.Name == f.Violation.Law })
		if err := f.Save("findings", tables.Laws[law], nil); err != nil {
			log.Fatal(err)
		}
	}
}

// A law judges snapshots, so that it can be tested without a kernel that breaks
// it.
func ExampleJudge() {
	after, err := explore.ReadSnapshot(strings.NewReader("/sys/devices/system/cpu/online: 1-3\n"))
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range explore.Judge([]explore.Law{cpu0Stays}, explore.Version{7, 2}, &explore.Case{After: after}) {
		fmt.Printf("%s: %s\n", v.Key(), v.Seen)
	}
	// Output: cpu0-stays: the boot CPU: CPUs 1-3 are online
}
