package machine

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/cpuset"
)

// On cgroup v1 a cpuset that loses its only CPU never gets it back, and its
// tasks are moved. This is the last test, for the controller stays on v1 for a
// while after that is unmounted.
func TestKernelRestoreV1(t *testing.T) {
	Claim(t)
	change{"v1",
		func(t *testing.T) {
			dir := t.TempDir()
			// The cpusets of tests before are gone a moment after they were
			// removed.
			var mountErr error
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
				if mountErr = unix.Mount("cgroup", dir, "cgroup", 0, "cpuset"); mountErr != unix.EBUSY {
					break
				}
			}
			if mountErr != nil {
				t.Skipf("cgroup v1 has no cpuset controller: not in this kernel, or it is in use on v2: %v", mountErr)
			}
			t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
			h, err := cpuset.New("/")
			require.NoError(t, err)
			require.Equal(t, 1, h.Version())
			_, cpu := lastCPU(t)
			set, err := h.Root().Create("machinetest")
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, set.Remove()) })
			require.NoError(t, set.SetCPUs(affinity.Of(cpu)))
			pid := sleeper(t)
			require.NoError(t, set.AttachProcess(pid))
			t.Cleanup(func() { assert.NoError(t, h.Root().AttachProcess(pid)) })
		},
		func(t *testing.T) string {
			sys, cpu := lastCPU(t)
			h, err := cpuset.New("/")
			require.NoError(t, err)
			require.NoError(t, sys.SetOnline(cpu, false))
			require.NoError(t, sys.SetOnline(cpu, true))
			tasks := filepath.Join(h.Mount(), "machinetest/tasks")
			require.Eventually(t, func() bool { text, err := read(tasks); return err == nil && text == "" },
				10*time.Second, 10*time.Millisecond, "the kernel has not moved the task")
			return "/machinetest/cpuset.cpus is empty, was " + strconv.Itoa(cpu)
		}}.test(t)
}
