package explore

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A law about a state is judged when the state has changed, others always.
func TestUnchanged(t *testing.T) {
	judged := ""
	law := func(name string, state bool) Law {
		return Law{Name: name, State: state, Check: func(*Case) []Violation { judged += name; return nil }}
	}
	all := []Law{law("s", true), law("o", false)}
	for _, test := range []struct {
		before, after uint64
		want          string
	}{{1, 1, "o"}, {1, 2, "so"}, {0, 0, "so"}} {
		judged = ""
		Judge(all, Version{7, 2}, &Case{Before: &Snapshot{state: test.before}, After: &Snapshot{state: test.after}})
		assert.Equal(t, test.want, judged)
	}
}

// A law that a program outside judges is in tables as the others are.
func TestJudgedOutside(t *testing.T) {
	own := Law{Name: "own", Check: func(*Case) []Violation { return []Violation{{Touches: "it"}} }}
	broken := Judge([]Law{Survives, own}, Version{7, 2}, &Case{After: &Snapshot{}})
	assert.Equal(t, []Violation{{Law: "own", Touches: "it"}}, broken)
}
