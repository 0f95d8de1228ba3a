// Command guest is the part of cmd/mutants that runs in its virtual machine: it
// takes the last CPU offline and online, and prints the callbacks of hotplug
// states that the kernel called for it, as JSON: a list of functions. Those that
// run on a CPU which is not online are the last.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/internal/callback"
)

func main() {
	if os.Getppid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: takes CPUs offline: it is made for the VMs of ci/mutants")
		os.Exit(2)
	}
	try := flag.Bool("try", false, "trace nothing: exit 0 if the CPU goes offline and online, and 1 if not")
	flag.Parse()
	if err := run(*try); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(try bool) error {
	sys, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	online, err := sys.Online()
	if err != nil {
		return err
	}
	cpu := slices.Max(slices.Collect(online.All()))
	if try {
		return bounded(func() error { return offAndOn(sys, cpu, online) })
	}
	if err := callback.MakeCpuset("mutants"); err != nil {
		return err
	}
	functions, err := callbacks(func() error { return offAndOn(sys, cpu, online) })
	if err != nil {
		return err
	}
	states, err := sys.States()
	if err != nil {
		return err
	}
	more, err := dyingAndStarting(states)
	if err != nil {
		return err
	}
	for _, f := range more {
		if !slices.Contains(functions, f) {
			functions = append(functions, f)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(functions)
}

// tryTimeout is more than the kernel's own wait for a CPU, 10 s.
const tryTimeout = 30 * time.Second

// bounded calls f, and returns an error if it has not returned by [tryTimeout].
func bounded(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(tryTimeout):
		return fmt.Errorf("an operation has not returned for %v", tryTimeout)
	}
}

// offAndOn takes a CPU offline and online. The error says if it is not where it
// should be then.
func offAndOn(sys cpuhp.FS, cpu int, online affinity.CPUSet) error {
	for _, up := range []bool{false, true} {
		if err := sys.SetOnline(cpu, up); err != nil {
			return err
		}
		now, err := sys.Online()
		if err != nil {
			return err
		}
		want := online
		if !up {
			want = online.Without(cpu)
		}
		if !now.Equal(want) {
			return fmt.Errorf("cpu%d/online was written, and CPUs %v are online, want %v", cpu, now, want)
		}
	}
	return nil
}

// callbacks returns the functions that are called in operate, each once, in the
// order of their first calls.
func callbacks(operate func() error) (functions []string, err error) {
	events, err := callback.Record(operate)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if f, ok := callback.Function(e); ok && !slices.Contains(functions, f) {
			functions = append(functions, f)
		}
	}
	return functions, nil
}
