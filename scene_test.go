//go:build !selftest

package hotplugtest

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cpuhp"
	"github.com/hotplugtest/hotplugtest/kmsg"
)

// scriptedLog is the log of a kernel that answers a request for its blocked
// tasks with the given lines.
func scriptedLog(t *testing.T, answer ...string) *kernelLog {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kmsg")
	file, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	log, err := kmsg.Open(path, kmsg.FromEnd)
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	return &kernelLog{log: log, askForBlockedTasks: func() error {
		for _, line := range answer {
			if _, err := file.WriteString("6,1,1000000,-;" + line + "\n"); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Two threads of a scene can hang at once: each says so, with the blocked
// tasks, and the first is the one that later tests are told of.
func TestTwoHungWriters(t *testing.T) {
	t.Cleanup(func() { hung.what.Store(nil) })
	sys, err := cpuhp.New("cpuhp/testdata/x86")
	require.NoError(t, err)
	s := &Suite{cpus: sys, said: scriptedLog(t, "sysrq: Show Blocked State", "task:writer state:D")}
	texts := make([]string, 2)
	var both sync.WaitGroup
	for i, what := range []string{"taking cpu1 offline", "taking cpu3 offline"} {
		both.Go(func() { texts[i] = s.stuck(what, time.Minute).Error() })
	}
	both.Wait()
	for i, what := range []string{"taking cpu1 offline", "taking cpu3 offline"} {
		assert.Contains(t, texts[i], what+" has not come to its end within 1m0s\n    cpu0 hotplug state 236, target 236\n")
		assert.Equal(t, 1, strings.Count(texts[i], "task:writer state:D"), texts[i])
	}
	assert.ErrorContains(t, s.hung.err(), " has not come to its end, and may hold the kernel's locks")
	assert.Equal(t, s.hung.err(), hung.err())
}
