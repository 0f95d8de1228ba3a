package suite

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Step is an event of a cycle.
type Step struct {
	Name string        // see [Timeline]
	At   time.Duration // since the beginning of the write
}

// Timeline is one cycle of a case, as the attribute "cycle" of a test has it,
// in the order of time. The names of the steps are:
//
//	uevent  it was received
//	return  the write returned
//	look    the first check was over
//	kept    the promise was kept, after a first check that had failed
//	unkept  the promise was still broken when it was last looked at
//
// A step that the cycle did not have, or that is not known, is left out.
type Timeline []Step

// timeline returns that of a finding's cycle.
func (f *Finding) timeline() Timeline {
	out := f.Outcome
	moment := out.toReturn()
	steps := Timeline{{"return", out.toReturn()}}
	if d := out.toUevent(); d > 0 {
		steps = append(steps, Step{"uevent", d})
		if f.Moment == AtUevent {
			moment = d
		}
	}
	if f.Looked > 0 {
		steps = append(steps, Step{"look", moment + f.Looked})
	}
	switch {
	case f.Err == nil:
	case f.Never:
		steps = append(steps, Step{"unkept", moment + f.Window})
	default:
		steps = append(steps, Step{"kept", moment + f.Window})
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}

// String returns the steps in words: "uevent 3.82ms, look 3.9ms, kept 25.71ms,
// return 41.2ms".
func (t Timeline) String() string {
	var words []string
	for _, step := range t {
		words = append(words, step.Name+" "+step.At.Round(time.Microsecond).String())
	}
	return strings.Join(words, ", ")
}

// ParseTimeline is the reverse of [Timeline.String].
func ParseTimeline(text string) (Timeline, error) {
	var t Timeline
	for part := range strings.SplitSeq(text, ", ") {
		name, at, _ := strings.Cut(part, " ")
		d, err := time.ParseDuration(at)
		if err != nil || name == "" || d < 0 {
			return nil, fmt.Errorf("timeline: %q is not NAME DURATION", part)
		}
		t = append(t, Step{name, d})
	}
	return t, nil
}
