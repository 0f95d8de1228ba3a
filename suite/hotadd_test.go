package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// A command that fails is named with what it said, and no CPU is waited for.
func TestAskForCPUError(t *testing.T) {
	script := filepath.Join(t.TempDir(), "add")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho no room >&2\nexit 3\n"), 0o755))
	for command, want := range map[string]string{
		" ":                       `-hot-add " ": no command`,
		"false":                   `-hot-add "false": exit status 1`,
		"hotplugtest-nosuch -x y": `-hot-add "hotplugtest-nosuch -x y": exec: "hotplugtest-nosuch": executable file not found in $PATH`,
		script:                    `-hot-add "` + script + `": exit status 3: no room`,
	} {
		m := NewMachine(Facts{Options: Options{HotAdd: command}}, nil, nil, nil)
		_, err := m.askForCPU(affinity.Of(0))
		assert.EqualError(t, err, want)
	}
}

// No CPU is removed but the one that this run has added.
func TestRemoveCPUOfOthers(t *testing.T) {
	m := NewMachine(Facts{Added: affinity.Of(4)}, nil, nil, nil)
	assert.EqualError(t, m.RemoveCPU(3), "cpu3 was not added by this run")
}
