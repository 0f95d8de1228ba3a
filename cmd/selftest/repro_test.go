package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm"
)

// A script for a failure calls ci/selftest with the flags of the run, from any
// directory. Whatever the flags and the test's text are, the shell sees words.
func TestRepro(t *testing.T) {
	module := filepath.Join(t.TempDir(), "it's here")
	require.NoError(t, os.MkdirAll(filepath.Join(module, "ci"), 0o755))
	fake := "#!/bin/sh\nfor a; do echo \"[$a]\"; done\nexit 7\n"
	require.NoError(t, os.WriteFile(filepath.Join(module, "ci/selftest"), []byte(fake), 0o755))
	out := t.TempDir()
	p := &plan{VMs: []guest{{Package: "hotplugtest/bookworm/smt", Origin: origin{
		Kernel: "bookworm", Source: "Debian bookworm linux-image-6.1", Sum: "abc", QEMU: "qemu-system-x86_64 -smp 4 -append 'a b'",
		Flags: []string{"-profile", "smt", "-append", `a='b' "$c" `}, Broken: []string{"-poke", "f=ret"}, Args: []string{"-cycles", "100"},
	}, Options: vm.Options{Pokes: []string{"f=ret"}}}}}
	v := of(t, strings.ReplaceAll(events(t, "TestA/7:x:y kernel 6.1.0", "TestA/7:x:y:     a.go:1: it is `lost`\n        $(touch x)", "TestA/7:x:y fail", "TestA fail"), `"p"`, `"hotplugtest/bookworm/smt"`))
	var screen strings.Builder
	require.NoError(t, p.writeRepros(v, module, out, &screen))
	assert.Equal(t, "\nscripts that reproduce the failures: "+out+"/repro\n", screen.String())
	script := filepath.Join(out, "repro/bookworm-smt-TestA-7-x-y.sh")
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(text), "#!/bin/sh\n# TestA/7:x:y fails on Linux 6.1.0: it is `lost`\n# Kernel: Debian bookworm linux-image-6.1 changed by -poke f=ret\n# SHA-256: abc\n# qemu-system-x86_64 -smp 4 -append 'a b'\n#\n"), "%s", text)

	run := func(env string, args ...string) (string, int) {
		cmd := exec.Command(script, args...)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "HOTPLUGTEST="+env)
		said, err := cmd.CombinedOutput()
		if err != nil {
			require.ErrorAs(t, err, new(*exec.ExitError))
		}
		entries, err := os.ReadDir(cmd.Dir)
		require.NoError(t, err)
		assert.Empty(t, entries)
		return string(said), cmd.ProcessState.ExitCode()
	}
	const rest = "[-profile]\n[smt]\n[-append]\n[a='b' \"$c\" ]\n[-run]\n[^TestA$/^7:x:y$]\n[--]\n[-cycles]\n[100]\n"
	own := "[-out]\n[" + strings.TrimSuffix(script, ".sh") + ".out]\n"
	said, code := run("")
	assert.Equal(t, own+"[-kernel]\n[bookworm]\n[-sha256]\n[abc]\n[-poke]\n[f=ret]\n"+rest, said)
	assert.Equal(t, 7, code)
	said, _ = run("", "my kernel")
	assert.Equal(t, own+"[-kernel]\n[my kernel]\n"+rest, said, "another kernel is not poked")
	said, _ = run("", "sid", "-shell")
	assert.Equal(t, own+"[-kernel]\n[sid]\n[-shell]\n"+rest, said)
	said, _ = run("", "-gdb")
	assert.Equal(t, own+"[-kernel]\n[bookworm]\n[-sha256]\n[abc]\n[-poke]\n[f=ret]\n[-gdb]\n"+rest, said)
	said, code = run("/nonexistent")
	assert.Equal(t, script+": there is no hotplugtest in /nonexistent: set HOTPLUGTEST to a clone of it\n", said)
	assert.Equal(t, 125, code)
}

// The flags of a script are read as those of the run: the tests are the same.
func TestReproFlags(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"-profile", "smt", "-smp", "8", "-mem", "2G", "-append", "a b", "-qemu", "-device x", "-timeout", "1m30s", "-packed", "-module", "null_blk nr_devices=1", "-delay", "f=1s"},
		{"-soak", "25h", "-soak-continue"},
		{"-soak", "1m", "-arch", "arm64"},
	} {
		o, err := parse(args)
		require.NoError(t, err)
		again, err := parse(o.flags(&o.profiles[0]))
		require.NoError(t, err)
		assert.Equal(t, o, again)
	}
}

func TestNoRepro(t *testing.T) {
	out := t.TempDir()
	var screen strings.Builder
	p := &plan{VMs: []guest{{Package: "p"}}}
	require.NoError(t, p.writeRepros(of(t, events(t, "TestA pass", "TestB known busy", "TestB fail", "fail")), "/", out, &screen))
	assert.Empty(t, screen.String())
	assert.NoDirExists(t, filepath.Join(out, "repro"))
}
