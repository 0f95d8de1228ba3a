package tracefs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/syserr"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
)

// ErrLost is wrapped by the error of [Instance.Read] if events were not
// recorded because a buffer was full. What a trace like that does not show may
// still have happened.
var ErrLost = errors.New("tracefs: events were lost")

// Read returns the events that were recorded since the last Read, in the order
// of their times, and does not wait for more. It may be called while the
// recording goes on: what is recorded after the call began may be among them or
// not. A machine may record faster than a thread reads. While the recording goes
// on, an event whose stack may still come is left to the next Read, and so are
// those after it.
//
// The error wraps [ErrLost] if any event since the last [Instance.Clear] was
// lost. The events that were not lost are returned with it.
func (i *Instance) Read() ([]Event, error) {
	before, err := i.stats()
	if err != nil {
		return nil, err
	}
	unread := uint64(0)
	for of, n := range before {
		if of.counter == unreadCounter {
			unread += n
		}
	}
	for buf := make([]byte, 64<<10); i.parser.entries < unread; {
		n, err := unix.Read(i.pipe, buf)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN || err == nil && n == 0 {
			break
		}
		if err == nil && i.copy != nil {
			_, err = i.copy.Write(buf[:n])
		}
		if err == nil {
			err = i.parser.parse(string(buf[:n]))
		}
		if err != nil {
			return nil, failed("read", i.path("trace_pipe"), err)
		}
	}
	events, lost := i.parser.take(!i.recording)
	counts, err := i.stats()
	if err != nil {
		return events, err
	}
	for _, of := range slices.SortedFunc(maps.Keys(counts), statistic.compare) {
		if n, before := counts[of], i.lostBefore[of]; n > before && of.counter != unreadCounter {
			lost = append(lost, fmt.Sprintf("%s: %d %s", of.cpu, n-before, of.counter))
		}
	}
	if len(lost) > 0 {
		return events, fmt.Errorf("%w: %s", ErrLost, strings.Join(lost, ", "))
	}
	return events, nil
}

// lostCounters are the lines of per_cpu/cpuN/stats that count events which
// cannot be read any more, or were never written. unreadCounter is the one of
// the events, and of their stacks, that wait to be read.
var (
	lostCounters  = []string{"overrun", "commit overrun", "dropped events"}
	unreadCounter = "entries"
)

// A statistic is a counter of the buffer of a CPU, such as "dropped events" of
// "cpu1".
type statistic struct{ cpu, counter string }

func (s statistic) compare(o statistic) int {
	return cmp.Or(strings.Compare(s.cpu, o.cpu), strings.Compare(s.counter, o.counter))
}

// stats returns the counters of all buffers.
func (i *Instance) stats() (map[statistic]uint64, error) {
	// The error is one of the pattern.
	files, _ := filepath.Glob(i.path("per_cpu/cpu*/stats"))
	if len(files) == 0 {
		return nil, fmt.Errorf("tracefs: there is no %s", i.path("per_cpu/cpu*/stats"))
	}
	stats := make(map[statistic]uint64)
	for _, file := range files {
		counts, err := sysfs.Read(file, parseStats)
		if err != nil {
			return nil, syserr.In("tracefs", err)
		}
		for name, n := range counts {
			stats[statistic{filepath.Base(filepath.Dir(file)), name}] = n
		}
	}
	return stats, nil
}

// parseStats parses the counters in per_cpu/cpuN/stats, which has lines such as
// "overrun: 0" and "oldest event ts: 13.052405". Each counter must be there: a
// kernel without it could not tell.
func parseStats(text string) (map[string]uint64, error) {
	wanted := append([]string{unreadCounter}, lostCounters...)
	counts := make(map[string]uint64)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if !slices.Contains(wanted, name) {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		counts[name] = n
	}
	for _, counter := range wanted {
		if _, ok := counts[counter]; !ok {
			return nil, fmt.Errorf("there is no line %q", counter+": N")
		}
	}
	return counts, nil
}

// Clear opens trace to be written anew: what was recorded and not read is thrown
// away, and what is known of lost events. The error is an [*Error].
func (i *Instance) Clear() error {
	fd, err := unix.Open(i.path("trace"), unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", i.path("trace"), err)
	}
	i.parser = parser{stacked: i.parser.stacked}
	if err := unix.Close(fd); err != nil {
		return syserr.In("tracefs", os.NewSyscallError("close", err))
	}
	// The kernel does not reset the counters of a CPU that is offline.
	i.lostBefore, err = i.stats()
	return err
}
