package suite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// The steps of a cycle count from the beginning of the write, whatever the
// moment was that the promise was looked at.
func TestTimeline(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	out := &Outcome{Began: at(0), Uevent: at(4), Returned: at(9)}
	for _, tt := range []struct {
		name string
		f    Finding
		want string
	}{
		{"kept at once", Finding{Outcome: out, Moment: AtReturn, Looked: 1e6}, "uevent 4ms, return 9ms, look 10ms"},
		{"kept before the return", Finding{Outcome: out, Moment: AtUevent, Looked: 1e6, Err: unix.EINVAL, Window: 4e6}, "uevent 4ms, look 5ms, kept 8ms, return 9ms"},
		{"kept after the return", Finding{Outcome: out, Moment: AtReturn, Looked: 1e6, Err: unix.EINVAL, Window: 25e6}, "uevent 4ms, return 9ms, look 10ms, kept 34ms"},
		{"never kept", Finding{Outcome: out, Moment: AtReturn, Looked: 1e6, Err: unix.EINVAL, Window: 1e9, Never: true}, "uevent 4ms, return 9ms, look 10ms, unkept 1.009s"},
		{"no uevent", Finding{Outcome: &Outcome{Began: at(0), Returned: at(9)}, Moment: AtUevent}, "return 9ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.f.timeline().String()
			assert.Equal(t, tt.want, text)
			back, err := ParseTimeline(text)
			assert.NoError(t, err)
			assert.Equal(t, tt.f.timeline(), back)
		})
	}
	for _, text := range []string{"", "uevent", " 4ms", "uevent 4ms,return 9ms", "uevent -4ms"} {
		_, err := ParseTimeline(text)
		assert.ErrorContains(t, err, "is not NAME DURATION", text)
	}
}

// Of several cycles, the one with the longest window is shown.
func TestShownCycle(t *testing.T) {
	r := &result{}
	for _, ms := range []int{0, 3, 7, 5} {
		f := Finding{Outcome: &Outcome{Operation: Operation{Transition: &Transition{}}}, Window: time.Duration(ms) * time.Millisecond}
		if ms > 0 {
			f.Err = unix.EINVAL
		}
		r.add(f)
	}
	assert.Equal(t, 7*time.Millisecond, r.shown.Window)
	whole := &result{}
	whole.merge(r)
	assert.Same(t, r.shown, whole.shown)
}
