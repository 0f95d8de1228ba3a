package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/stat"
	"github.com/hotplugtest/hotplugtest/vm"
)

// compare makes a row of nanoseconds that are to be at most goal times those of
// something else.
func compare(what string, goal float64, ours, theirs []int64, theirName string) row {
	ratio := float64(stat.Median(ours)) / float64(stat.Median(theirs))
	return row{
		what: what, result: fmt.Sprintf("%.2f x", ratio), goal: fmt.Sprintf("%.2f x", goal), missed: ratio > goal,
		runs: fmt.Sprintf("%s; %s: %s", spread(ours), theirName, spread(theirs)),
	}
}

func spread(ns []int64) string {
	q := stat.Quantiles(ns, 0, 50, 100)
	return fmt.Sprintf("median %s (%s to %s, %d runs)", ms(q[1]), ms(q[0]), ms(q[2]), len(ns))
}

func ms(ns int64) string { return strconv.FormatFloat(float64(ns)/1e6, 'f', 2, 64) + " ms" }

// cycle is offline and online by cpuhp.
func cycle(ctx context.Context, b *bench) ([]row, error) {
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(b.n), "cycle")
	if err != nil {
		return nil, err
	}
	return []row{compare("a hotplug cycle", 1.05, got["suite"], got["baseline"], "in C")}, nil
}

// react is from a uevent to sched_setaffinity(2).
func react(ctx context.Context, b *bench) ([]row, error) {
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(b.n), "react")
	if err != nil {
		return nil, err
	}
	return []row{compare("from the uevent to sched_setaffinity(2)", 1, got["suite"], got["baseline"], "in C")}, nil
}

// start is ci/selftest to its first test.
func start(ctx context.Context, b *bench) ([]row, error) {
	prepared, err := vm.Prepare(ctx, vm.Options{Kernel: b.kernel, SMP: "4", Mem: "1G", Append: "cpu0_hotplug"}, runtime.GOARCH, os.Stderr)
	if err != nil {
		return nil, err
	}
	var ours, bare []int64
	for range max(3, b.n/6) {
		r, err := b.selftest(ctx, "-kernel", b.kernel, "-run", "TestSameValue/online/at-return/cpu-online")
		if err != nil {
			return nil, err
		}
		if r.code != 0 {
			return nil, fmt.Errorf("ci/selftest: exit status %d", r.code)
		}
		ours = append(ours, r.first.Nanoseconds())
		took, err := prepared.BareBoot(ctx, b.baseline())
		if err != nil {
			return nil, err
		}
		bare = append(bare, took.Nanoseconds())
	}
	return []row{compare("ci/selftest to its first test", 1.25, ours, bare, "bare boot to init")}, nil
}

// defaultRun is all of ci/selftest.
func defaultRun(ctx context.Context, b *bench) ([]row, error) {
	const goal = 75 * time.Second
	r, err := b.selftest(ctx, "-kernel", b.kernel, "-known", "builtin")
	if err != nil {
		return nil, err
	}
	return []row{{
		what: "the whole default run", result: fmt.Sprintf("%.1f s", r.all.Seconds()), goal: fmt.Sprintf("%.0f s", goal.Seconds()),
		missed: r.all > goal || r.code != 0, runs: fmt.Sprintf("1 run of %d tests, exit status %d", r.tests, r.code),
	}}, nil
}

// growth is what more CPUs cost: a cycle, n times, and the tests that match
// run.
func growth(smp, run string, n int) func(context.Context, *bench) ([]row, error) {
	return func(ctx context.Context, b *bench) ([]row, error) {
		got, err := b.guest(ctx, vm.Options{SMP: smp}, "-n", strconv.Itoa(n), "cycle")
		if err != nil {
			return nil, err
		}
		rows := []row{{what: "a cycle on " + smp + " CPUs", result: ms(stat.Median(got["suite"])), runs: spread(got["suite"])}}
		r, err := b.selftest(ctx, "-kernel", b.kernel, "-known", "builtin", "-smp", smp, "-run", run)
		if err != nil {
			return rows, err
		}
		what := "the default run"
		if run != "" {
			what = "-run '" + run + "'"
		}
		return append(rows, row{
			what: what + " on " + smp + " CPUs", result: fmt.Sprintf("%.1f s", r.all.Seconds()),
			runs: fmt.Sprintf("1 run of %d tests, the first after %.1f s, exit status %d", r.tests, r.first.Seconds(), r.code),
		}), nil
	}
}

// uevents is what the receiver costs and whether it loses anything.
func uevents(ctx context.Context, b *bench) ([]row, error) {
	const sent = 100_000
	got, err := b.guest(ctx, vm.Options{}, "-n", strconv.Itoa(sent), "storm")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range []struct{ buffer, goal string }{{"default", "all received"}, {"small", "each accounted for"}} {
		received, lost, overruns, ns := got[s.buffer][0], got[s.buffer][1], got[s.buffer][2], got[s.buffer][3]
		rows = append(rows, row{
			what:   fmt.Sprintf("%d uevents, %s buffer", sent, s.buffer),
			result: fmt.Sprintf("%d received, %d reported as lost", received, lost),
			goal:   s.goal, missed: received+lost != sent || s.buffer == "default" && lost > 0,
			runs: fmt.Sprintf("%d overruns reported; %.0f µs a uevent, the kernel's part included", overruns, float64(ns)/sent/1e3),
		})
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkReceive$", "-benchtime", "20000x", "./uevent")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	for _, r := range []struct {
		name string
		goal int
	}{{"Receive", 2}, {"ReceiveInto", 0}} {
		m := regexp.MustCompile(`(?m)^BenchmarkReceive/` + r.name + `\S*\s.*\s(\S+ ns/op).*\s(\d+) allocs/op$`).FindSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("%v: no result for %s:\n%s", cmd, r.name, out)
		}
		allocs, err := strconv.Atoi(string(m[2]))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{
			what: "uevent." + r.name, result: fmt.Sprintf("%d allocations", allocs), goal: strconv.Itoa(r.goal), missed: allocs > r.goal,
			runs: fmt.Sprintf("%s of this machine's kernel, 20000 times", m[1]),
		})
	}
	return rows, nil
}

// detect is how surely the bug of 2021 is seen in a kernel that had it fixed.
func detect(kernel string) func(context.Context, *bench) ([]row, error) {
	const cycles, poke = 100, "cpuset_wait_for_hotplug=ret"
	return func(ctx context.Context, b *bench) ([]row, error) {
		// Two CPUs at two moments.
		r, err := b.selftest(ctx, "-kernel", kernel, "-poke", poke, "-run", "TestOnline/.*/affinity$/child-cpuset",
			"--", "-cycles", strconv.Itoa(cycles/4), "-cpus", "1-2")
		if err != nil {
			return nil, err
		}
		got, err := b.guest(ctx, vm.Options{Kernel: kernel, Pokes: []string{poke}}, "-n", strconv.Itoa(cycles), "detect")
		if err != nil {
			return nil, err
		}
		return []row{{
			what:   "the bug of 2021 in the kernel of " + kernel,
			result: fmt.Sprintf("%d of %d cycles", r.broken, r.probes), goal: "99 of 100",
			missed: r.probes < cycles || r.broken*100 < 99*r.probes, runs: fmt.Sprintf("in C %d of %d", got["seen"][0], cycles),
		}}, nil
	}
}
