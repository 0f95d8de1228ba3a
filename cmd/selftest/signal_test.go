package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/junit"
	"github.com/hotplugtest/hotplugtest/internal/testjson"
	"github.com/hotplugtest/hotplugtest/suite"
)

// programEnv has this test binary be selftest: as it reports, or as stream.
const programEnv = "SELFTEST_TEST_PROGRAM"

// runAs is what programEnv asks for: a run of the plan that the command line
// names, which ends the process, or stream. Otherwise it returns.
func runAs(program string) {
	switch {
	case program == "":
		return
	case os.Args[1] == "stream":
		os.Exit(stream(os.Args[2]))
	}
	dir := os.Args[1]
	os.Exit(testProgram.Run(nil, func(ctx context.Context) error {
		p, err := readPlan(filepath.Join(dir, "plan.json"))
		if err != nil {
			return err
		}
		return p.report(ctx, dir, dir)
	}))
}

// testProgram is selftest without its command line.
var testProgram = &cli.Program{Name: "selftest", Failure: cli.Untold}

// install makes a directory with this test binary as selftest and with scripts
// as its tools, and writes a plan of VMs there.
func install(t *testing.T, p *plan, tools map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, exec.Command("cp", self, filepath.Join(dir, "selftest")).Run())
	for name, script := range tools {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	_, err = p.write(dir)
	require.NoError(t, err)
	return dir
}

// installed is the selftest of the directory.
func installed(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(dir, "selftest"), args...)
	cmd.Env = append(os.Environ(), programEnv+"=1", "XDG_CACHE_HOME="+dir)
	return cmd
}

// gotestsum is killed: the report that it would have written is there.
func TestGotestsumKilled(t *testing.T) {
	const run = `while [ "$1" != -- ]; do shift; done; shift; "$@" >/dev/null; `
	for name, end := range map[string]string{
		"before it writes":  "kill -TERM $$",
		"while it writes":   "echo '<testsuites>' >$file; kill -TERM $$",
		"as the run is too": "kill -TERM $PPID $$",
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan{VMs: []guest{{Package: "p", Origin: origin{Source: "a kernel"}}}, AtOnce: 1}
			dir := install(t, p, map[string]string{
				"gotestsum": "file=$(dirname $0)/junit.xml; " + run + end,
				"test2json": "printf '%s' '" + events(t, "TestA run", "TestA pass", "TestB run", "TestB fail", "fail") + "'; exit 1",
			})
			cmd := installed(dir, dir)
			said, _ := cmd.CombinedOutput()
			want := cli.Failed
			if name == "as the run is too" {
				want = cli.Interrupted
			}
			assert.Equal(t, want, cmd.ProcessState.ExitCode(), "%s", said)
			data, err := os.ReadFile(filepath.Join(dir, junit.File))
			require.NoError(t, err, "%s", said)
			assert.Contains(t, string(data), `<testsuites tests="2" failures="1" `)
			assert.Contains(t, string(data), `<property name="kernel-source" value="a kernel"></property>`)
		})
	}
}

// stream is ended while the first of two VMs runs: what the second one said
// before is in the results, and so is the rest of the first. gotestsum may have
// ended before, and stream have got no signal.
func TestStreamInterrupted(t *testing.T) {
	for name, tt := range map[string]struct{ gone, cut bool }{
		"SIGTERM":                          {},
		"SIGTERM, and gotestsum has ended": {gone: true},
		"the lifeline is cut":              {cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan{VMs: []guest{{Package: "a"}, {Package: "b"}}, AtOnce: 2}
			// A soak's line is shown at once, so all before it has been read.
			const script = `case $3 in a) printf '%%s' '%s'; exec sleep 1000;; esac; printf '%%s' '%s'; exit 1`
			dir := install(t, p, map[string]string{"test2json": fmt.Sprintf(script,
				events(t, "TestA run", ": "+suite.SoakPrefix+"one"), events(t, "TestB run", "TestB fail", "fail", ": "+suite.SoakPrefix+"two"))})
			p.Results, p.Progress = filepath.Join(dir, testjson.ResultsFile), filepath.Join(dir, "progress")
			cut, err := p.lifeline(filepath.Join(dir, "lifeline"))
			require.NoError(t, err)
			defer cut()
			file, err := p.write(dir)
			require.NoError(t, err)
			require.NoError(t, unix.Mkfifo(p.Progress, 0o600))
			progress, err := os.OpenFile(p.Progress, os.O_RDWR, 0)
			require.NoError(t, err)
			defer progress.Close()

			cmd := installed(dir, "stream", file)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewReader(progress)
			for range p.VMs {
				_, err := lines.ReadString('\n')
				require.NoError(t, err)
			}
			if tt.gone {
				stdout.Close()
			}
			if tt.cut {
				require.NoError(t, cut())
			} else {
				require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
			}
			_, _ = io.Copy(io.Discard, stdout)
			assert.Error(t, cmd.Wait())
			results, err := os.ReadFile(p.Results)
			require.NoError(t, err)
			assert.Regexp(t, `(?s)"run","Package":"p","Test":"TestA".*one.*"fail","Package":"p","Test":"TestB"`, string(results))
		})
	}
}
