package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hotplugtest/hotplugtest/internal/stat"
	"github.com/hotplugtest/hotplugtest/suite"
)

// percent is a place on an axis, as SVG has it.
type percent float64

func (p percent) String() string { return fmt.Sprintf("%.1f%%", float64(p)) }

// The ends of the logarithmic axis.
const (
	shortest = 10 * time.Microsecond
	longest  = 100 * time.Second
)

// onLog is the place of a duration on the logarithmic axis.
func onLog(d time.Duration) percent {
	d = min(max(d, shortest), longest)
	return percent(100 * math.Log(float64(d)/float64(shortest)) / math.Log(float64(longest)/float64(shortest)))
}

// tick is a mark on an axis.
type tick struct {
	At    percent
	Label string
}

// ticks are those of the logarithmic axis.
func ticks() (list []tick) {
	for _, t := range []struct {
		d     time.Duration
		label string
	}{
		{100 * time.Microsecond, "0.1 ms"}, {time.Millisecond, "1 ms"}, {10 * time.Millisecond, "10 ms"},
		{100 * time.Millisecond, "0.1 s"}, {time.Second, "1 s"}, {10 * time.Second, "10 s"},
	} {
		list = append(list, tick{onLog(t.d), t.label})
	}
	return list
}

// band is where the windows of 2021 were.
type band struct{ From, Width percent }

func band2021() band {
	from, until := onLog(5*time.Millisecond), onLog(30*time.Millisecond)
	return band{from, until - from}
}

// windows is a line of the plot of broken promises: those of one test.
type windows struct {
	Column, Test, Class string
	Link                int
	Dots                []percent
	Median              percent
	Text                string
	longest             time.Duration
}

// mostWindows is how many lines and mostDots how many dots in each the plot
// has. The rest is said by numbers.
const (
	mostWindows = 40
	mostDots    = 100
)

// windows are the lines of the plot, the longest first, and how many more there
// are.
func (r *Report) windows() (list []windows, more int) {
	for _, c := range r.columns {
		for _, t := range c.order {
			if t.counts() && t.Verdict >= broken && len(t.window) > 0 {
				list = append(list, t.windows())
			}
		}
	}
	slices.SortStableFunc(list, func(a, b windows) int { return cmp.Compare(b.longest, a.longest) })
	if more = len(list) - mostWindows; more > 0 {
		return list[:mostWindows], more
	}
	return list, 0
}

func (t *test) windows() windows {
	w := windows{Column: t.column.Name, Test: t.Name, Class: classes[t.Verdict], Link: t.number, longest: t.Longest()}
	var count uint64
	for _, s := range t.window {
		count += s.Count
		if len(w.Dots) < mostDots-1 {
			w.Dots = append(w.Dots, onLog(s.Value))
		}
	}
	if len(t.window) >= mostDots {
		w.Dots = append(w.Dots, onLog(w.longest))
	}
	median := middle(t.window, count)
	w.Median = onLog(median)
	w.Text = milliseconds(w.longest) + " ms"
	if count > 1 {
		w.Text = fmt.Sprintf("median %s, longest %s ms", milliseconds(median), w.Text[:len(w.Text)-3])
	}
	if t.Probes != "" {
		w.Text += fmt.Sprintf("; %d of %s probes", count, t.Probes)
	}
	return w
}

// middle is the median of count samples in their order.
func middle(sorted suite.Samples, count uint64) time.Duration {
	var below uint64
	for i, s := range sorted {
		switch below += s.Count; {
		case 2*below > count:
			return s.Value
		case 2*below == count:
			return stat.Between(s.Value, sorted[i+1].Value)
		}
	}
	return 0
}

// operations are the lines of the plot of a transition: one for each kernel.
type operations struct {
	Name  string
	Open  bool // it is one of the two that matter most
	Lines []line
}

// line is what a transition took on a kernel.
type line struct {
	Column           string
	From, To, Middle percent
	Width            percent
	Uevent           percent // the median. Below 0: there was none
	Text             string
}

func (r *Report) operations() (list []*operations) {
	named := make(map[string]*operations)
	for _, c := range r.columns {
		for _, name := range c.did {
			of := c.times[name]
			if len(of.toReturn) == 0 {
				continue
			}
			o := named[name]
			if o == nil {
				o = &operations{Name: name, Open: name == "TestOnline" || name == "TestOffline"}
				named[name], list = o, append(list, o)
			}
			o.Lines = append(o.Lines, of.line(c.Name))
		}
	}
	return list
}

func (o *operation) line(column string) line {
	q := stat.Quantiles(values(o.toReturn), 0, 50, 100)
	l := line{Column: column, From: onLog(q[0]), Middle: onLog(q[1]), To: onLog(q[2]), Uevent: -1}
	l.Width = l.To - l.From
	l.Text = fmt.Sprintf("write %s, %s to %s ms", milliseconds(q[1]), milliseconds(q[0]), milliseconds(q[2]))
	if uevents := values(o.toUevent); len(uevents) > 0 {
		m := stat.Median(uevents)
		l.Uevent = onLog(m)
		l.Text += fmt.Sprintf("; uevent %s ms", milliseconds(m))
	}
	return l
}

// values are the durations of a histogram. Of one that many probes share, a
// part is enough.
func values(of map[time.Duration]uint64) (list []time.Duration) {
	const enough = 1000
	for d, n := range of {
		for range min(n, enough) {
			list = append(list, d)
		}
	}
	return list
}

// cycle is the time line of one operation.
type cycle struct {
	Column, Test       string
	Link               int
	Class              string
	Write              percent // when it returned
	Uevent, Look       percent // below 0: not known
	Broken             bool
	From, Until, Width percent // of the time during which the promise was broken
	Ticks              []tick
	WriteText          string
	UeventText         string
	PromiseText        string
}

// cycles are a time line for each kernel: of the longest window, or of an
// operation after which all was right.
func (r *Report) cycles() (list []cycle) {
	for _, c := range r.columns {
		var shown *test
		for _, t := range c.order {
			switch {
			case t.cycle == nil || !t.counts():
			case shown == nil, t.Verdict >= broken && t.Longest() > shown.Longest():
				shown = t
			}
		}
		if shown != nil {
			list = append(list, shown.draw())
		}
	}
	return list
}

// draw draws the time line of the test's cycle. The axis begins with the write.
func (t *test) draw() cycle {
	c := cycle{Column: t.column.Name, Test: t.Name, Link: t.number, Class: classes[t.Verdict], Uevent: -1, Look: -1}
	at := make(map[string]time.Duration)
	var end time.Duration
	for _, step := range t.cycle {
		at[step.Name] = step.At
		end = max(end, step.At)
	}
	end += end / 20
	place := func(d time.Duration) percent { return percent(100 * float64(d) / float64(max(end, 1))) }
	c.Write = place(at["return"])
	c.WriteText = "returns after " + milliseconds(at["return"]) + " ms"
	moment := at["return"]
	if d, ok := at["uevent"]; ok {
		c.Uevent = place(d)
		c.UeventText = "after " + milliseconds(d) + " ms"
		if strings.Contains(t.Name, "/at-uevent") {
			moment = d
		}
	}
	if d, ok := at["look"]; ok {
		c.Look = place(d)
		c.PromiseText = "looked at after " + milliseconds(d) + " ms: kept"
	}
	for _, name := range []string{"kept", "unkept"} {
		if d, ok := at[name]; ok {
			c.Broken, c.From, c.Until = true, place(moment), place(d)
			c.Width = max(c.Until-c.From, 0.3)
			c.PromiseText = fmt.Sprintf("broken, kept %s ms later", milliseconds(d-moment))
			if name == "unkept" {
				c.PromiseText = fmt.Sprintf("broken, and not kept %s ms later", milliseconds(d-moment))
			}
		}
	}
	step := scale(end)
	for d := time.Duration(0); d < end; d += step {
		c.Ticks = append(c.Ticks, tick{place(d), d.String()})
	}
	return c
}

// scale is the distance of marks on an axis of this length.
func scale(length time.Duration) time.Duration {
	for unit := time.Microsecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if length <= 6*n*unit {
				return n * unit
			}
		}
	}
}
