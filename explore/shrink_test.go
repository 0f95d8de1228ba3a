package explore

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func lines(t *testing.T, texts ...string) []Line {
	t.Helper()
	all, err := parseLines(texts)
	require.NoError(t, err)
	return all
}

// What is needed is left, in its order, and each line that is not is gone.
// Lines of several commands become simpler.
func TestShrink(t *testing.T) {
	sequence := lines(t, "mkdir $C", "mkdir $A", "echo 1 > $A/x", "rmdir $C", "mkdir $B", "echo 2 > $A/x & echo 3 > $B/x & wait", "rmdir $B", "rmdir $A")
	needed := []string{"mkdir $A", "echo 3 > $B/x", "rmdir $A"}
	shows := func(part []Line) bool {
		next := 0
		for _, l := range part {
			for _, c := range l.Commands {
				if next < len(needed) && c.String() == needed[next] {
					next++
				}
			}
		}
		return next == len(needed)
	}
	batches := 0
	got := Shrink(sequence, func(candidates [][]Line) int {
		batches++
		return slices.IndexFunc(candidates, shows)
	})
	assert.Equal(t, needed, texts(got))
	assert.Less(t, batches, 25)
}

// A cgroup of v1 is made with its CPUs and memory nodes in one line, of which
// those that are not needed go.
func TestShrinkMkdir(t *testing.T) {
	made := lines(t, "mkdir $A; echo 0-1 > $A/cpuset.cpus; echo 0 > $A/cpuset.mems")
	needs := func(command string) func(candidates [][]Line) int {
		return func(candidates [][]Line) int {
			return slices.IndexFunc(candidates, func(part []Line) bool { return strings.Contains(strings.Join(texts(part), "; "), command) })
		}
	}
	assert.Equal(t, []string{"mkdir $A"}, texts(Shrink(made, needs("mkdir"))))
	assert.Equal(t, []string{"mkdir $A; echo 0-1 > $A/cpuset.cpus"}, texts(Shrink(made, needs("cpuset.cpus"))))
	fail := lines(t, "echo 3 > /sys/devices/system/cpu/cpu1/hotplug/fail; echo 0 > /sys/devices/system/cpu/cpu1/online; echo -1 > /sys/devices/system/cpu/cpu1/hotplug/fail")
	assert.Equal(t, fail, Shrink(fail, needs("fail")))
}

// What shows only sometimes, and not while it is reduced, stays as it is.
func TestShrinkNothing(t *testing.T) {
	sequence := lines(t, "mkdir $A", "rmdir $A", "mkdir $B")
	assert.Equal(t, sequence, Shrink(sequence, func([][]Line) int { return -1 }))
	one := sequence[:1]
	assert.Equal(t, one, Shrink(one, func([][]Line) int { return 0 }))
}

// A step that shows something for a moment is repeated with its undoing
// between.
func TestAgain(t *testing.T) {
	all := again(lines(t, "mkdir $A", "echo 1 > /sys/devices/system/cpu/cpu3/online"))
	assert.Len(t, all, 2+2*repeats)
	assert.Equal(t, "echo 0 > /sys/devices/system/cpu/cpu3/online", all[2].String())
	assert.Equal(t, "echo 1 > /sys/devices/system/cpu/cpu3/online", all[3].String())
	assert.Len(t, again(lines(t, "mkdir $A")), 1)
}
