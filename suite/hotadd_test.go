package suite

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// A command that fails is named with what it said, and no CPU is waited for.
func TestAskForCPUError(t *testing.T) {
	for command, want := range map[string]string{
		" ":                       `-hot-add " ": no command`,
		"false":                   `-hot-add "false": exit status 1`,
		"ls /nosuch":              `-hot-add "ls /nosuch": exit status 2: ls: cannot access '/nosuch': No such file or directory`,
		"hotplugtest-nosuch -x y": `-hot-add "hotplugtest-nosuch -x y": exec: "hotplugtest-nosuch": executable file not found in $PATH`,
	} {
		t.Setenv("LC_ALL", "C")
		m := NewMachine(Facts{Options: Options{HotAdd: command}}, nil, nil, nil)
		_, err := m.askForCPU()
		assert.EqualError(t, err, want)
	}
}

// No CPU is removed but the one that this run has added.
func TestRemoveCPUOfOthers(t *testing.T) {
	m := NewMachine(Facts{Added: affinity.Of(4)}, nil, nil, nil)
	assert.EqualError(t, m.RemoveCPU(3), "cpu3 was not added by this run")
}
