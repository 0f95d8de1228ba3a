package explore

import (
	"slices"
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
