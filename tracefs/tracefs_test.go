package tracefs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

// line is an event as the kernel prints it. The name has 16 columns.
func line(comm string, tid, cpu int, flags, rest string) string {
	return fmt.Sprintf("%16s-%-7d [%03d] %s     7.000012: %s\n", comm, tid, cpu, flags, rest)
}

func TestParse(t *testing.T) {
	stack := "<stack trace>\n"
	events, err := tracefs.Parse("# tracer: nop\n#\n" +
		line("sh", 12, 0, ".....", "tracing_mark_write: a: b\n c") +
		line("cpuhp/3", 29, 3, "d..1.", "workqueue_queue_work: work struct=00a function=f") +
		line("b", 13, 10, "d.h.", "sched_switch: prev_comm=a\nb prev_pid=1") +
		line("cpuhp/3", 29, 3, "d.h1.", "timer_start: timer=00d") +
		line("cpuhp/3", 29, 3, "d.h1.", stack+" => mod_timer") +
		line("cpuhp/3", 29, 3, "d..1.", stack+" => __traceiter_x\n => trace_event_raw_event_x\n => __queue_work\n => queue_work_on") +
		line("ends in x\nz", 14, 1, "dNs2.", "e: ") +
		line(" [001] d...", 15, 1, "d.Z3.", "f: g") +
		line("-1 [0", 16, 1, "d.H3.", "f: g") +
		// With the patches of PREEMPT_RT.
		line("<idle>", 0, 1, "d..h1..", "f: g") + line("sh", 12, 0, "....1..", "f: g"))
	require.NoError(t, err)
	at := 7*time.Second + 12*time.Microsecond
	assert.Equal(t, []tracefs.Event{
		{Comm: "sh", TID: 12, Time: at, Name: tracefs.Marker, Args: "a: b\n c"},
		{Comm: "cpuhp/3", TID: 29, CPU: 3, Time: at, Name: "workqueue_queue_work", Args: "work struct=00a function=f", Stack: []string{"__queue_work", "queue_work_on"}},
		{Comm: "b", TID: 13, CPU: 10, Context: tracefs.HardIRQ, Time: at, Name: "sched_switch", Args: "prev_comm=a\nb prev_pid=1"},
		{Comm: "cpuhp/3", TID: 29, CPU: 3, Context: tracefs.HardIRQ, Time: at, Name: "timer_start", Args: "timer=00d", Stack: []string{"mod_timer"}},
		{Comm: "ends in x\nz", TID: 14, CPU: 1, Context: tracefs.SoftIRQ, Time: at, Name: "e"},
		{Comm: "[001] d...", TID: 15, CPU: 1, Context: tracefs.NMI, Time: at, Name: "f", Args: "g"},
		{Comm: "-1 [0", TID: 16, CPU: 1, Context: tracefs.HardIRQ, Time: at, Name: "f", Args: "g"},
		{Comm: "<idle>", CPU: 1, Context: tracefs.HardIRQ, Time: at, Name: "f", Args: "g"},
		{Comm: "sh", TID: 12, Time: at, Name: "f", Args: "g"},
	}, events)
	assert.Equal(t, "Context(4)", tracefs.Context(4).String())
	assert.Equal(t, "cpuhp/3-29 [003] task 7.000012: workqueue_queue_work: work struct=00a function=f", events[1].String())
}

func TestParseError(t *testing.T) {
	first := line("sh", 12, 0, ".....", "tracing_mark_write: a")
	for _, lost := range []string{"CPU:2 [LOST 17 EVENTS]", "CPU:2 [LOST EVENTS]", "[LINE TOO BIG]"} {
		events, err := tracefs.Parse(first + lost + "\n" + first)
		require.ErrorIs(t, err, tracefs.ErrLost)
		assert.EqualError(t, err, "tracefs: events were lost: "+lost)
		assert.Len(t, events, 2)
	}
	_, err := tracefs.Parse(strings.Repeat("x", 65) + "\n" + first)
	assert.ErrorContains(t, err, `xxx" is no event`)
	_, err = tracefs.Parse("ok\n")
	assert.EqualError(t, err, `tracefs: line "ok" is no event`)
	events, err := tracefs.Parse("# tracer: nop\n#\n\n")
	assert.NoError(t, err)
	assert.Empty(t, events)
	_, err = tracefs.Parse(line("sh", 12, 0, ".....", "no name"))
	assert.ErrorContains(t, err, `"no name", which thread 12 recorded, has no event's name`)
}

// What the kernels print, with the options of an instance.
func TestParseRecorded(t *testing.T) {
	for _, kernel := range []string{"5.10", "6.1", "6.12", "7.2"} {
		t.Run(kernel, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", kernel+".txt"))
			require.NoError(t, err)
			events, err := tracefs.Parse(string(text))
			require.NoError(t, err)
			contexts := make(map[tracefs.Context]int)
			names := make(map[string]int)
			stacks := 0
			for _, e := range events {
				contexts[e.Context]++
				names[e.Name]++
				assert.NotEmpty(t, e.Comm)
				assert.Less(t, e.CPU, 4)
				assert.Positive(t, e.Time)
				assert.NotContains(t, e.Args, "\n")
				if e.Stack != nil {
					stacks++
					assert.NotRegexp(t, "^(trace_|__traceiter_)", e.Stack[0])
				}
			}
			for _, c := range []tracefs.Context{tracefs.Task, tracefs.SoftIRQ, tracefs.HardIRQ} {
				assert.Positive(t, contexts[c], "%v", c)
			}
			for _, name := range []string{tracefs.Marker, "workqueue_queue_work", "workqueue_execute_start", "timer_start", "sched_waking", "sched_switch"} {
				assert.Positive(t, names[name], name)
			}
			assert.Equal(t, strings.Count(string(text), ": <stack trace>\n"), stacks, "one stack per event")
			assert.Equal(t, strings.Count(string(text), "\n"), len(events)+stacks+strings.Count(string(text), " => "), "each line is part of an event")
		})
	}
}

// FuzzParse: whatever the text, there is an error or events.
func FuzzParse(f *testing.F) {
	f.Add("CPU:2 [LOST 17 EVENTS]\n")
	f.Add(line("a\nb", 12, 0, "d.h1.", "x: y\nz") + line("c", 12, 0, "....", "<stack trace>\n => f\n => g"))
	for _, kernel := range []string{"5.10", "6.1", "6.12", "7.2"} {
		text, err := os.ReadFile(filepath.Join("testdata", kernel+".txt"))
		require.NoError(f, err)
		f.Add(string(text[:2000]))
	}
	f.Fuzz(func(t *testing.T, text string) {
		events, err := tracefs.Parse(text)
		if err == nil && strings.Contains(text, "[LOST EVENTS]\n") && strings.HasPrefix(text, "CPU:0 [LOST") {
			t.Errorf("events were lost, and there is no error")
		}
		for _, e := range events {
			if e.Name == "" || e.TID < 0 || e.CPU < 0 || e.Time < 0 {
				t.Errorf("%q", e)
			}
		}
	})
}

// files makes a machine of text files, where a name that ends in a slash is a
// directory.
func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return root
}

func TestOpenError(t *testing.T) {
	_, err := tracefs.Open(files(t, map[string]string{"sys/kernel/": ""}))
	require.ErrorIs(t, err, tracefs.ErrNotSupported)
	assert.ErrorContains(t, err, "tracefs: not supported: the kernel has no tracefs (CONFIG_TRACING): stat ")

	_, err = tracefs.Open(files(t, map[string]string{"sys/kernel/tracing/instances/": ""}))
	require.ErrorIs(t, err, unix.ENOENT)
	assert.ErrorContains(t, err, "current_tracer: ENOENT")

	f, err := tracefs.Open(files(t, map[string]string{"sys/kernel/tracing/instances/": "", "sys/kernel/tracing/current_tracer": "nop\n"}))
	require.NoError(t, err)
	_, err = f.Create("no/such", nil)
	assert.ErrorIs(t, err, unix.ENOENT)
	// A directory of tracefs has files at once; this one does not.
	_, err = f.Create("hotplugtest-1", nil)
	assert.ErrorContains(t, err, "tracing_on: ENOENT")
	assert.NoDirExists(t, filepath.Join(f.Dir(), "instances/hotplugtest-1"), "what cannot be set up is removed")
	assert.NoError(t, f.Close())
}

// An instance that is closed writes to no file, also none of that name in the
// working directory.
func TestClosed(t *testing.T) {
	t.Chdir(t.TempDir())
	files := []string{"trace", "tracing_on", "set_event_pid", "events/sched/sched_switch/enable", "per_cpu/cpu0/stats"}
	for _, file := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte("mine\n"), 0o644))
	}
	dir := filepath.Join(t.TempDir(), "instance")
	require.NoError(t, os.Mkdir(dir, 0o755))
	i := tracefs.NewInstance(dir, -1, -1)
	require.NoError(t, i.Close())
	assert.NoDirExists(t, dir)
	require.NoError(t, i.Close())
	_, err := i.Read()
	assert.ErrorContains(t, err, dir)
	for name, err := range map[string]error{
		"Start": i.Start(), "Stop": i.Stop(), "Clear": i.Clear(), "SetPIDs": i.SetPIDs(),
		"Enable": i.Enable("sched:sched_switch", ""), "Stacks": i.Stacks("sched:sched_switch", ""), "Mark": i.Mark("text"),
	} {
		assert.ErrorContains(t, err, dir, name)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "mine\n", string(text), file)
	}
}

func TestParseStats(t *testing.T) {
	const none = "entries: 1012\noverrun: 0\ncommit overrun: 0\nbytes: 84300\noldest event ts:    13.052405\nnow ts:    18.249431\ndropped events: 0\nread events: 0\n"
	counts, err := tracefs.ParseStats(none)
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"entries": 1012, "overrun": 0, "commit overrun": 0, "dropped events": 0}, counts)
	counts, err = tracefs.ParseStats(strings.Replace(none, "dropped events: 0", "dropped events: 12", 1))
	require.NoError(t, err)
	assert.Equal(t, uint64(12), counts["dropped events"])
	_, err = tracefs.ParseStats(strings.Replace(none, "\noverrun: 0", "", 1))
	assert.EqualError(t, err, `there is no line "overrun: N"`)
	_, err = tracefs.ParseStats(strings.Replace(none, "\noverrun: 0", "\noverrun: many", 1))
	assert.ErrorContains(t, err, `line "overrun: many\n"`)
}
