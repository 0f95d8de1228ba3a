package suite

import (
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// verdict is what a test came to.
type verdict int

const (
	passed verdict = iota
	skipped
	broken // by a known defect
	failed
	unable // as the suite could not begin
)

// ended is a test that has ended.
type ended struct {
	test    string
	verdict verdict
	reason  string // why it was skipped, or could not begin
}

// verdicts are those of the suite's tests, in the order in which they ended. A
// test that only groups others is among them if it fails or is skipped by
// itself: if it passes, its subtests have tested all that it has. go test -v
// and gotestsum count groups too, so their numbers are higher.
type verdicts []ended

func (v verdicts) count(want verdict) (n int) {
	for _, e := range v {
		if e.verdict == want {
			n++
		}
	}
	return n
}

// nothing says why no test has passed or failed. It is "" if one has.
func (v verdicts) nothing() string {
	if v.count(skipped)+v.count(unable) < len(v) {
		return ""
	}
	if i := slices.IndexFunc(v, func(e ended) bool { return e.verdict == unable }); i >= 0 {
		return v[i].reason
	}
	if len(v) > 0 {
		first := v[0]
		if slices.ContainsFunc(v, func(e ended) bool { return e.reason != first.reason }) {
			return fmt.Sprintf("all %d tests were skipped, %s first: %s", len(v), first.test, first.reason)
		}
		return first.reason
	}
	pattern := flag.Lookup("test.run").Value.String()
	switch asked := counted.wasAsked(); {
	case asked && pattern != "":
		return fmt.Sprintf("no test of the suite matches -run %q", pattern)
	case asked:
		return "no test of the suite was left to run"
	// Nobody knows whether a test matches that has not come to the suite: it
	// may have skipped itself before.
	case pattern != "":
		return fmt.Sprintf("no test that matches -run %q has run the suite", pattern)
	}
	return "no test has run the suite"
}

// again is a pattern for -run that has the tests that have failed. If they are
// many, it has the groups that they are in. It is "" if none has failed.
func (v verdicts) again() string {
	const most = 8 // alternatives
	var patterns []string
	for depth := 9; depth > 0; depth-- {
		patterns = nil
		for _, e := range v {
			if e.verdict != failed {
				continue
			}
			levels := strings.Split(e.test, "/")
			for i, level := range levels {
				levels[i] = "^" + regexp.QuoteMeta(level) + "$"
			}
			pattern := strings.Join(levels[:min(depth, len(levels))], "/")
			if !slices.Contains(patterns, pattern) {
				patterns = append(patterns, pattern)
			}
		}
		if len(patterns) <= most {
			break
		}
	}
	return strings.Join(patterns, "|")
}

// summary is the last line of a run. bad says that the run has failed.
func (v verdicts) summary(bad bool) string {
	if why := v.nothing(); why != "" {
		return "hotplugtest: NOTHING WAS TESTED: " + oneLine(why)
	}
	var uname unix.Utsname
	_ = unix.Uname(&uname)
	text := fmt.Sprintf("hotplugtest: Linux %s: %d passed, %d skipped, %d failed",
		unix.ByteSliceToString(uname.Release[:]), v.count(passed), v.count(skipped), v.count(failed))
	if n := v.count(broken); n > 0 {
		text += fmt.Sprintf(", %d by known defects", n)
	}
	if n := v.count(unable); n > 0 {
		text += fmt.Sprintf(", %d that could not begin", n)
	}
	if bad && v.count(failed)+v.count(unable) == 0 {
		text += ", but the run failed: see above"
	}
	return text
}

// tally collects the verdicts in this process.
type tally struct {
	mu    sync.Mutex
	asked bool                  // the suite was to be run, whether it could or not
	open  map[testing.TB]string // the tests that have not ended; the reason of each, or ""
	ended verdicts
	stop  func() // stops the process at the first failure; nil: it does not
}

var counted tally

// stopAt has the process stop at the first failure, if it is asked to.
func (c *tally) stopAt(asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop = nil; asked {
		c.stop = func() {
			// A signal to the process may be taken by another thread, while
			// this one goes on for a moment.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
		}
	}
}

// ask notes that the suite is to be run.
func (c *tally) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
}

// wasAsked reports whether the suite was to be run.
func (c *tally) wasAsked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// test counts t when it ends. It must be called first in t: cleanups that can
// fail t must run before its own.
func (c *tally) test(t testing.TB) { c.watch(t, false) }

// group counts t when it ends if t is skipped, or fails without a subtest that
// fails.
func (c *tally) group(t testing.TB) { c.watch(t, true) }

func (c *tally) watch(t testing.TB, group bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[t]; ok {
		return
	}
	if c.open == nil {
		c.open = make(map[testing.TB]string)
	}
	c.open[t] = ""
	before := len(c.ended)
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		e := ended{test: t.Name(), reason: c.open[t]}
		delete(c.open, t)
		below := func(e ended) bool { return e.verdict == failed && strings.HasPrefix(e.test, t.Name()+"/") }
		switch {
		case t.Failed():
			e.verdict = failed
			if reason, ok := strings.CutPrefix(e.reason, unablePrefix); ok {
				e.verdict, e.reason = unable, reason
			}
			if c.stop != nil {
				c.stop()
				c.stop = nil
			}
			if group && slices.ContainsFunc(c.ended[before:], below) {
				return
			}
		case strings.HasPrefix(e.reason, testjson.KnownPrefix):
			e.verdict = broken
		case t.Skipped():
			e.verdict = skipped
		case group:
			return
		}
		c.ended = append(c.ended, e)
	})
}

// skip notes the reason of t, which is watched: why it is skipped.
func (c *tally) skip(t testing.TB, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[t]; ok {
		c.open[t] = reason
	}
}

// unablePrefix begins the reason of a test that fails as the suite could not
// begin.
const unablePrefix = "cannot begin: "

// unable notes that t, which is watched, fails as the suite could not begin.
func (c *tally) unable(t testing.TB, reason string) { c.skip(t, unablePrefix+reason) }

// known notes that t, which is watched, fails by the known defect of this ID.
func (c *tally) known(t testing.TB, id string) { c.skip(t, testjson.KnownPrefix+id) }

// since returns the verdicts after the first n.
func (c *tally) since(n int) verdicts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ended[n:])
}
