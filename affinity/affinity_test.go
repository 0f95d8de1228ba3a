package affinity_test

import (
	"errors"
	"math/bits"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
)

// These tests pin threads of their own, to CPUs that they have already. They
// need no privilege and leave nothing behind.

// absent is a CPU that no kernel has: the most that one can be configured for
// is 8192.
const absent = 60000

func TestGet(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		want, err := affinity.ParseList(statusField(t, "Cpus_allowed_list"))
		require.NoError(t, err)
		for _, tid := range []int{0, unix.Gettid()} {
			got, err := affinity.Get(tid)
			require.NoError(t, err)
			assert.False(t, got.Empty())
			// Not Equal: the mask in status has CPUs that are offline as well.
			assert.True(t, got.Difference(want).Empty(), "%q is not all in %q", got, want)
		}
		return nil
	}))
}

func TestSet(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(t, err)
		for cpu := range mine.All() {
			require.NoError(t, affinity.Set(0, affinity.Of(cpu)))
			got, err := affinity.Get(0)
			require.NoError(t, err)
			assert.Equal(t, affinity.Of(cpu).String(), got.String())
			on, _, err := affinity.Current()
			require.NoError(t, err)
			assert.Equal(t, cpu, on, "runs there when Set returns")
		}
		require.NoError(t, affinity.Set(unix.Gettid(), mine))
		got, err := affinity.Get(0)
		require.NoError(t, err)
		assert.Equal(t, mine.String(), got.String())
		return nil
	}))
}

func TestSetErrors(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(t, err)

		err = affinity.Set(0, affinity.Of(absent))
		assert.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, `sched_setaffinity of the calling thread `)
		assert.ErrorContains(t, err, ` to CPUs "60000": EINVAL (`)

		err = affinity.Set(0, affinity.CPUSet{})
		assert.ErrorIs(t, err, unix.EINVAL)

		got, err := affinity.Get(0)
		require.NoError(t, err)
		assert.Equal(t, mine.String(), got.String(), "changed by a Set that failed")

		assert.NoError(t, affinity.Set(0, mine.With(absent)), "one CPU that exists is enough")
		return nil
	}))
}

func TestNoSuchThread(t *testing.T) {
	const tid = 1<<31 - 1 // above the largest pid_max

	_, err := affinity.Get(tid)
	assert.ErrorIs(t, err, unix.ESRCH)
	assert.ErrorContains(t, err, "affinity: sched_getaffinity of thread 2147483647: ESRCH (")

	err = affinity.Set(tid, affinity.Of(0))
	assert.ErrorIs(t, err, unix.ESRCH)
	assert.ErrorContains(t, err, `affinity: sched_setaffinity of thread 2147483647 to CPUs "0": ESRCH (`)
}

func TestSetDoesNotAllocate(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(t, err)
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			err = errors.Join(err, affinity.Set(0, mine))
		}))
		return err
	}))
}

// A kernel that may have more CPUs than fit says EINVAL until the mask is large
// enough, as sched_getaffinity(2) of a machine with 4096 CPUs does.
func TestGetGrows(t *testing.T) {
	kernel := func(cpus int) func([]uint) unix.Errno {
		return func(mask []uint) unix.Errno {
			if len(mask)*bits.UintSize < cpus {
				return unix.EINVAL
			}
			mask[(cpus-1)/bits.UintSize] |= 1 << ((cpus - 1) % bits.UintSize)
			return 0
		}
	}
	for _, cpus := range []int{1, 64, 1024, 1025, 4096, 8192, 65536} {
		set, errno := affinity.Grow(kernel(cpus))
		require.Zero(t, errno, "%d CPUs", cpus)
		assert.Equal(t, affinity.Of(cpus-1).String(), set.String())
	}

	_, errno := affinity.Grow(kernel(1 << 20))
	assert.Equal(t, unix.EINVAL, errno, "a kernel beyond MaxCPU")

	calls := 0
	_, errno = affinity.Grow(func([]uint) unix.Errno { calls++; return unix.ESRCH })
	assert.Equal(t, unix.ESRCH, errno)
	assert.Equal(t, 1, calls, "tried again after an errno that is not about the size")
}

func TestCurrent(t *testing.T) {
	require.NoError(t, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(t, err)
		cpu, node, err := affinity.Current()
		require.NoError(t, err)
		assert.True(t, mine.Has(cpu), "runs on CPU %d, may run on %q", cpu, mine)
		assert.GreaterOrEqual(t, node, 0)
		return nil
	}))
}

func BenchmarkSet(b *testing.B) {
	require.NoError(b, affinity.Thread(func() error {
		mine, err := affinity.Get(0)
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			if err := affinity.Set(0, mine); err != nil {
				return err
			}
		}
		return nil
	}))
}

func BenchmarkThread(b *testing.B) {
	for b.Loop() {
		if err := affinity.Thread(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// statusField returns a field of /proc/thread-self/status.
func statusField(t *testing.T, name string) string {
	t.Helper()
	status, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	require.Fail(t, "no "+name+" in /proc/thread-self/status")
	return ""
}
