// Command guest is the part of cmd/bench that runs in its virtual machine: it
// does a thing as the suite does it and as the C baseline does it, in turn, and
// prints what each took. A line of the output is a name and one number a run.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/suite"
	"github.com/hotplugtest/hotplugtest/uevent"
)

// baseline is the C program, which the runner of the VM copies.
const baseline = "testdata/baseline"

func main() {
	if os.Getppid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: takes CPUs offline and changes tracing: it is made for the VMs of ci/bench")
		os.Exit(2)
	}
	cpu := flag.Int("cpu", 1, "the `CPU` that goes offline and online")
	n := flag.Int("n", 20, "`times` that a thing is done")
	flag.Parse()
	measure, ok := map[string]func(cpu, n int) error{"cycle": cycle, "detect": detect, "react": react, "storm": storm}[flag.Arg(0)]
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: guest [-cpu N] [-n N] cycle|detect|react|storm")
		os.Exit(2)
	}
	// As the suite does.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	if err := measure(*cpu, *n); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func show[T int | int64 | uint64 | time.Duration](name string, values ...T) {
	fmt.Print(name)
	for _, v := range values {
		fmt.Print(" ", int64(v))
	}
	fmt.Println()
}

// cycle takes the CPU offline and online, n times by cpuhp and n times in C,
// and shows the nanoseconds of each time.
func cycle(cpu, n int) error {
	sys, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	var ours, theirs []time.Duration
	for range n {
		out, err := exec.Command(baseline, "cycle", strconv.Itoa(cpu), "1").Output()
		if err != nil {
			return fmt.Errorf("%s: %w", baseline, err)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		if err != nil {
			return err
		}
		theirs = append(theirs, time.Duration(ns))

		if err := affinity.Thread(func() error {
			start := time.Now()
			if err := sys.SetOnline(cpu, false); err != nil {
				return err
			}
			err := sys.SetOnline(cpu, true)
			ours = append(ours, time.Since(start))
			return err
		}); err != nil {
			return err
		}
	}
	show("suite", ours...)
	show("baseline", theirs...)
	return nil
}

// detect runs the C baseline, and shows in how many of n cycles it saw a CPU
// that was not ready at its uevent.
func detect(cpu, n int) error {
	out, err := exec.Command(baseline, "detect", strconv.Itoa(cpu), strconv.Itoa(n)).Output()
	if err != nil {
		return fmt.Errorf("%s: %w", baseline, err)
	}
	_, err = fmt.Printf("seen %s", out)
	return err
}

// react brings the CPU online n times while the suite's way waits for the
// uevent, and n times while the C baseline waits, and shows the nanoseconds
// from the kernel's sending of the uevent to its being asked for the affinity.
func react(cpu, n int) error {
	sys, err := cpuhp.New("/")
	if err != nil {
		return err
	}
	tr, err := openTrace()
	if err != nil {
		return err
	}
	conn, err := uevent.Open(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	events := suite.NewEvents(conn)
	var ours, theirs []time.Duration
	for range n {
		took, err := tr.reaction(sys, cpu, func() (tid int, err error) { return reactOnce(sys, events, cpu) })
		if err != nil {
			return fmt.Errorf("the suite's way: %w", err)
		}
		ours = append(ours, took)
		took, err = tr.reaction(sys, cpu, func() (tid int, err error) { return baselineOnce(sys, cpu) })
		if err != nil {
			return fmt.Errorf("%s: %w", baseline, err)
		}
		theirs = append(theirs, took)
	}
	show("suite", ours...)
	show("baseline", theirs...)
	return nil
}

// baselineOnce has the C baseline react to one uevent. It listens to no other,
// as it is started when the CPU is offline.
func baselineOnce(sys cpuhp.FS, cpu int) (tid int, err error) {
	c := exec.Command(baseline, "react", strconv.Itoa(cpu))
	said, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		_ = c.Process.Kill()
		return 0, errors.Join(err, c.Wait())
	}
	err = sys.SetOnline(cpu, true)
	if err != nil {
		_ = c.Process.Kill()
	}
	return c.Process.Pid, errors.Join(err, c.Wait())
}

// reactOnce waits for the uevent by the suite's own loop, and returns the
// thread that did it.
func reactOnce(sys cpuhp.FS, events *suite.Events, cpu int) (tid int, err error) {
	if err := events.Forget(); err != nil {
		return 0, err
	}
	err = affinity.Thread(func() error {
		tid = unix.Gettid()
		only := affinity.Of(cpu) // the row has it ready, too
		var returned atomic.Bool
		written := make(chan error, 1)
		go func() {
			err := sys.SetOnline(cpu, true)
			returned.Store(true)
			written <- err
		}()
		at, err := events.Await(cpu, "online", &returned)
		if err == nil && at.IsZero() {
			err = fmt.Errorf("no online uevent of cpu%d", cpu)
		}
		if err == nil {
			err = affinity.Set(0, only)
		}
		return errors.Join(err, <-written)
	})
	return tid, err
}

// tracer is the kernel's function tracer, set up for what is measured.
type tracer struct{ dir string }

func openTrace() (*tracer, error) {
	t := &tracer{"/sys/kernel/tracing"}
	for _, f := range []struct{ file, value string }{
		{"trace_clock", "mono"},
		{"kprobe_events", "p:measure/sent netlink_broadcast"},
		{"events/measure/sent/enable", "1"},
		{"events/syscalls/sys_enter_sched_setaffinity/enable", "1"},
	} {
		if err := t.write(f.file, f.value); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tracer) write(file, value string) error {
	return os.WriteFile(filepath.Join(t.dir, file), []byte(value), 0o644)
}

// traced matches an event: its thread, its time in seconds and microseconds,
// and its name.
var traced = regexp.MustCompile(`-(\d+) +\[\d+\] .* (\d+)\.(\d{6}): (\w+)[:(]`)

// reaction has f bring the CPU online, which it takes offline before, and
// returns the time from the last uevent that was sent before the thread, whose
// number f returns, called sched_setaffinity(2).
func (t *tracer) reaction(sys cpuhp.FS, cpu int, f func() (tid int, err error)) (time.Duration, error) {
	if err := sys.SetOnline(cpu, false); err != nil {
		return 0, err
	}
	if err := errors.Join(t.write("trace", ""), t.write("tracing_on", "1")); err != nil {
		return 0, err
	}
	tid, err := f()
	// Of a trace that goes on, what one reads need not be in order.
	if err := errors.Join(err, t.write("tracing_on", "0")); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(t.dir, "trace"))
	if err != nil {
		return 0, err
	}
	var sent time.Duration
	for line := range bytes.Lines(text) {
		m := traced.FindSubmatch(line)
		if m == nil {
			continue
		}
		at, err := time.ParseDuration(fmt.Sprintf("%ss%sus", m[2], m[3]))
		if err != nil {
			return 0, err
		}
		switch {
		case string(m[4]) == "sent":
			sent = at
		case sent != 0 && string(m[1]) == strconv.Itoa(tid):
			return at - sent, nil
		}
	}
	return 0, fmt.Errorf("no uevent and sched_setaffinity(2) of thread %d in the trace:\n%s", tid, text)
}

// storm has the kernel send n uevents as fast as it can, and shows how many
// were received and lost, and the nanoseconds that it took: with the default
// buffer, and with one that overflows.
func storm(cpu, n int) error {
	for _, buffer := range []struct {
		name string
		size int
	}{{"default", 0}, {"small", 64 << 10}} {
		events, err := uevent.Open(&uevent.Options{Buffer: buffer.size})
		if err != nil {
			return err
		}
		start := time.Now()
		written := make(chan error, 1)
		sent, cancel := context.WithCancel(context.Background())
		go func() {
			written <- synthesise(cpu, n)
			cancel()
		}()
		if err := receive(sent, events); err != nil {
			return err
		}
		took := time.Since(start)
		if err := <-written; err != nil {
			return err
		}
		stats := events.Stats()
		show(buffer.name, int64(stats.Received), int64(stats.Lost), int64(stats.Overruns), int64(took))
		if err := events.Close(); err != nil {
			return err
		}
	}
	return nil
}

// synthesise writes to the CPU's uevent file n times.
func synthesise(cpu, n int) error {
	path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/uevent", cpu)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	for range n {
		if _, err := unix.Write(fd, []byte("change")); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// receive receives all events until no more are sent.
func receive(sent context.Context, events *uevent.Conn) error {
	var ev uevent.Event
	for {
		err := events.ReceiveInto(sent, &ev)
		if err == nil || errors.Is(err, uevent.ErrOverrun) {
			continue
		}
		if !errors.Is(err, context.Canceled) {
			return err
		}
		for {
			queued, err := events.TryReceiveInto(&ev)
			if err == nil && !queued {
				return nil
			}
			if err != nil && !errors.Is(err, uevent.ErrOverrun) {
				return err
			}
		}
	}
}
