package wire_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/ci/vm/wire"
	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// Gob leaves out what is zero, but not a message: a success is an Exit of zeros.
func TestGuest(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, tt := range []struct {
		name string
		m    wire.Guest
	}{
		{"hello", wire.Guest{Hello: &wire.Hello{Release: "6.1.0-56-amd64", Symbols: map[string][]wire.Symbol{"f": {{0xffffffff81234560, 0xffffffff81234570}, {1, 2}}}}}},
		{"hello, no symbol found", wire.Guest{Hello: &wire.Hello{}}},
		{"output, every byte", wire.Guest{Output: all}},
		{"file", wire.Guest{File: &wire.File{Path: "/tmp/cover.out", Data: all}}},
		{"file, empty", wire.Guest{File: &wire.File{Path: "/tmp/cover.out"}}},
		{"exit 0", wire.Guest{Exit: &wire.Exit{}}},
		{"exit 137", wire.Guest{Exit: &wire.Exit{Code: 137, Error: "killed by SIGKILL"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var line bytes.Buffer
			require.NoError(t, gob.NewEncoder(&line).Encode(tt.m))
			var got wire.Guest
			require.NoError(t, gob.NewDecoder(&line).Decode(&got))
			assert.Equal(t, tt.m, got)
		})
	}
}

func TestJob(t *testing.T) {
	job := wire.Job{
		Line: "ttyS1", Argv: []string{"/bin/p", "", "a b", "ü\n"}, Dir: "/src", Env: []string{"HOME=/"},
		Mkdir: []string{"/out"}, Collect: []string{"/out/cover.out"}, Symbols: []string{"f"}, Limit: 90 * time.Second,
	}
	data, err := json.Marshal(job)
	require.NoError(t, err)
	var got wire.Job
	require.NoError(t, json.Unmarshal(data, &got))
	assert.Equal(t, job, got)
}
