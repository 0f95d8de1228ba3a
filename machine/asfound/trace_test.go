package found_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestTraced is about somebody who traces, in the top-level buffer and in an
// instance, what the suite traces too.
func TestTraced(t *testing.T) {
	needVM(t)
	facts := trace(t)
	look := func() (seen []string) {
		for _, f := range facts {
			seen = append(seen, f.path+": "+f.read())
		}
		return seen
	}
	before := look()
	code, said := run(t, suite("-test.run=TestSuite/^(Online|Offline)$/at-return/^settled$"))
	assert.Zero(t, code)
	assert.Regexp(t, `(?m)^ +--- PASS: TestSuite/Offline/at-return/settled \(`, said)
	assert.Equal(t, before, look())
	if t.Failed() {
		t.Log(said)
	}
}

// trace begins to trace, and returns what is to stay as it is.
func trace(t *testing.T) []fact {
	t.Helper()
	const dir = "/sys/kernel/tracing"
	if err := unix.Mount("somebody", dir, "tracefs", 0, ""); err != unix.EBUSY { // it is mounted there
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
	}
	instance := filepath.Join(dir, "instances/somebody")
	require.NoError(t, os.Mkdir(instance, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.Remove(instance)) })
	var facts []fact
	for _, buffer := range []string{dir, instance} {
		event := filepath.Join(buffer, "events/workqueue/workqueue_queue_work")
		for _, f := range []struct{ path, value, before string }{
			{filepath.Join(buffer, "trace_clock"), "global", "local"},
			{filepath.Join(event, "filter"), "cpu == 0", "0"},
			{filepath.Join(event, "enable"), "1", "0"},
		} {
			require.NoError(t, os.WriteFile(f.path, []byte(f.value), 0))
			t.Cleanup(func() { assert.NoError(t, os.WriteFile(f.path, []byte(f.before), 0)) })
			facts = append(facts, fact{path: f.path})
		}
		facts = append(facts, fact{path: filepath.Join(buffer, "tracing_on")}, fact{path: filepath.Join(buffer, "set_event")})
	}
	return facts
}
