package hotplugtest_test

import (
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/machine"
)

var (
	exploreFor  = flag.Duration("explore", 0, "run random sequences of CPU hotplug and cpusets on this machine for this `time`: TestExplore")
	exploreSeed = flag.Uint64("explore-seed", 1, "decides what -explore draws")
	exploreOut  = flag.String("explore-out", "/var/tmp/hotplugtest-explore", "`directory` for the findings of -explore, and for the sequence that is under way")
)

// TestExplore needs root, and a machine whose CPUs may go offline; it leaves
// that as it found it. A machine that dies leaves its sequence in sequence.txt.
func TestExplore(t *testing.T) {
	if *exploreFor <= 0 {
		t.Skip("no -explore: random sequences take a time that somebody gives")
	}
	machine.Claim(t)
	neverCached()
	cpus, err := affinity.ParseList(options.CPUs)
	if err != nil {
		t.Fatalf("-cpus %s: %v", options.CPUs, err)
	}
	start := time.Now()
	found, err := explore.Machine(t.Context(), explore.MachineOptions{
		For: *exploreFor, CPUs: cpus, Seed: *exploreSeed, Journal: filepath.Join(*exploreOut, "sequence.txt"),
	})
	if errors.Is(err, explore.ErrCannot) {
		t.Skip(err)
	}
	for _, f := range found {
		report(t, f)
	}
	switch {
	case errors.Is(err, explore.ErrSpoiled) && found == nil:
		// The defect is a known one.
		t.Logf("%v: only a reboot takes it back; to explore without it, give another -explore-seed", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Logf("explored for %v: %d findings", time.Since(start).Round(time.Second), len(found))
}

// report fails the test for a finding, and saves it.
func report(t *testing.T, f *explore.Finding) {
	for _, law := range explore.Default().Laws {
		if law.Name != f.Violation.Law {
			continue
		}
		var text strings.Builder
		if err := f.Report(&text, law, nil); err != nil {
			t.Error(err)
		}
		t.Errorf("%s\nfiles: %s", text.String(), filepath.Join(*exploreOut, f.Slug()))
		if err := f.Save(*exploreOut, law, nil); err != nil {
			t.Error(err)
		}
	}
}
