package report

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// columns is for a page of all kernels and profiles, 36, which takes an emulated
// processor ten minutes.
var columns = flag.Int("columns", 3, "`number` of kernels and profiles on the page of TestSize")

// big is the directory of a run on so many kernels and profiles, with 1000 rows
// each, of which every bad-th fails.
func big(t testing.TB, dir string, columns, bad int) string {
	var lines []string
	for k := range columns {
		column := fmt.Sprintf("kernel-%d/profile-%d", k/12, k%12)
		for n := range 1000 {
			test := fmt.Sprintf("%s TestTransition%d/at-return/promise-of-the-kernel-%d/child-cpuset ", column, n/30, n%30)
			lines = append(lines, test+"time-to-return-ns: 41000000 52000000", test+"time-to-uevent-ns: 4000000 5000000",
				test+"cycle: uevent 4ms, look 5ms, return 41ms")
			switch {
			case (k*7+n)%bad == 0:
				lines = append(lines, test+"window-ns: 5200000 25690000", test+"fail "+strings.Repeat("what was seen of the kernel, line after line\n        ", 30))
			case n%50 == 1:
				lines = append(lines, test+"skip there is no such thing in this kernel, whose number is "+fmt.Sprint(n%7))
			default:
				lines = append(lines, test+"pass")
			}
		}
	}
	return results(t, dir, lines...)
}

// Even if everything fails, the page stays small enough to be opened.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes some seconds")
	}
	begin := time.Now()
	text := html(t, big(t, t.TempDir(), *columns, 1))
	t.Logf("%d bytes, made in %v", len(text), time.Since(begin))
	assert.Less(t, len(text), 3_000_000)
	cells := regexp.MustCompile(`<td class="?[a-z]`).FindAllString(text, -1)
	assert.Len(t, cells, *columns*1000)
}
