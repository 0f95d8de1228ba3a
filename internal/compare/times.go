package compare

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"
)

// Time is what was measured of a transition in both runs, in nanoseconds.
type Time struct {
	Kernel string `json:"kernel"`
	Test   string `json:"test"` // the transition
	What   string `json:"what"` // "write", "to the uevent" or "promise broken"

	Old   time.Duration `json:"old"` // median. 0: it was not measured
	New   time.Duration `json:"new"`
	Delta string        `json:"delta"` // "+12.3%", or "~" if it may be chance

	// P is the probability that such a difference is chance. Significant
	// reports whether it is small enough.
	P           float64 `json:"p"`
	Significant bool    `json:"significant"`
	OldCount    int     `json:"old-count"`
	NewCount    int     `json:"new-count"`
}

// What of a Time.
const (
	write         = "write"
	toUevent      = "to the uevent"
	promiseBroken = "promise broken"
)

// alpha is how often a difference that is chance may be called significant. A
// run has some hundred of them.
const alpha = 0.001

// compareTimes compares what the transitions took that were measured in both
// runs.
func (c *comparison) compareTimes() {
	for _, name := range slices.Sorted(maps.Keys(c.old.times)) {
		was, is := c.old.times[name], c.new.times[name]
		if is == nil || !c.asked(name) {
			continue
		}
		c.addTime(Time{Kernel: c.kernel, Test: name, What: write}, was.toReturn, is.toReturn)
		c.addTime(Time{Kernel: c.kernel, Test: name, What: toUevent}, was.toUevent, is.toUevent)
		c.addTime(Time{Kernel: c.kernel, Test: name, What: promiseBroken}, was.window, is.window)
	}
}

// addTime compares durations. A promise that was broken in one run only is told
// too.
func (c *comparison) addTime(t Time, was, is durations) {
	if t.OldCount, t.NewCount = was.count(), is.count(); t.OldCount+t.NewCount == 0 {
		return
	}
	if t.OldCount == 0 || t.NewCount == 0 {
		if t.What == promiseBroken {
			t.Old, t.New, t.P = was.median(), is.median(), 1
			c.Times = append(c.Times, t)
		}
		return
	}
	before, after := was.sample(), is.sample()
	result := benchmath.AssumeNothing.Compare(before, after)
	a, b := benchmath.AssumeNothing.Summary(before, 0.95).Center, benchmath.AssumeNothing.Summary(after, 0.95).Center
	t.Old, t.New, t.P = time.Duration(a), time.Duration(b), result.P
	t.Delta, t.Significant = result.FormatDelta(a, b), result.P <= result.Alpha
	c.Times = append(c.Times, t)
}

func (d durations) count() (n int) {
	for _, count := range d {
		n += int(count)
	}
	return n
}

// sample is what package benchmath takes.
func (d durations) sample() *benchmath.Sample {
	var values []float64
	for value, count := range d {
		for range count {
			values = append(values, float64(value))
		}
	}
	return benchmath.NewSample(values, &benchmath.Thresholds{CompareAlpha: alpha})
}

func (d durations) median() time.Duration {
	if len(d) == 0 {
		return 0
	}
	return time.Duration(benchmath.AssumeNothing.Summary(d.sample(), 0.95).Center)
}
