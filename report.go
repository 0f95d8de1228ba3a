package hotplugtest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// result is what the probes of one case saw.
type result struct {
	probes             int
	cpus               []string
	toUevent, toReturn []time.Duration
	windows            []time.Duration // of broken promises
	broken             []*Probe
	missed             []*Cycle // whose moment never came
	failed             []*Cycle // whose operation did not do what it should
	state              string   // the machine after them, if it is not to be asked when they are reported
}

func (r *result) add(p *Probe) {
	r.probes++
	if cpu := strconv.Itoa(p.CPU); !slices.Contains(r.cpus, cpu) {
		r.cpus = append(r.cpus, cpu)
	}
	c := p.cycle
	r.toReturn = append(r.toReturn, c.toReturn)
	if c.toUevent > 0 {
		r.toUevent = append(r.toUevent, c.toUevent)
	}
	if c.Transition.judge(c.err) != nil && !slices.Contains(r.failed, c) {
		r.failed = append(r.failed, c)
	}
	if c.missed && !slices.Contains(r.missed, c) {
		r.missed = append(r.missed, c)
	}
	if p.checkErr != nil {
		r.broken = append(r.broken, p)
		r.windows = append(r.windows, p.window)
	}
}

// once is a cycle that was made for many probes, counted once.
func (c *Cycle) once(probes []*Probe) *result {
	r := &result{toReturn: []time.Duration{c.toReturn}}
	if c.toUevent > 0 {
		r.toUevent = []time.Duration{c.toUevent}
	}
	for _, p := range probes {
		if p.checkErr != nil {
			r.windows = append(r.windows, p.window)
		}
	}
	return r
}

// merge adds what the probes of another case saw.
func (r *result) merge(o *result) {
	r.probes += o.probes
	for _, cpu := range o.cpus {
		if !slices.Contains(r.cpus, cpu) {
			r.cpus = append(r.cpus, cpu)
		}
	}
	r.toUevent, r.toReturn = append(r.toUevent, o.toUevent...), append(r.toReturn, o.toReturn...)
	r.windows = append(r.windows, o.windows...)
}

// operationFailed tells how an operation that was made for all invariants failed, or "".
func operationFailed(all map[slot]*result) string {
	for _, r := range all {
		if len(r.failed) > 0 {
			return r.failed[0].failure()
		}
	}
	return ""
}

// failure tells what is wrong with the outcome of the operation.
func (c *Cycle) failure() string {
	return fmt.Sprintf("%s of cpu%d: %v", c.Transition.Name, c.CPU, c.Transition.judge(c.err))
}

// report fails the test for what was broken.
func (r *result) report(t *testing.T, s *Suite) {
	t.Helper()
	for _, c := range r.failed {
		t.Error(c.failure())
	}
	for _, c := range r.missed {
		t.Errorf("%s of cpu%d: no %s uevent was sent by the time the operation had returned, so that nothing could be looked at then (device_online(), device_offline(), kobject_uevent_env())",
			c.Transition.Name, c.CPU, c.Transition.Uevent)
	}
	if len(r.broken) == 0 {
		return
	}
	t.Error(r.broken[0].describe())
	if r.probes > 1 {
		t.Logf("broken in %d of %d probes; until it was kept: %s", len(r.broken), r.probes, spread(r.windows))
	}
	if r.state == "" {
		r.state = s.state(r.broken[0])
	}
	t.Log(r.state)
}

// describe says what a kernel developer wants to know of a broken promise.
func (p *Probe) describe() string {
	var b strings.Builder
	from := ""
	if p.Invariant.Placed {
		from = ", from the " + p.placement.name
	}
	fmt.Fprintf(&b, "cpu%d, %s of %s%s: %s\n", p.CPU, moments[p.cycle.Moment], p.cycle.Transition.Name, from, p.Invariant.Name)
	fmt.Fprintf(&b, "    promised: %s\n", p.Invariant.Promise)
	if p.Invariant.Placed && p.placement.losing {
		b.WriteString("    there:    a CPU that goes offline is lost for good, by design\n")
	}
	fmt.Fprintf(&b, "    seen:     %v\n", p.checkErr)
	switch {
	case p.never:
		fmt.Fprintf(&b, "    lasted:   longer than %v, when it was last looked at\n", lookLimit)
	case p.tries > 0:
		fmt.Fprintf(&b, "    lasted:   %s (kept at try %d)\n", ms(p.window), p.tries+1)
	}
	fmt.Fprintf(&b, "    source:   %s\n", p.Invariant.Source)
	if p.Invariant.Suspect != "" {
		fmt.Fprintf(&b, "    suspect:  is this missing, or undone? %s\n", p.Invariant.Suspect)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// state says how the machine is now, for the report of a failure.
func (s *Suite) state(p *Probe) string {
	var b strings.Builder
	b.WriteString("the machine after that:")
	say := func(name string, value any, err error) {
		if err != nil {
			value = err
		}
		fmt.Fprintf(&b, "\n    %-32s %v", name, value)
	}
	online, err := s.cpus.Online()
	say("online", online, err)
	state, target, err := s.cpus.State(p.CPU)
	say(fmt.Sprintf("cpu%d hotplug state, target", p.CPU), fmt.Sprintf("%d, %d", state, target), err)
	for _, place := range s.places {
		if place.cpuset != nil {
			cpus, err := place.cpuset.Effective()
			say(place.name+" effective", cpus, err)
		}
	}
	return b.String()
}

// attach makes the measured values and the facts about the machine attributes of the test, which become properties of
// the JUnit test case.
func (r *result) attach(t *testing.T, s *Suite, at slot) {
	t.Helper()
	for _, f := range s.facts {
		t.Attr(f[0], f[1])
	}
	if r.probes == 0 {
		return
	}
	t.Attr("cpus", strings.Join(r.cpus, ","))
	t.Attr("probes", strconv.Itoa(r.probes))
	if at.inv.Placed {
		t.Attr("placement", at.place.name)
		t.Attr("sees-stale-cpuset", at.place.detects)
	}
	if len(r.toUevent) > 0 {
		t.Attr("time-to-uevent", spread(r.toUevent))
	}
	t.Attr("time-to-return", spread(r.toReturn))
	if len(r.windows) > 0 {
		t.Attr("window", spread(r.windows))
	}
}

// spread is a distribution in words.
func spread(d []time.Duration) string {
	if len(d) == 1 {
		return ms(d[0])
	}
	q := quantiles(d)
	return fmt.Sprintf("min %s, median %s, p99 %s, max %s", ms(q[0]), ms(q[1]), ms(q[2]), ms(q[3]))
}

func ms(d time.Duration) string { return number(d) + " ms" }

// number is a duration in milliseconds.
func number(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// printable makes a text of the kernel's fit for a test's output: a ^V (0x16) in it would make test2json take what follows
// for a test's result.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// oneLine makes a text of the kernel's fit for an attribute, which no line feed is allowed in.
func oneLine(text string) string {
	return strings.ReplaceAll(printable(strings.TrimSpace(text)), "\n", " ")
}

// facts are what one wants to know of the kernel and the machine beside a result.
func facts(s *Suite) [][2]string {
	var list [][2]string
	add := func(key, value string) {
		if value = oneLine(value); value != "" {
			list = append(list, [2]string{key, value})
		}
	}
	var uname unix.Utsname
	if unix.Uname(&uname) == nil {
		add("kernel", unix.ByteSliceToString(uname.Release[:]))
		add("kernel-version", unix.ByteSliceToString(uname.Version[:]))
		add("arch", unix.ByteSliceToString(uname.Machine[:]))
	}
	for _, f := range []struct{ key, path string }{
		{"cmdline", "/proc/cmdline"},
		{"kernel-tainted", "/proc/sys/kernel/tainted"},
		{"isolated", "/sys/devices/system/cpu/isolated"},
	} {
		if data, err := os.ReadFile(f.path); err == nil {
			add(f.key, string(data))
		}
	}
	var boots []string
	for _, b := range s.boots {
		boots = append(boots, string(b))
	}
	add("boot", strings.Join(boots, " "))
	if possible, err := s.cpus.Possible(); err == nil {
		add("cpus-possible", possible.String())
	}
	if online, err := s.cpus.Online(); err == nil {
		add("cpus-online", online.String())
	}
	if control, _, err := s.cpus.SMT(); err == nil {
		add("smt-control", control)
	}
	if s.places[0].cpuset != nil {
		add("cpuset-root", s.places[0].cpuset.Path())
	}
	return list
}
