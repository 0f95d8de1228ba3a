package known

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entry is an [Entry] that is ready to be compared with failures.
type entry struct {
	Entry
	test, symptom, beside *regexp.Regexp // beside is nil if there must be nothing
	ranges                []span
	expired               bool
}

// span is a range of releases: from is the first, until the first after the
// last. nil: no bound.
type span struct{ from, until release }

// release is that of a kernel: 6.12.117 is {6, 12, 117}.
type release []int

var (
	goodID      = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	goodRelease = regexp.MustCompile(`^\d+(\.\d+){1,2}$`)
)

// architectures are the GOARCH of those that have CPU hotplug.
var architectures = []string{"amd64", "arm64", "loong64", "ppc64le", "riscv64", "s390x"}

// Texts that tests of any kind report, and a name that no test has: an
// expression that matches one of them says nothing of a defect.
var (
	anyText = []string{
		"cpu9, at the return of the write of Nothing, from the root-cpuset: no-row",
		"Nothing of cpu9: the operation failed",
		"the kernel's log has a complaint (warning):\n[    1.000000] ------------[ cut here ]------------\n[    1.000001] WARNING: CPU: 9 PID: 9 at kernel/none.c:9 none+0x9/0x9",
		"the VM ended while the program ran",
		"the kernel panicked while the program ran (Linux 9.9.9)",
		"[    1.000000] Kernel panic - not syncing: Fatal exception",
		"[    1.000000] BUG: unable to handle page fault for address: 9999999999999999",
	}
	noTest = "TestNoSuchTransition/at-return/no-such-row/child-cpuset"
)

// compile checks an entry. The faults are in the order of the fields.
func (l *Loader) compile(file string, e Entry) (c *entry, faults []error) {
	c = &entry{Entry: e}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	first, twice := l.sources[e.ID]
	switch {
	case e.ID == "":
		fault("it has no id")
	case !goodID.MatchString(e.ID):
		fault("id: it must be lower-case letters, digits and hyphens")
	case twice:
		fault("id: %s has an entry of this id already", first)
	default:
		if l.sources == nil {
			l.sources = make(map[string]string)
		}
		l.sources[e.ID] = file
	}
	var err error
	if c.test, err = expression("^(?:", e.Test, ")$", noTest); err != nil {
		fault("test: %w", err)
	}
	if c.ranges, err = spans(e.Kernels); err != nil {
		fault("kernels: %w", err)
	} else if len(e.Kernels) == 0 && e.Suite == "" {
		fault("kernels: give ranges of kernels, or a suite")
	}
	if e.Arch != "" && !slices.Contains(architectures, e.Arch) {
		fault("arch: %q is none of %s", e.Arch, strings.Join(architectures, ", "))
	}
	for _, p := range e.Profiles {
		if l.Profiles != nil && !slices.Contains(l.Profiles, p) {
			fault("profiles: %q is none of %s", p, strings.Join(l.Profiles, ", "))
		}
	}
	if c.symptom, err = expression("", e.Symptom, "", anyText...); err != nil {
		fault("symptom: %w", err)
	}
	if e.Beside != "" {
		if c.beside, err = expression("", e.Beside, "", anyText...); err != nil {
			fault("beside: %w", err)
		}
	}
	if e.Most < 0 {
		fault("most: %d is less than one test", e.Most)
	}
	if strings.TrimSpace(e.Why) == "" {
		fault("why: say what the defect is")
	}
	switch day, err := time.Parse(time.DateOnly, e.Review); {
	case e.Review == "":
		fault("review: give the last day on which this may be taken as known, as in 2027-06-01")
	case err != nil:
		fault("review: %q is no date such as 2027-06-01", e.Review)
	default:
		c.expired = !l.Today.Before(day.AddDate(0, 0, 1))
	}
	return c, faults
}

// expression compiles a regular expression that must match none of the texts,
// which are any test's.
func expression(begin, text, end string, none ...string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, errors.New("it is missing")
	}
	if _, err := regexp.Compile(text); err != nil {
		return nil, err
	}
	// It can be valid only by itself: \Qx takes up what comes after it.
	re, err := regexp.Compile(begin + text + end)
	if err != nil {
		return nil, err
	}
	for _, any := range append(none, "") {
		if re.MatchString(any) {
			return nil, fmt.Errorf("%q is too broad: it matches %q too", text, any)
		}
	}
	return re, nil
}

// spans reads ranges.
func spans(ranges []Range) (list []span, err error) {
	for _, r := range ranges {
		var s span
		if r.From == "" && r.Until == "" {
			return nil, errors.New("a range has neither from nor until")
		}
		if s.from, err = bound(r.From); err != nil {
			return nil, fmt.Errorf("from: %w", err)
		}
		if s.until, err = bound(r.Until); err != nil {
			return nil, fmt.Errorf("until: %w", err)
		}
		if s.from != nil && s.until != nil && slices.Compare(s.from, s.until) >= 0 {
			return nil, fmt.Errorf("from %s until %s has no kernel in it", r.From, r.Until)
		}
		list = append(list, s)
	}
	return list, nil
}

func bound(text string) (release, error) {
	if text == "" {
		return nil, nil
	}
	if !goodRelease.MatchString(text) {
		return nil, fmt.Errorf("%q is no release such as 6.12 or 6.12.30", text)
	}
	return releaseOf(text), nil
}

// releaseOf reads the numbers that a release begins with: 6.12.117 of
// 6.12.117+deb13-amd64.
func releaseOf(text string) (r release) {
	for part := range strings.SplitSeq(text, ".") {
		digits := part
		if end := strings.IndexFunc(part, func(c rune) bool { return c < '0' || c > '9' }); end >= 0 {
			digits = part[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return r
		}
		if r = append(r, n); len(digits) < len(part) {
			return r
		}
	}
	return r
}

// has reports whether the release is in the range.
func (s span) has(r release) bool {
	return r != nil && slices.Compare(s.from, r) <= 0 && (s.until == nil || slices.Compare(r, s.until) < 0)
}
