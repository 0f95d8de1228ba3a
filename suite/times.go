package suite

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/stat"
)

// TimesPrefix begins each line of the table of times, for programs that pick it
// from the output of go test.
const TimesPrefix = "times: "

// times are how long the operations of a run took, by transition.
type times struct {
	names []string // in the order of the run
	by    map[string]*result
}

// add takes what the cycles of a case took.
func (t *times) add(name string, r *result) {
	if t.by == nil {
		t.by = make(map[string]*result)
	}
	if t.by[name] == nil {
		t.by[name] = &result{}
		t.names = append(t.names, name)
	}
	t.by[name].merge(r)
}

// Times is a table of what each transition took: the write itself, from its
// begin to the receipt of the uevent, and, for broken promises, from the moment
// until they were kept. It is empty when no transition was made.
func (r *Runner) Times() string {
	if len(r.times.names) == 0 {
		return ""
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "transition\t\tcount\tmin\tmedian\tp99\tmax, in ms")
	for _, name := range r.times.names {
		of := r.times.by[name]
		for _, row := range []struct {
			what   string
			values []time.Duration
		}{{"write", of.toReturn}, {"to the uevent", of.toUevent}, {"promise broken", of.windows}} {
			if len(row.values) == 0 {
				continue
			}
			q := quantiles(row.values)
			fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", name, row.what, len(row.values),
				number(q[0]), number(q[1]), number(q[2]), number(q[3]))
		}
	}
	table.Flush()
	var lines strings.Builder
	for line := range strings.Lines(text.String()) {
		lines.WriteString(TimesPrefix + strings.TrimRight(line, " \n") + "\n")
	}
	return lines.String()
}

// quantiles are the least, the median, the 99th percentile and the greatest.
func quantiles(d []time.Duration) []time.Duration { return stat.Quantiles(d, 0, 50, 99, 100) }
