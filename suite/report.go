package suite

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/kmsg"
	"github.com/hotplugtest/hotplugtest/machine"
)

// describe says what a kernel developer wants to know of a broken promise.
func (f *Finding) describe(m *Machine) string {
	var b strings.Builder
	inv, place := f.subject.inv, f.subject.from
	from := ""
	if inv.Placed {
		from = ", from the " + place.Name
	}
	fmt.Fprintf(&b, "cpu%d, %s of %s%s: %s\n", f.CPU, moments[f.Moment], f.Outcome.Transition.Name, from, inv.Name)
	fmt.Fprintf(&b, "    promised: %s\n", inv.Promise)
	if inv.Placed && place.DropsOffline {
		b.WriteString("    there:    a CPU that goes offline is lost for good, by design\n")
	}
	fmt.Fprintf(&b, "    seen:     %s\n", strings.ReplaceAll(f.Err.Error(), "\n", "\n              "))
	switch {
	case f.Never:
		fmt.Fprintf(&b, "    lasted:   longer than %v, when it was last looked at\n", inv.looked())
	case f.lasting():
		fmt.Fprintf(&b, "    lasted:   %s\n", ms(f.Window))
	case f.Tries > 0:
		fmt.Fprintf(&b, "    lasted:   %s (kept at try %d)\n", ms(f.Window), f.Tries+1)
	}
	fmt.Fprintf(&b, "    source:   %s", inv.Source)
	suspect := inv.Suspect
	if !f.Never {
		suspect = cmp.Or(inv.SuspectLate, suspect)
	}
	if suspect != "" {
		fmt.Fprintf(&b, "\n    suspect:  is this missing, or undone? %s", suspect)
	}
	b.WriteString(knownText(inv.Known, m.Kernel))
	return b.String()
}

// attach makes the facts about the machine attributes of the test, which become
// properties of the JUnit test case.
func (m *Machine) attach(t *testing.T) {
	t.Helper()
	for _, a := range m.attributes {
		t.Attr(a[0], a[1])
	}
}

// attach makes what was measured attributes of the test: a summary for people,
// and the samples for programs, in nanoseconds.
func (r *result) attach(t *testing.T) {
	t.Helper()
	if r.probes == 0 {
		return
	}
	t.Attr("cpus", strings.Join(r.cpus, ","))
	t.Attr("probes", strconv.Itoa(r.probes))
	t.Attr("broken", strconv.Itoa(len(r.windows)))
	for _, d := range []struct {
		name   string
		values []time.Duration
	}{{"time-to-uevent", r.toUevent}, {"time-to-return", r.toReturn}, {"window", r.windows}} {
		if len(d.values) > 0 {
			t.Attr(d.name, spread(d.values))
			t.Attr(d.name+"-ns", samplesOf(d.values...).String())
		}
	}
	if r.shown != nil {
		t.Attr("cycle", r.shown.timeline().String())
	}
}

// attach makes the placement an attribute of the test.
func (at subject) attach(t *testing.T) {
	t.Helper()
	if at.inv.Placed {
		t.Attr("placement", at.from.Name)
		t.Attr("sees-stale-cpuset", at.from.detects)
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

// Milliseconds returns a duration as reports have it: "12.345 ms".
func Milliseconds(d time.Duration) string { return number(d) + " ms" }

func ms(d time.Duration) string { return Milliseconds(d) }

// number is a duration in milliseconds.
func number(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// oneLine makes a text of the kernel's fit for an attribute, which must not
// have a line feed.
func oneLine(text string) string {
	return strings.ReplaceAll(kmsg.Printable(strings.TrimSpace(text)), "\n", " ")
}

// describe notes what one wants to know of the kernel and the machine beside a
// result. logErr says why the kernel's log cannot be read.
func (m *Machine) describe(logErr error) {
	add := func(key, value string) {
		if value = oneLine(value); value != "" {
			m.attributes = append(m.attributes, [2]string{key, value})
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
	for _, b := range m.Boots {
		boots = append(boots, string(b))
	}
	add("boot", strings.Join(boots, " "))
	if possible, err := m.CPUs.Possible(); err == nil {
		add("cpus-possible", possible.String())
	}
	if online, err := m.CPUs.Online(); err == nil {
		add("cpus-online", online.String())
	}
	if control, _, err := m.CPUs.SMT(); err == nil {
		add("smt-control", control)
	}
	if m.Root.Group != nil {
		add("cpuset-root", m.Root.Group.Path())
	}
	if logErr != nil {
		add("warning", fmt.Sprintf("the kernel's log is not judged: %v", logErr))
	}
	for _, warning := range machine.Warnings("/") {
		add("warning", warning)
	}
}
