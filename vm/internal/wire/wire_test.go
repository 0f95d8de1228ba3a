package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// Gob leaves out what is zero, but not a message: a success is an Exit of
// zeros.
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
			require.NoError(t, wire.NewSender(&line).Send(tt.m))
			got, err := wire.NewReceiver(&line, 1<<20).Receive()
			require.NoError(t, err)
			assert.Equal(t, tt.m, got)
		})
	}
}

// A message arrives when it has been sent, and not with the next.
func TestSendIsWhole(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	sender, receiver := wire.NewSender(w), wire.NewReceiver(r, 1<<20)
	for i := range 3 {
		sent := wire.Guest{Output: fmt.Append(nil, "message ", i)}
		failed := make(chan error, 1)
		go func() { failed <- sender.Send(sent) }()
		got, err := receiver.Receive()
		require.NoError(t, err)
		assert.Equal(t, sent, got)
		require.NoError(t, <-failed)
	}
}

// What a test says of itself is much the same from test to test.
func TestSendIsShort(t *testing.T) {
	var line bytes.Buffer
	sender := wire.NewSender(&line)
	said := 0
	for i := range 100 {
		text := fmt.Appendf(nil, "=== ATTR  TestOnline/at-uevent/row-%d kernel-version #1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1\n", i)
		require.NoError(t, sender.Send(wire.Guest{Output: text}))
		said += len(text)
	}
	assert.Less(t, line.Len(), said/2)
}

// A message that unpacks to more than anybody would send does not take the
// host's memory.
func TestReceiveIsBounded(t *testing.T) {
	var line bytes.Buffer
	sender := wire.NewSender(&line)
	require.NoError(t, sender.Send(wire.Guest{Output: make([]byte, 1<<20)}))
	_, err := wire.NewReceiver(&line, 1<<20).Receive()
	assert.EqualError(t, err, "a message of more than 1048576 bytes")
}

func TestJob(t *testing.T) {
	job := wire.Job{
		Line: "ttyS1", Argv: []string{"/bin/p", "", "a b", "ü\n"}, Dir: "/src", Env: []string{"HOME=/"},
		Mkdir: []string{"/out"}, Collect: []string{"/out/cover.out"}, Symbols: []string{"f"},
	}
	data, err := json.Marshal(job)
	require.NoError(t, err)
	var got wire.Job
	require.NoError(t, json.Unmarshal(data, &got))
	assert.Equal(t, job, got)
}
