package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
)

// A selftest is a run of the suite that tests play: what came of the suite, of
// the explorer, and of the explorer's run by itself, each the lines of its
// events, "action test" or the output of a test.
type selftest struct {
	suite, explorer, again []string
	calls                  []string // the directory of each run, and what it explored for
}

const passed = "pass TestA"

func (s *selftest) run(_ context.Context, out string, args ...string) (*lab.Outcome, error) {
	call, lines := filepath.Base(out), s.suite
	switch call {
	case "explorer":
		lines = s.explorer
	case "again":
		lines = s.again
	}
	if i := slices.Index(args, "-explore"); i > slices.Index(args, "--") {
		call += " " + args[i+1]
	}
	s.calls = append(s.calls, call+" "+args[slices.Index(args, "-run")+1])
	var results strings.Builder
	for _, line := range lines {
		e := testjson.Event{Action: "output", Test: "TestExplore", Output: line + "\n"}
		if action, test, _ := strings.Cut(line, " "); action == "pass" || action == "fail" {
			e = testjson.Event{Action: action, Test: test}
		}
		text, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		results.Write(append(text, '\n'))
	}
	results.WriteString(`{"Action":"pass"}` + "\n")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(out, testjson.ResultsFile)
	if err := os.WriteFile(file, []byte(results.String()), 0o644); err != nil {
		return nil, err
	}
	return lab.ReadOutcome(file)
}

func crashIn(function string) []string {
	return []string{
		"vm: the kernel panicked while the program ran (Linux 7.3.1)", "vm: | Oops: divide error: 0000 [#1]", "vm: | RIP: 0010:" + function + "+0xe0/0x580",
		"vm: the whole console is in console.log", "fail TestExplore",
	}
}

func newKnockouts(t *testing.T, s *selftest) *knockouts {
	return &knockouts{
		bench: &bench{healthy: true}, kernel: "experimental", dir: t.TempDir(), key: "7.3", selftest: s.run,
		guest: func(context.Context, vm.Options, string, ...string) ([]byte, error) { return nil, nil },
	}
}

// What the explorer makes of a callback. A crash that the kernel has anyway is
// not that callback's.
func TestExplored(t *testing.T) {
	for _, tt := range []struct {
		name            string
		explorer, again []string
		want            string
		noticed         int
		calls           []string
	}{
		{"survives", []string{"pass TestExplore"}, nil, "survived", 0, nil},
		{
			"found", []string{"fail TestExplore"}, []string{"fail TestExplore"}, "`TestExplore`", 1,
			[]string{"again 1m ^TestExplore$"},
		},
		{
			"once", []string{"fail TestExplore"}, []string{"pass TestExplore"}, "`TestExplore`, not when it ran alone", 1,
			[]string{"again 1m ^TestExplore$"},
		},
		{
			"whole", []string{"pass TestExplore", "fail TestMain"}, []string{"pass TestExplore", "fail TestMain"}, "`(the suite as a whole)`", 1,
			[]string{"again 1m ^TestExplore$"},
		},
		{
			"once, and a known crash", []string{"fail TestExplore"}, crashIn("inactive_task_timer"), "`TestExplore`, not when it ran alone", 1,
			[]string{"again 1m ^TestExplore$"},
		},
		{"crash", crashIn("f"), nil, "`TestExplore` the VM: the kernel panicked while the program ran (Linux 7.3.1)", 1, nil},
		{
			"known crash", crashIn("inactive_task_timer"), nil,
			"survived, explored until a known defect of the kernel ended the VM: `survives: crash in inactive_task_timer`", 0, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &selftest{suite: []string{passed}, explorer: tt.explorer, again: tt.again}
			k := newKnockouts(t, s)
			k.healthy = false
			results, err := k.all(context.Background(), []string{"f"}, time.Now())
			require.NoError(t, err)
			assert.Equal(t, append([]string{"f ", "explorer 1m ^TestExplore$"}, tt.calls...), s.calls)
			assert.Equal(t, tt.want, results[0].result.by())
			assert.Equal(t, count{ran: 1, noticed: tt.noticed}, results.count())
		})
	}
}

// The test that explores is alone in being given a time, whoever runs it.
func TestNotExplored(t *testing.T) {
	s := &selftest{suite: []string{"fail TestA"}, again: []string{"fail TestA"}}
	k := newKnockouts(t, s)
	k.healthy = false
	results, err := k.all(context.Background(), []string{"f"}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, "`TestA`", results[0].result.by())
	assert.Equal(t, []string{"f ", "again ^TestA$"}, s.calls)
}

// The healthy kernel is explored as well: without that, what the explorer finds
// on a broken one says nothing.
func TestHealthyExplored(t *testing.T) {
	s := &selftest{suite: []string{passed}, explorer: []string{"pass TestExplore"}}
	k := newKnockouts(t, s)
	control := []string{"healthy ", "explorer 1m ^TestExplore$"}
	// It was saved before the explorer had a part in it.
	require.NoError(t, k.save("healthy", &knockout{Tests: 9}))
	_, err := k.all(context.Background(), nil, time.Now())
	require.NoError(t, err)
	assert.Equal(t, control, s.calls)
	_, err = k.all(context.Background(), nil, time.Now())
	require.NoError(t, err)
	assert.Equal(t, control, s.calls)
}

// A known defect does not keep the explorer from saying something of the other
// kernels, and anything else does.
func TestHealthyCrashes(t *testing.T) {
	s := &selftest{suite: []string{passed}, explorer: crashIn("inactive_task_timer")}
	_, err := newKnockouts(t, s).all(context.Background(), nil, time.Now())
	require.NoError(t, err)
	s.explorer = crashIn("f")
	_, err = newKnockouts(t, s).all(context.Background(), nil, time.Now())
	assert.ErrorContains(t, err, "the suite fails on the healthy kernel")
}
