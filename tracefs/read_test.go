package tracefs_test

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/tracefs"
)

const queueWork = "workqueue:workqueue_queue_work"

// An instance of files, and what has its trace_pipe say something: a text, of
// which the kernel counts entries.
func instanceOfFiles(t *testing.T) (i *tracefs.Instance, say func(entries int, text string)) {
	root := files(t, map[string]string{
		"tracing_on": "", "events/workqueue/workqueue_queue_work/trigger": "", "per_cpu/cpu0/stats": "",
	})
	var fds [2]int
	require.NoError(t, unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	t.Cleanup(func() { assert.NoError(t, unix.Close(fds[0])); assert.NoError(t, unix.Close(fds[1])) })
	return tracefs.NewInstance(root, fds[1], fds[0]), func(entries int, text string) {
		t.Helper()
		_, err := unix.Write(fds[1], []byte(text))
		require.NoError(t, err)
		stats := fmt.Sprintf("entries: %d\noverrun: 0\ncommit overrun: 0\ndropped events: 0\n", entries)
		require.NoError(t, os.WriteFile(filepath.Join(root, "per_cpu/cpu0/stats"), []byte(stats), 0o644))
	}
}

// read returns the functions that put work off, and their stacks.
func read(t *testing.T, i *tracefs.Instance) (seen []string) {
	t.Helper()
	events, err := i.Read()
	require.NoError(t, err)
	for _, e := range events {
		seen = append(seen, fmt.Sprintf("%s %v", e.Args, e.Stack))
	}
	return seen
}

// A stack that the kernel has not recorded yet, when the event is read, is that
// of the event all the same.
func TestReadBetweenEventAndStack(t *testing.T) {
	i, say := instanceOfFiles(t)
	require.NoError(t, i.Stacks(queueWork, ""))
	require.NoError(t, i.Start())
	a, b, c := line("sh", 12, 0, "....", "workqueue_queue_work: a"), line("sh", 12, 0, "....", "workqueue_queue_work: b"), line("sh", 13, 1, "....", "e: c")
	stack := func(of string) string { return line("sh", 12, 0, "....", "<stack trace>\n => "+of) }
	say(4, a+stack("f")+b+c)
	assert.Equal(t, []string{"a [f]"}, read(t, i))
	// An interrupt may have recorded something meanwhile.
	say(3, line("sh", 12, 0, "d.h.", "e: d")+stack("g")+line("sh", 12, 0, "....", "e: e"))
	assert.Equal(t, []string{"b [g]", "c []", "d []", "e []"}, read(t, i))
	say(1, stack("no event's")+line("sh", 12, 0, "....", "e: f"))
	assert.Equal(t, []string{"f []"}, read(t, i), "an event has one stack")
}

// Wherever a Read ends between two entries of what the kernels print, the events
// are those of the whole text.
func TestReadRecorded(t *testing.T) {
	for _, kernel := range []string{"5.10", "6.1", "6.12", "7.2"} {
		text := content(t, filepath.Join("testdata", kernel+".txt"))
		want, err := tracefs.Parse(text)
		require.NoError(t, err)
		i, say := instanceOfFiles(t)
		for _, e := range want {
			if e.Stack != nil {
				i.HasStacks(e.Name)
			}
		}
		at := 0
		for entry := range strings.SplitAfterSeq(text, "\n") {
			if at > 0 && !strings.HasPrefix(entry, " => ") {
				require.NoError(t, i.Start())
				say(math.MaxInt, text[:at])
				got, err := i.Read()
				require.NoError(t, err)
				require.NoError(t, i.Stop())
				say(math.MaxInt, text[at:])
				rest, err := i.Read()
				require.NoError(t, err)
				require.Equal(t, want, append(got, rest...), "%s, after %q", kernel, text[max(0, at-200):at])
			}
			at += len(entry)
		}
	}
}

// No event is left behind twice, and none when the recording is over.
func TestReadWithoutStack(t *testing.T) {
	i, say := instanceOfFiles(t)
	require.NoError(t, i.Stacks(queueWork, ""))
	require.NoError(t, i.Start())
	a, b := line("sh", 12, 0, "....", "workqueue_queue_work: a"), line("sh", 12, 1, "....", "workqueue_queue_work: b")
	say(1, a)
	assert.Empty(t, read(t, i))
	say(0, "")
	assert.Equal(t, []string{"a []"}, read(t, i))
	say(2, a+b)
	assert.Empty(t, read(t, i))
	say(1, line("<idle>", 0, 0, "....", "e: c"))
	assert.Equal(t, []string{"a []", "b []", "c []"}, read(t, i))
	say(1, a)
	require.NoError(t, i.Stop())
	assert.Equal(t, []string{"a []"}, read(t, i))
}

// What the filter keeps without a stack is not waited for.
func TestReadInTask(t *testing.T) {
	i, say := instanceOfFiles(t)
	require.NoError(t, i.Stacks(queueWork, tracefs.InTask+` && comm != "x"`))
	require.NoError(t, i.Start())
	say(1, line("sh", 12, 0, "..s.", "workqueue_queue_work: a"))
	assert.Equal(t, []string{"a []"}, read(t, i))
}

// A mark of which the kernel records a part is not the mark that was asked for.
func TestMarkShort(t *testing.T) {
	i, _ := instanceOfFiles(t)
	require.NoError(t, i.Mark("one"))
	err := i.Mark(strings.Repeat("x", 1<<20)) // more than a pipe takes
	assert.ErrorIs(t, err, io.ErrShortWrite)
	assert.ErrorContains(t, err, "trace_marker: short write: ")
}

// An instance that cannot be removed does not go on recording.
func TestCloseBusy(t *testing.T) {
	root := files(t, map[string]string{"tracing_on": "1\n"})
	i := tracefs.NewInstance(root, -1, -1)
	assert.ErrorContains(t, i.Close(), "rmdir "+root)
	assert.Equal(t, "0\n", content(t, filepath.Join(root, "tracing_on")))
	require.NoError(t, os.Remove(filepath.Join(root, "tracing_on")))
	assert.NoError(t, i.Close())
	assert.NoDirExists(t, root)
}
