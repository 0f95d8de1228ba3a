package suite

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Version is that of a kernel, as far as promises depend on it: major and
// minor, so that {6, 12} is v6.12. The zero Version is no version.
type Version [2]int

func (v Version) String() string { return fmt.Sprintf("v%d.%d", v[0], v[1]) }

// Since reports whether v is w or later.
func (v Version) Since(w Version) bool {
	return v[0] > w[0] || v[0] == w[0] && v[1] >= w[1]
}

// Span is a range of kernels.
type Span struct {
	// From is the first kernel. {}: there is no first one.
	From Version
	// Until is the first kernel after the last one. {}: there is no last one.
	Until Version
	// Why says what is special about these kernels.
	Why string
}

// Has reports whether v is in the span.
func (s Span) Has(v Version) bool {
	return v.Since(s.From) && (s.Until == Version{} || !v.Since(s.Until))
}

func (s Span) String() string {
	last := Version{s.Until[0], s.Until[1] - 1}
	switch {
	case s.From == Version{} && s.Until == Version{}:
		return "all kernels"
	case s.From == Version{}:
		return fmt.Sprintf("before %v", s.Until)
	case s.Until == Version{}:
		return fmt.Sprintf("since %v", s.From)
	case s.From == last:
		return s.From.String()
	case s.Until[1] == 0:
		return fmt.Sprintf("%v until %v", s.From, s.Until)
	default:
		return fmt.Sprintf("%v to %v", s.From, last)
	}
}

// promised is nil if a row is about kernel v: it is since or later, before
// until, and in no span of except. The error is an [*Unsupported].
func promised(v, since, until Version, except []Span) error {
	if !v.Since(since) {
		return Unsupportedf("this is promised since %v, and the kernel is %d.%d", since, v[0], v[1])
	}
	if until != (Version{}) && v.Since(until) {
		return Unsupportedf("this was promised until %v, and the kernel is %d.%d", until, v[0], v[1])
	}
	for _, span := range except {
		if span.Has(v) {
			return Unsupportedf("%s", span.Why)
		}
	}
	return nil
}

// RunningKernel returns the version of the running kernel, from uname(2).
func RunningKernel() (Version, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return Version{}, fmt.Errorf("uname: %w", err)
	}
	return parseRelease(unix.ByteSliceToString(uname.Release[:]))
}

// parseRelease returns {6, 1} for "6.1.0-50-amd64".
func parseRelease(release string) (v Version, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err != nil {
		return v, fmt.Errorf("uname: release %q: %w", release, err)
	}
	return v, nil
}
