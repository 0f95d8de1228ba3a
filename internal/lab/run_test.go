package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runner is one whose ci/selftest leaves these results, prints a word and ends
// in a way.
func runner(t *testing.T, results []byte, end string) *Runner {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncat >\"$2/results.json\" <<'EOF'\n%sEOF\necho printed\n%s\n", results, end)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "selftest"), []byte(script), 0o755))
	return &Runner{dir}
}

// A run that was cut short has no outcome, whatever of it was written.
func TestRun(t *testing.T) {
	passed, failed, cut := events("pass TestA", "pass "), events("fail TestA", "fail "), events("pass TestA", "run TestB")
	for _, tt := range []struct {
		name    string
		results []byte
		end     string
		want    string // the error; "": none
		noTest  bool
	}{
		{name: "passed", results: passed, end: "exit 0"},
		{name: "failed", results: failed, end: "exit 1"},
		{name: "the VM ends at once", results: events("output vm: poke: no symbol", "fail TestMain", "fail "), end: "exit 125"},
		{name: "cut, and a test failed", results: cut, end: "exit 1", want: "the suite's run: exit status 1\nthe results stop before the end of the run\nprinted\n"},
		{name: "cut", results: cut, end: "exit 0", want: "the suite's run: the results stop before the end of the run\nprinted\n"},
		{name: "untold", results: passed, end: "exit 125", want: "the suite's run did not come to its end: exit status 125\nprinted\n"},
		{name: "killed", results: passed, end: "kill -9 $$", want: "the suite's run did not come to its end: signal: killed\nprinted\n"},
		{name: "skipped", results: events("skip TestA", "pass "), end: "exit 125", want: "no test ran\nexit status 125\nprinted\n", noTest: true},
		{name: "skipped, below a test", results: events("run TestA", "skip TestA/x", "pass TestA", "pass "), end: "exit 125", want: "no test ran\nexit status 125\nprinted\n", noTest: true},
		{name: "no results", end: "rm $2/results.json; exit 125", want: "the suite's run: exit status 125\nopen "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := runner(t, tt.results, tt.end).Run(context.Background(), t.TempDir())
			if tt.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tt.want)
			assert.Equal(t, tt.noTest, errors.Is(err, ErrNoTest))
		})
	}
}

// What an emulator may have done is not taken for the kernel's, unless it does
// it again.
func TestRunDoubtful(t *testing.T) {
	died := events("output vm: the kernel panicked", "output vm: this may be QEMU's doing: a breakpoint", "fail TestA", "fail ")
	r := runner(t, died, `[ -e "$2/first" ] && printf '%s\n' '{"Action":"pass","Test":"TestA"}' '{"Action":"pass"}' >"$2/results.json"; touch "$2/first"`)
	o, err := r.Run(context.Background(), t.TempDir())
	require.NoError(t, err)
	assert.Equal(t, &Outcome{Tests: 1}, o)

	o, err = runner(t, died, "exit 1").Run(context.Background(), t.TempDir())
	require.NoError(t, err)
	assert.Equal(t, &Outcome{Tests: 1, Failed: []string{"TestA"}, Died: "the kernel panicked", Doubtful: true}, o)
}
