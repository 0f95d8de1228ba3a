package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/lab"
	"github.com/hotplugtest/hotplugtest/internal/profile"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/vm"
	vmkernel "github.com/hotplugtest/hotplugtest/vm/kernel"
)

// A selftest is a run of the suite that tests play, and of the explorer: what
// came of the suite, and when what failed first ran by itself, each the lines of
// its events, "action test"; and what the explorer finds, one time after the
// other.
type selftest struct {
	suite, again []string
	after        []string            // of the suite, from the second run on; nil: the same
	boots        map[string][]string // of the suite in another boot
	found        []string
	calls        []string // the directory of each run, and its flags
}

const passed = "pass TestA"

func (s *selftest) run(_ context.Context, out string, args ...string) (*lab.Outcome, error) {
	call, lines := filepath.Base(out), s.suite
	switch {
	case call == "again":
		lines = s.again
		if i := slices.Index(args, "-profile"); i >= 0 {
			call += " -profile " + args[i+1]
		}
	case s.boots[call] != nil:
		lines = s.boots[call]
	case s.after != nil && len(s.calls) > 0:
		lines = s.after
	}
	s.calls = append(s.calls, call+" "+args[slices.Index(args, "-run")+1])
	var results strings.Builder
	for _, line := range lines {
		action, test, _ := strings.Cut(line, " ")
		e := testjson.Event{Action: action, Test: test}
		if action == "attr" {
			e.Key, e.Value = testjson.Known, "defect"
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

func (s *selftest) explore(_ context.Context, kernel, out string, length time.Duration, flags ...string) (found string, err error) {
	s.calls = append(s.calls, strings.Join(append([]string{filepath.Base(filepath.Dir(out)), "explored", length.String(), kernel}, flags...), " "))
	found, s.found = s.found[0], s.found[1:]
	return found, nil
}

func newKnockouts(t *testing.T, s *selftest) *knockouts {
	return &knockouts{
		bench: &bench{healthy: true}, kernel: "experimental", dir: t.TempDir(), key: "7.3", boots: elsewhere, selftest: s.run, explore: s.explore,
		guest: func(context.Context, vm.Options, string, ...string) ([]byte, error) { return nil, nil },
	}
}

// otherBoots are the calls for what the suite does not miss in the default one.
var otherBoots = []string{
	"maxcpus ^Test(Offline|Online)$", "nohz_full ^TestScenario$/^tickless$", "numa ^Test(Offline|Online)$|^TestScenario$/^(description|kernel-threads(-node)?)$", "modules ", "msr ",
}

// What is missed in another boot alone is looked for there once more.
func TestOtherBoots(t *testing.T) {
	s := &selftest{suite: []string{passed}, boots: map[string][]string{"maxcpus": {"fail TestA"}}, again: []string{"fail TestA"}}
	k := newKnockouts(t, s)
	k.healthy = false
	results, err := k.all(context.Background(), []string{"f"}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, "`TestA` with `-profile maxcpus`", results[0].result.by())
	assert.Equal(t, []string{"f ", otherBoots[0], "again -profile maxcpus ^TestA$"}, s.calls)
}

// A kernel that was given as an image alone has no modules: what needs them is left
// out, and said.
func TestBootsOf(t *testing.T) {
	var told strings.Builder
	boots, err := bootsOf(func(p *profile.Profile) error { return fmt.Errorf("module %s: %w", p.Modules[0], vmkernel.ErrNoModule) }, &told)
	require.NoError(t, err)
	assert.Equal(t, elsewhere[:3], boots)
	assert.Equal(t, "survivors are not tried with -profile modules: module nvme: no such module\n"+
		"survivors are not tried with -profile msr: module msr: no such module\n", told.String())

	boots, err = bootsOf(func(*profile.Profile) error { return nil }, &told)
	require.NoError(t, err)
	assert.Equal(t, elsewhere, boots)

	_, err = bootsOf(func(*profile.Profile) error { return errors.New("busy") }, &told)
	assert.EqualError(t, err, "busy")
}

// What the explorer makes of a callback that the suite does not miss.
func TestExplored(t *testing.T) {
	const (
		first = "f explored 1m0s experimental -smp 4,cores=2,threads=2 -poke f=ret0"
		again = "again explored 1m0s experimental -smp 4,cores=2,threads=2 -poke f=ret0"
		found = "after 3 s: online-mask: a|b"
	)
	for _, tt := range []struct {
		name    string
		found   []string
		want    string
		noticed int
		calls   []string
	}{
		{"survives", []string{""}, "survived", 0, []string{first}},
		{"found", []string{found, found}, `the explorer: after 3 s: online-mask: a\|b`, 1, []string{first, again}},
		{"once", []string{found, ""}, `the explorer: after 3 s: online-mask: a\|b, not when it ran alone`, 1, []string{first, again}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &selftest{suite: []string{passed}, found: tt.found}
			k := newKnockouts(t, s)
			k.healthy = false
			results, err := k.all(context.Background(), []string{"f"}, time.Now())
			require.NoError(t, err)
			assert.Equal(t, slices.Concat([]string{"f "}, otherBoots, tt.calls), s.calls)
			assert.Equal(t, tt.want, results[0].result.by())
			assert.Equal(t, count{ran: 1, noticed: tt.noticed}, results.count())
		})
	}
}

// A defect that is known is no callback's, and ends a run before its end.
func TestKnownEnds(t *testing.T) {
	s := &selftest{suite: []string{"attr TestA", "skip TestA"}, found: []string{""}}
	k := newKnockouts(t, s)
	k.healthy = false
	_, err := k.all(context.Background(), []string{"f"}, time.Now())
	assert.ErrorContains(t, err, "f: 3 runs have ended by a known defect: see "+k.dir)
	assert.Equal(t, []string{"f ", "f ", "f "}, s.calls)

	s.calls, s.after = nil, []string{passed}
	_, err = k.all(context.Background(), []string{"f"}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, []string{"f ", "f "}, s.calls[:2])
	assert.Len(t, s.calls, 2+len(otherBoots)+1)
}

// What a test notices needs no explorer. That it failed by itself as well is
// not asked of a machine that died.
func TestNotExplored(t *testing.T) {
	for _, tt := range []struct {
		name         string
		suite, again []string
		want         string
		calls        []string
	}{
		{"fails", []string{"fail TestA"}, []string{"fail TestA"}, "`TestA`", []string{"f ", "again ^TestA$"}},
		{"whole", []string{"pass TestA", "fail TestMain"}, []string{"pass TestA", "fail TestMain"}, "`(the suite as a whole)`", []string{"f ", "again "}},
		{"once", []string{"fail TestA"}, []string{"pass TestA"}, "`TestA`, not when it ran alone", []string{"f ", "again ^TestA$"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &selftest{suite: tt.suite, again: tt.again}
			k := newKnockouts(t, s)
			k.healthy = false
			results, err := k.all(context.Background(), []string{"f"}, time.Now())
			require.NoError(t, err)
			assert.Equal(t, tt.want, results[0].result.by())
			assert.Equal(t, tt.calls, s.calls)
		})
	}
}

// The healthy kernel is explored as well: without that, what the explorer finds
// on a broken one says nothing.
func TestHealthyExplored(t *testing.T) {
	s := &selftest{suite: []string{passed}, found: []string{""}}
	k := newKnockouts(t, s)
	control := slices.Concat([]string{"healthy "}, otherBoots, []string{"healthy explored 1m0s experimental -smp 4,cores=2,threads=2"})
	// It was saved before the explorer had a part in it.
	require.NoError(t, k.save("healthy", &knockout{Tests: 9}))
	_, err := k.all(context.Background(), nil, time.Now())
	require.NoError(t, err)
	assert.Equal(t, control, s.calls)
	_, err = k.all(context.Background(), nil, time.Now())
	require.NoError(t, err)
	assert.Equal(t, control, s.calls)

	s.found = []string{"survives: crash in f"}
	other := newKnockouts(t, s)
	_, err = other.all(context.Background(), nil, time.Now())
	assert.ErrorContains(t, err, "says nothing of the broken ones: the explorer: survives: crash in f")
}

// A VM that does not start says nothing of the callback. Nothing is saved.
func TestNotStarted(t *testing.T) {
	k := newKnockouts(t, &selftest{})
	k.healthy = false
	k.selftest = func(context.Context, string, ...string) (*lab.Outcome, error) {
		return &lab.Outcome{Died: "the VM did not start a program within 2m0s"}, nil
	}
	_, err := k.all(context.Background(), []string{"f"}, time.Now())
	assert.EqualError(t, err, "f: the VM did not start a program within 2m0s: a busy host may be why: call it again to go on")
	r, err := k.load("f")
	require.NoError(t, err)
	assert.Nil(t, r)
}
