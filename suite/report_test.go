package suite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"BOOT_IMAGE=/vmlinuz quiet\n": "BOOT_IMAGE=/vmlinuz quiet",
		"a\nb\t\x16--- PASS: TestA":   "a b\t\uFFFD--- PASS: TestA",
		"\xff\x00ü":                   "\uFFFD\uFFFDü",
	} {
		assert.Equal(t, want, oneLine(text))
	}
}

func TestSpread(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Millisecond)
	}
	assert.Equal(t, "min 1.000 ms, median 100.500 ms, p99 198.000 ms, max 200.000 ms", spread(d))
	assert.Equal(t, "min 1.000 ms, median 1.500 ms, p99 2.000 ms, max 2.000 ms", spread(d[198:]))
	assert.Equal(t, "1.500 ms", spread([]time.Duration{1500 * time.Microsecond}))
}

func TestTimes(t *testing.T) {
	s := &Runner{}
	assert.Empty(t, s.Times())
	s.times.add("Online", &result{toReturn: []time.Duration{4e6, 2e6}, toUevent: []time.Duration{1500e3}})
	s.times.add("Suspend/mem-core", &result{toReturn: []time.Duration{1e9}})
	s.times.add("Online", &result{toReturn: []time.Duration{12e6}, windows: []time.Duration{59741e3, 58008e3}})
	assert.Equal(t, strings.Join([]string{
		"times: transition                        count  min       median    p99       max, in ms",
		"times: Online            write           3      2.000     4.000     12.000    12.000",
		"times: Online            to the uevent   1      1.500     1.500     1.500     1.500",
		"times: Online            promise broken  2      58.008    58.874    59.741    59.741",
		"times: Suspend/mem-core  write           1      1000.000  1000.000  1000.000  1000.000",
		"",
	}, "\n"), s.Times())
}

func TestDescribe(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	known := []Defect{
		{Kernels: []Span{{From: Version{6, 12}, Until: Version{6, 13}}}, Symptom: "it is so", Since: "v6.11", Link: "a link"},
		{Kernels: []Span{{From: Version{6, 1}, Until: Version{6, 2}}}, Symptom: "another kernel's"},
	}
	tr := &Transition{Name: "Online", Known: []Defect{{Kernels: []Span{{}}, Symptom: "the operation's"}}}
	inv := &Invariant{Name: "row", Promise: "it holds", Source: "a document", Suspect: "a commit", Placed: true, Known: known}
	f := &Finding{
		subject: subject{inv, &Placement{Name: "child-cpuset"}}, CPU: 3, Moment: AtUevent,
		Outcome: &Outcome{Operation: Operation{m, tr, 3, ""}}, Err: unix.EINVAL, Window: 10300 * time.Microsecond, Tries: 41,
	}
	assert.Equal(t, strings.Join([]string{
		"cpu3, at the uevent of Online, from the child-cpuset: row",
		"    promised: it holds",
		"    seen:     invalid argument",
		"    lasted:   10.300 ms (kept at try 42)",
		"    source:   a document",
		"    suspect:  is this missing, or undone? a commit",
		"    known:    v6.12: it is so; since v6.11; a link",
	}, "\n"), f.describe(m))
	inv.SuspectLate = "a commit that waits"
	assert.Contains(t, f.describe(m), "suspect:  is this missing, or undone? a commit that waits\n")
	f.Never = true
	assert.Contains(t, f.describe(m), "lasted:   longer than 1s")
	assert.Contains(t, f.describe(m), "suspect:  is this missing, or undone? a commit\n", "what waits is not to blame")
	f.subject.from.DropsOffline = true
	assert.Contains(t, f.describe(m), "there:    a CPU that goes offline is lost for good, by design")
}

// A promise that was never kept has no window.
func TestCount(t *testing.T) {
	r := &result{probes: 4}
	add := func(window time.Duration, never bool) {
		r.broken = append(r.broken, Finding{Window: window, Never: never})
	}
	add(PollTimeout, true)
	assert.Equal(t, "broken in 1 of 4 probes; not kept while it was looked at: 1", r.count())
	add(2*time.Millisecond, false)
	assert.Equal(t, "broken in 2 of 4 probes; until it was kept: 2.000 ms; not kept while it was looked at: 1", r.count())
}

// An operation that does not do what it must is reported with its source.
func TestFailure(t *testing.T) {
	m, _ := scriptedMachine(t, "cpus 0-3")
	tr := &Transition{
		Name: "Offline", Source: "a document", Uevent: "offline", Known: []Defect{{Kernels: []Span{{}}, Symptom: "it is busy"}},
	}
	out := &Outcome{Operation: Operation{m, tr, 3, ""}, Err: unix.EBUSY}
	assert.Equal(t, "Offline of cpu3: the operation failed: device or resource busy\n    source:   a document\n    known:    all kernels: it is busy",
		out.failure())
	assert.Contains(t, out.missing(), "Offline of cpu3: no offline uevent was sent by the time the operation had returned")
	out.Err = nil
	assert.Empty(t, out.failure())
}

func TestScenarioDescribe(t *testing.T) {
	sc := &Scenario{Name: "row", Promise: "it holds", Source: "a document"}
	assert.Equal(t, "row\n    promised: it holds\n    seen:     one\n              two\n    source:   a document", sc.describe(errors.New("one\ntwo"), Version{6, 12}))
}
