package system_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pinScript pins interrupts by hand: each that somebody can move, to the CPUs
// in turn, so that no two that follow one another have the same. It prints how
// many those are. Interrupts that the kernel manages refuse.
const pinScript = `
cpu=0 pinned=0
for dir in $(ls -d /proc/irq/[0-9]* | sort -V); do
	[ -n "$(find "$dir" -mindepth 1 -type d)" ] || continue
	echo $cpu 2>/dev/null >"$dir/smp_affinity_list" || continue
	pinned=$((pinned + 1)) cpu=$(((cpu + 1) % 4))
done
echo $pinned`

// pin is done before each case that irqbalance does not run in.
func (g *guest) pin(t *testing.T) {
	t.Helper()
	var pinned int
	_, err := fmt.Sscan(g.must(t, "root", pinScript), &pinned)
	require.NoError(t, err)
	require.Greater(t, pinned, 10, "there are too few interrupts to pin")
}

// suspends runs the tests that suspend. Drivers free their interrupts then and
// request them again: they have other numbers, and the kernel forgets where
// they were pinned to.
func suspends(t *testing.T, g *guest) {
	const numbers = `for dir in /proc/irq/[0-9]*; do echo ${dir##*/} $(cd "$dir" && ls -d */ 2>/dev/null); done`
	before := g.must(t, "root", numbers)
	out, code := g.run(t, "root", static("TestSuspend"))
	assert.NotEqual(t, before, g.must(t, "root", numbers), "no interrupt has another number than before, so this was no test")
	passes(t, out, code)
}
