package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm"
)

func TestParseCallbacks(t *testing.T) {
	l, err := parse(strings.Fields("-C /where -kernel bookworm -kernel sid -run x -out o -- -cycles 2"))
	require.NoError(t, err)
	assert.Equal(t, []series{kernels[0], kernels[2]}, l.kernels)
	assert.Equal(t, "/where/o", l.out)
	assert.Equal(t, []string{"-cycles", "2"}, l.args)
	l, err = parse(nil)
	require.NoError(t, err)
	assert.Equal(t, kernels, l.kernels)
	l, err = parse(strings.Fields("-callbacks -kernel bullseye -for 20m"))
	require.NoError(t, err)
	assert.Equal(t, []string{"bullseye"}, l.names)
	assert.Equal(t, 20*time.Minute, l.limit)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bzImage"), nil, 0o644))
	l, err = parse(strings.Fields("-C " + dir + " -callbacks -kernel bzImage -kernel ./linux"))
	require.NoError(t, err)
	assert.Equal(t, []string{dir + "/bzImage", dir + "/linux"}, l.names)
	for args, want := range map[string]string{
		"-kernel bullseye":    "-kernel bullseye: there are no mutants of it, only of bookworm, trixie, sid",
		"-callbacks -short":   "-short is for the mutants of the table, not for -callbacks",
		"-callbacks -rows":    "-rows is for the mutants of the table, not for -callbacks",
		"-for 5m":             "-for is for -callbacks only",
		"-callbacks -for -1s": "-for -1s: it takes time",
		"sid":                 `unexpected "sid": mutants are named by -run, and flags of the test binary come after --`,
	} {
		_, err := parse(strings.Fields(args))
		assert.ErrorContains(t, err, want, args)
	}
}

func TestParseFunctions(t *testing.T) {
	functions, err := parseFunctions([]byte(`["a","b.part.0"]` + "\n"))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b.part.0"}, functions)
	_, err = parseFunctions([]byte("[]"))
	assert.ErrorContains(t, err, "the kernel has told of none")
	_, err = parseFunctions([]byte("oops"))
	assert.ErrorContains(t, err, `the guest's program printed "oops"`)
}

func TestExactly(t *testing.T) {
	assert.Equal(t, `^TestA$/^1:x\.y$`, exactly("TestA/1:x.y"))
	assert.Empty(t, exactly("(the suite as a whole)"))
}

func TestOnlyLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"Action":"output","Test":"TestA","Output":"    testlog.go:144: the kernel's log has a complaint (warning):\n"}
{"Action":"output","Test":"TestB","Output":"            promised: it is\n"}
{"Action":"output","Test":"TestC","Output":"            promised: it is\n"}
{"Action":"output","Test":"TestC","Output":"    testlog.go:144: the kernel's log has a complaint (warning):\n"}
`), 0o644))
	for test, want := range map[string]bool{"TestA": true, "TestB": false, "TestC": false, "TestD": false} {
		got, err := onlyLog(file, test)
		require.NoError(t, err)
		assert.Equal(t, want, got, test)
	}
	_, err := onlyLog(file+".none", "TestA")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Without a runner, what was not found before is a nil pointer's panic: so all
// that all takes is of an earlier call.
func TestResume(t *testing.T) {
	k := &knockouts{bench: &bench{healthy: true}, kernel: "sid", dir: t.TempDir(), key: "7.2"}
	require.NoError(t, k.save("healthy", &knockout{Tests: 9, Explored: true}))
	require.NoError(t, k.save(listFile, &knockout{Functions: []string{"notices", "survives"}}))
	require.NoError(t, k.save("notices", &knockout{Tests: 3, Failed: []string{"TestA/at-return/x/child"}, Again: true}))
	require.NoError(t, k.save("survives", &knockout{Tests: 9}))

	functions, err := k.list(context.Background())
	require.NoError(t, err)
	assert.Equal(t, []string{"notices", "survives"}, functions)
	results, err := k.all(context.Background(), functions, time.Now())
	require.NoError(t, err)
	assert.Equal(t, count{ran: 2, noticed: 1}, results.count())

	// What is of another kernel, or was cut off, is not taken for a result.
	r, err := k.load("notices")
	require.NoError(t, err)
	require.NotNil(t, r)
	other := *k
	other.key = "7.3"
	r, err = other.load("notices")
	require.NoError(t, err)
	assert.Nil(t, r)
	r, err = k.load("never ran")
	require.NoError(t, err)
	assert.Nil(t, r)
	file := filepath.Join(k.dir, "survives", resultFile)
	require.NoError(t, os.WriteFile(file, []byte(`{"Tests`), 0o644))
	_, err = k.load("survives")
	assert.ErrorContains(t, err, file+": unexpected end of JSON input: remove it to run that again")
}

// With -for over, one callback is knocked out all the same, and no other.
func TestFor(t *testing.T) {
	k := &knockouts{bench: &bench{limit: time.Minute}, dir: t.TempDir()}
	// Neither has a name that a poke could have, so no VM is booted for it.
	results, err := k.all(context.Background(), []string{"a=b", "c=d"}, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	assert.Equal(t, count{impossible: 1, left: 1}, results.count())
	results, err = k.all(context.Background(), []string{"a=b", "c=d"}, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	assert.Equal(t, count{impossible: 2}, results.count())
	assert.ErrorContains(t, results.err("sid"), "sid: no callback was knocked out")
}

// That no CPU goes and comes is told by two VMs, and not by one that did not
// get as far as to knock anything out.
func TestAttempt(t *testing.T) {
	ended := &vm.Failure{What: "the VM ended while the program ran", Started: true}
	early := &vm.Failure{What: "the VM did not start a program within 2m0s"}
	inlined := errors.New("poke: this kernel has no symbol f")
	for _, tt := range []struct {
		name  string
		tries []error
		want  count
		err   string // "": what was found is saved
	}{
		{name: "twice", tries: []error{ended, ended}, want: count{noCPU: 1}},
		{name: "once", tries: []error{ended, inlined}, want: count{impossible: 1}},
		{name: "no second try is needed", tries: []error{inlined}, want: count{impossible: 1}},
		{name: "the host is busy", tries: []error{early, early}, err: "f: the VM did not start a program within 2m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &knockouts{bench: &bench{}, dir: t.TempDir()}
			tries := tt.tries
			k.guest = func(context.Context, vm.Options, string, ...string) ([]byte, error) {
				err := tries[0]
				tries = tries[1:]
				return nil, err
			}
			results, err := k.all(context.Background(), []string{"f"}, time.Now())
			assert.Empty(t, tries)
			saved, loadErr := k.load("f")
			require.NoError(t, loadErr)
			if tt.err != "" {
				assert.EqualError(t, err, tt.err)
				assert.Nil(t, saved)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, results.count())
			assert.NotNil(t, saved)
		})
	}
}

func TestHealthyFails(t *testing.T) {
	k := &knockouts{bench: &bench{healthy: true}, kernel: "sid", dir: t.TempDir()}
	require.NoError(t, k.save("healthy", &knockout{Tests: 9, Failed: []string{"TestA"}}))
	_, err := k.all(context.Background(), []string{"f"}, time.Now())
	assert.ErrorContains(t, err, "the suite fails on the healthy kernel, so it says nothing of the broken ones: `TestA`")
}

func TestKnockoutTable(t *testing.T) {
	l := knockoutList{
		{"noticed", &knockout{Tests: 5, Failed: []string{"TestOnline/at-return/affinity/child-cpuset"}, Again: true}},
		{"warns", &knockout{Tests: 1, Failed: []string{"TestOnline/at-uevent/affinity/root-cpuset"}, Log: true, Again: true}},
		{"once", &knockout{Tests: 5, Failed: []string{"TestScenario/load"}}},
		{"crashes", &knockout{Tests: 5, Died: "the kernel panicked"}},
		{"survives", &knockout{Tests: 5}},
		{"cannot", &knockout{NoCPU: "cpu3: EIO"}},
		{"fails", &knockout{NoCPU: "cpu3: EEXIST", Tests: 2, Failed: []string{"TestOffline/at-return/topology"}, Again: true}},
		{"inlined", &knockout{Impossible: "this kernel has no symbol inlined"}},
		{"later", nil},
	}
	assert.Equal(t, `
Debian sid

| callback that returns 0 at once | first noticed by |
|---|---|
| `+"`noticed` | `TestOnline/{affinity}`"+` |
| `+"`warns` | `TestOnline/{affinity}` by the kernel's log"+` |
| `+"`once` | `TestScenario/load`, not when it ran alone"+` |
| `+"`crashes`"+` | the VM: the kernel panicked |
| `+"`survives`"+` | survived |
| `+"`cannot`"+` | no CPU goes and comes: cpu3: EIO |
| `+"`fails` | no CPU goes and comes: cpu3: EEXIST `TestOffline/{topology}`"+` |
| `+"`inlined`"+` | cannot be knocked out: this kernel has no symbol inlined |
| `+"`later`"+` | not run |

4 of 5 callbacks noticed, 2 without which no CPU goes and comes, 1 that cannot be knocked out, 1 left: call it again to go on
`, l.markdown("Debian sid"))
	assert.NoError(t, l.err("sid"))
}
