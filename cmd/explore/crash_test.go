package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/vm"
)

// A boot is what becomes of one VM of a test.
type boot struct {
	said   string        // by its guest
	silent time.Duration // it is after that, if [hunt.last] boots it
	code   int
	err    error
}

// play has the hunt take these for its VMs, one after the other.
func (h *hunt) play(t *testing.T, boots ...boot) {
	n := 0
	h.runVM = func(_ context.Context, _ vm.Options, _ []string, out, _ io.Writer) (int, error) {
		require.Less(t, n, len(boots), "one more VM is booted")
		b := boots[n]
		n++
		_, err := io.WriteString(out, b.said)
		require.NoError(t, err)
		return b.code, b.err
	}
	t.Cleanup(func() { assert.Equal(t, len(boots), n, "VMs were booted") })
}

const (
	replayed = `{"Begin":{"Why":"replay","Lines":["mkdir $A","rmdir $A"]}}` + "\n" + `{"Step":0}` + "\n"
	survived = replayed + `{"Tried":{"Steps":["mkdir $A","rmdir $A"],"Results":["",""]}}` + "\n"
)

func crashIn(function string) *vm.Failure {
	return &vm.Failure{What: "the kernel panicked (Linux 7.3.1)", Console: "RIP: 0010:" + function + "+0x1/0x2", Started: true}
}

// A crash that may be the emulator's doing is a finding only if the sequence
// shows it in another machine. What a machine shows that does not come so far,
// or crashes in another way, is no word on it.
func TestDoubt(t *testing.T) {
	const inF, inG = "survives: crash in f", "survives: crash in g"
	doubted := crashIn("g")
	doubted.Doubt = "this may be QEMU's doing"
	not, same, other := boot{said: survived}, boot{said: replayed, err: crashIn("f")}, boot{said: replayed, err: crashIn("g")}
	early := boot{err: &vm.Failure{What: "the VM did not start a program within 2m0s"}}
	trouble := boot{said: replayed + `{"Trouble":"sequence 0: EIO"}` + "\n", code: 1}
	spoiled := boot{said: survived + `{"Trouble":"sequence 0: spoiled"}` + "\n", code: 1}
	for _, tt := range []struct {
		name  string
		boots []boot
		want  string // the findings, and how often each showed
		err   string
	}{
		{name: "never again", boots: []boot{not, not, not}},
		{name: "spoiled", boots: []boot{spoiled, spoiled, spoiled}},
		{name: "at once", boots: []boot{same}, want: inF + " 2 of 2"},
		{name: "at the third try", boots: []boot{not, not, same}, want: inF + " 2 of 4"},
		{name: "no VM boots", boots: []boot{early, early, early}, err: "survives: crash in f may be a finding or not: the VM did not start a program within 2m0s"},
		{name: "no verdict", boots: []boot{trouble, early, trouble}, err: "survives: crash in f may be a finding or not: sequence 0: EIO"},
		{name: "one boots", boots: []boot{early, not, early}},
		{name: "the third boots", boots: []boot{early, early, same}, want: inF + " 2 of 2"},
		{name: "another crash", boots: []boot{other, not, not}, want: inG + " 1 of 1"},
		{name: "another crash twice", boots: []boot{other, other, same}, want: inG + " 1 of 1, " + inF + " 2 of 4"},
		{name: "another crash, doubted", boots: []boot{{said: replayed, err: doubted}, not, not}},
		{name: "another crash, known", boots: []boot{{said: replayed, err: crashIn("inactive_task_timer")}, not, not}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHunt(t.TempDir())
			h.play(t, tt.boots...)
			s := &session{hunt: h, step: 0, begin: explore.Begin{Number: 3, Lines: []string{"mkdir $A", "rmdir $A"}}}
			failure := crashIn("f")
			failure.Doubt = "this may be QEMU's doing"
			err := h.crashed(t.Context(), s, failure)
			if tt.err == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, tt.err)
			}
			var all []string
			for _, f := range h.all.list {
				all = append(all, fmt.Sprintf("%s %s", f.Violation.Key(), f.Rate()))
				assert.Equal(t, []string{"mkdir $A"}, f.Steps)
				assert.Equal(t, uint64(3), f.Number)
			}
			assert.Equal(t, tt.want, strings.Join(all, ", "))
		})
	}
}

// A sequence that is given and crashes the kernel is reduced if that is wanted.
func TestReplayedCrash(t *testing.T) {
	same := boot{said: replayed, err: crashIn("f")}
	for want, boots := range map[string][]boot{"1 of 1": {same}, "3 of 3": {same, same, same}} {
		h := newHunt(t.TempDir())
		h.options.sequences, h.options.reduce = "mkdir $A\nrmdir $A\n", want == "3 of 3"
		h.play(t, boots...)
		require.NoError(t, h.replay(t.Context()))
		require.Len(t, h.all.list, 1)
		assert.Equal(t, want, h.all.list[0].Rate())
		assert.Equal(t, []string{"mkdir $A"}, h.all.list[0].Steps)
	}
}

// A sequence that is given has a verdict only if a VM came to it: git bisect run
// would take a kernel that does not boot for a broken one.
func TestReplayedWithoutVerdict(t *testing.T) {
	doubted := crashIn("f")
	doubted.Doubt = "this may be QEMU's doing"
	doubt, not, same := boot{said: replayed, err: doubted}, boot{said: survived}, boot{said: replayed, err: crashIn("f")}
	early := boot{err: &vm.Failure{What: "the VM did not start a program within 2m0s"}}
	ended := boot{said: replayed, err: &vm.Failure{What: "the VM was ended: interrupted", Started: true}}
	for _, tt := range []struct {
		name      string
		boots     []boot
		interrupt bool
		want      string // how often the finding showed; "": there is none
		err       string
	}{
		{name: "it does not boot", boots: []boot{early}, err: "the VM did not start a program within 2m0s"},
		{name: "it is interrupted", boots: []boot{ended}, interrupt: true, err: "the VM was ended: interrupted"},
		{name: "QEMU's doing", boots: []boot{doubt, not, not, not}},
		{name: "the kernel's doing", boots: []boot{doubt, not, same}, want: "2 of 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHunt(t.TempDir())
			h.options.sequences = "mkdir $A\nrmdir $A\n"
			h.play(t, tt.boots...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.interrupt {
				cancel()
			}
			err := h.replay(ctx)
			if tt.err == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, tt.err)
			}
			var rates []string
			for _, f := range h.all.list {
				rates = append(rates, f.Rate())
			}
			assert.Equal(t, tt.want, strings.Join(rates, ", "))
		})
	}
}

// A VM that does not boot is no word on whether a candidate shows a finding.
func TestShowsWithoutBoot(t *testing.T) {
	early, shows := boot{err: &vm.Failure{What: "the VM did not start a program within 2m0s"}}, boot{said: replayed, err: crashIn("f")}
	candidates, err := explore.ReadSequences("mkdir $A\nrmdir $A\n")
	require.NoError(t, err)
	for _, tt := range []struct {
		boots []boot
		at    int
		ran   bool
	}{
		{[]boot{early, shows}, 0, true},
		{[]boot{early, early}, -1, false},
		{[]boot{{said: survived}}, -1, true},
	} {
		h := newHunt(t.TempDir())
		h.play(t, tt.boots...)
		f := &explore.Finding{Violation: explore.Violation{Law: "survives", Touches: "crash in f"}}
		at, ran := h.shows(t.Context(), f, candidates)
		assert.Equal(t, tt.at, at)
		assert.Equal(t, tt.ran, ran)
	}
}

// Steps that no VM came to have not been tried.
func TestReduceWithoutBoot(t *testing.T) {
	early := boot{err: &vm.Failure{What: "the VM did not start a program within 2m0s"}}
	h := newHunt(t.TempDir())
	h.play(t, early, early)
	f := &explore.Finding{Violation: explore.Violation{Law: "survives", Touches: "crash in f"}, Steps: []string{"mkdir $A"}, Shown: 1, Tried: 1}
	require.NoError(t, h.reduce(t.Context(), f))
	assert.Equal(t, [2]int{1, 1}, [2]int{f.Shown, f.Tried})
}

// Who interrupts it is not told that the crash does not show again.
func TestDoubtInterrupted(t *testing.T) {
	why := errors.New("interrupted")
	for _, tt := range []struct {
		name string
		b    boot
		want int
	}{
		{"booting", boot{err: &vm.Failure{What: "the VM was ended: interrupted"}}, 0},
		{"trying", boot{said: replayed, err: &vm.Failure{What: "the VM was ended: interrupted", Started: true}}, 0},
		{"done", boot{said: survived}, 0},
		{"crashed", boot{said: replayed, err: crashIn("f")}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHunt(t.TempDir())
			ctx, cancel := context.WithCancelCause(t.Context())
			h.runVM = func(_ context.Context, _ vm.Options, _ []string, out, _ io.Writer) (int, error) {
				cancel(why)
				_, err := io.WriteString(out, tt.b.said)
				require.NoError(t, err)
				return 0, tt.b.err
			}
			s := &session{hunt: h, begin: explore.Begin{Number: 3, Lines: []string{"mkdir $A"}}}
			failure := crashIn("f")
			failure.Doubt = "this may be QEMU's doing"
			err := h.crashed(ctx, s, failure)
			assert.Len(t, h.all.list, tt.want)
			if tt.want == 0 {
				assert.ErrorIs(t, err, why)
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// A crash that is known to be a defect of the kernel is counted, unless all
// findings are asked for.
func TestKnownCrash(t *testing.T) {
	h := newHunt(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &session{hunt: h, begin: explore.Begin{Number: 3, Lines: []string{"mkdir $A"}}}
	failure := &vm.Failure{What: "the kernel panicked (Linux 7.3.4+deb13-amd64)", Console: "RIP: 0010:inactive_task_timer+0xe0/0x580"}
	const key = "survives: crash in inactive_task_timer"
	require.NoError(t, h.crashed(ctx, s, failure))
	assert.Empty(t, h.all.list)
	assert.Equal(t, 1, h.again[key])
	h.options.all = true
	require.NoError(t, h.crashed(ctx, s, failure))
	require.Len(t, h.all.list, 1)
	assert.Equal(t, key, h.all.list[0].Violation.Key())
}
