package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	const stray = "a kernel is named by -kernel"
	for _, tt := range []struct {
		args     string
		program  Program
		rest     []string
		err, out string
	}{
		{args: "", rest: []string{}},
		{args: "-n 3 x -n", rest: []string{"x", "-n"}},
		{args: "-n x", err: `invalid value "x" for flag -n: parse error`},
		{args: "-nosuch", err: "flag provided but not defined: -nosuch"},
		{args: "-n 3", program: Program{Stray: stray}, rest: []string{}},
		{args: "-n 3 x", program: Program{Stray: stray}, err: `unexpected "x": a kernel is named by -kernel`},
		{args: "x", program: Program{Stray: stray}, err: `unexpected "x": a kernel is named by -kernel`},
		{args: "x -- y", program: Program{Stray: stray, Synopsis: "[-- y]"}, err: `unexpected "x": a kernel is named by -kernel`},
		{args: "-n 3 -- y -- z", program: Program{Stray: stray, Synopsis: "[-- y]"}, rest: []string{"y", "--", "z"}},
		{args: "-n 3 -- y", program: Program{Stray: stray}, err: `unexpected "y": a kernel is named by -kernel`},
		{
			args: "-help", program: Program{Call: "ci/p", Synopsis: "[flags]", About: "Does it."}, err: flag.ErrHelp.Error(),
			out: "usage: ci/p [flags]\n\nDoes it.\n\n  -n times\n    \thow many times\n",
		},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out strings.Builder
			tt.program.out = &out
			flags := flag.NewFlagSet("p", flag.ContinueOnError)
			flags.Int("n", 0, "how many `times`")
			rest, err := tt.program.Parse(flags, strings.Fields(tt.args))
			if tt.err == "" {
				require.NoError(t, err)
			} else {
				assert.EqualError(t, err, tt.err)
			}
			assert.Equal(t, tt.rest, rest)
			assert.Equal(t, tt.out, out.String())
		})
	}
}

func TestRun(t *testing.T) {
	failed := errors.New("disk full")
	for _, tt := range []struct {
		name            string
		parse, err      error
		interrupt       bool
		failure, status int
		said            string
	}{
		{name: "success"},
		{name: "help", parse: flag.ErrHelp},
		{name: "a bad command line", parse: errors.New("-n x: no number"), status: 2, said: "p: -n x: no number (ci/p -help lists the flags)\n"},
		{name: "a failure", err: failed, status: 1, said: "p: disk full\n"},
		{name: "a failure that is no verdict", err: failed, failure: Untold, status: 125, said: "p: disk full\n"},
		{name: "a failure that was told", err: fmt.Errorf("x: %w", &Told{Status: 3}), failure: Untold, status: 3},
		{name: "told, and no verdict", err: &Told{}, failure: Untold, status: 125},
		{name: "an interrupt", err: failed, interrupt: true, failure: Untold, status: 130, said: "p: disk full\n"},
		{name: "told, and an interrupt", err: &Told{}, interrupt: true, status: 130},
		{name: "a verdict, and an interrupt", err: &Told{Status: 1}, interrupt: true, failure: Untold, status: 130},
		{name: "an interrupt that came too late", interrupt: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said strings.Builder
			p := Program{Name: "p", Call: "ci/p", Failure: tt.failure, err: &said}
			status := p.Run(tt.parse, func(ctx context.Context) error {
				assert.NoError(t, tt.parse, "nothing is done after a bad command line")
				if tt.interrupt {
					require.NoError(t, unix.Kill(os.Getpid(), unix.SIGHUP))
					<-ctx.Done()
				}
				return tt.err
			})
			assert.Equal(t, tt.status, status)
			assert.Equal(t, tt.said, said.String())
		})
	}
}

func TestDir(t *testing.T) {
	var d Dir
	flags := flag.NewFlagSet("p", flag.ContinueOnError)
	d.Flag(flags)
	assert.Equal(t, "x", d.Path("x"))
	require.NoError(t, flags.Parse([]string{"-C", "/home/u"}))
	assert.Equal(t, "/home/u/x/y", d.Path("x/y"))
	assert.Equal(t, "/x", d.Path("/x"))
}
