// Command guest is the part of cmd/widen that runs in its virtual machine: it
// takes a CPU offline and online, and prints which functions the kernel ran for
// that, as JSON: see [suspect.Trace].
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/hotplugtest/hotplugtest/cmd/widen/internal/suspect"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/callback"
	"github.com/hotplugtest/hotplugtest/tracefs"
)

func main() {
	if os.Getppid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: takes CPUs offline: it is made for the VMs of ci/widen")
		os.Exit(2)
	}
	cycles := flag.Int("cycles", 3, "`times` that the CPU goes offline and online, for each of two traces")
	flag.Parse()
	if err := watch(*cycles); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

// guest is what the traces need.
type guest struct {
	fs  *tracefs.FS
	sys cpuhp.FS
	cpu int // that goes offline and online

	seen []suspect.Sighting
}

// watch prints what it saw of the last CPU's operations. Nothing is restored:
// the machine ends with this program.
func watch(cycles int) error {
	fs, err := tracefs.Open("/")
	if err != nil {
		return err
	}
	sys, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	cpu, err := goes(sys)
	if err != nil {
		return err
	}
	g := &guest{fs: fs, sys: sys, cpu: cpu}
	if err := callback.MakeCpuset("widen"); err != nil {
		return err
	}
	if err := errors.Join(g.deferrals(cycles), g.calls(cycles)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(suspect.Trace{CPU: g.cpu, Seen: g.seen})
}

// goes returns the last CPU that can go offline. The last one that is not
// isolated cannot: kernels refuse it, or panic.
func goes(sys cpuhp.FS) (int, error) {
	cpus, _, err := sys.Hotpluggable()
	if err != nil {
		return 0, err
	}
	online, err := sys.Online()
	if err != nil {
		return 0, err
	}
	isolated, err := sys.Isolated()
	if err != nil {
		return 0, err
	}
	cpus = cpus.Intersect(online)
	if rest := online.Difference(isolated); rest.Count() == 1 {
		cpus = cpus.Difference(rest)
	}
	last, ok := cpus.Last()
	if !ok {
		return 0, fmt.Errorf("of the online CPUs %v none can go offline", online)
	}
	return last, nil
}

// name is that of an instance of tracefs.
func (g *guest) name(of string) string {
	return fmt.Sprintf("%s%d-%s", tracefs.NamePrefix, os.Getpid(), of)
}

// cycle takes the CPU offline and online so many times, each time through
// trace.
func (g *guest) cycle(times int, trace func(transition string, operate func() error) error) error {
	for range times {
		for _, transition := range []string{"offline", "online"} {
			err := trace(transition, func() error { return g.sys.SetOnline(g.cpu, transition == "online") })
			if err != nil {
				return fmt.Errorf("%s: %w", transition, err)
			}
		}
	}
	return nil
}
