package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/cli"
	"github.com/hotplugtest/hotplugtest/internal/junit"
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
