package explore

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A known finding is known in its kernels alone, and nothing else is.
func TestKnown(t *testing.T) {
	const key = "task-in-cpuset: a CPU that came online, and a task in a member"
	assert.True(t, IsKnown(KnownIn(Version{6, 12}), key))
	assert.False(t, IsKnown(KnownIn(Version{6, 1}), key))
	assert.False(t, IsKnown(KnownIn(Version{6, 12}), "task-in-cpuset: a task in a member"))
	assert.False(t, IsKnown(KnownIn(Version{6, 12}), "domains: it"))
	assert.False(t, IsKnown(KnownIn(Version{6, 12}), "kernel-log: warning in cpuset_attach_task_work"), "it is another function")
}

// Each known finding breaks a law that there is, and has a sequence that shows
// it in one of its kernels, or a row of the suite.
func TestKnownAreShown(t *testing.T) {
	recordings, err := Recordings("testdata/findings")
	require.NoError(t, err)
	require.NotEmpty(t, recordings)
	shown := make(map[string]bool)
	for _, k := range known {
		law, _, _ := strings.Cut(k.Key, ": ")
		_, err := find(append(laws, Survives), law)
		assert.NoError(t, err)
		if k.Row != "" {
			continue // the tests of the suite's tables look for it
		}
		found := false
		for _, r := range recordings {
			if r.Shows(k) {
				found, shown[r.Name] = true, true
			}
		}
		assert.True(t, found, "no file in testdata/findings shows %q in %v", k.Key, k.Defect.Kernels)
	}
	for _, r := range recordings {
		if law, _, _ := strings.Cut(r.Key, ": "); law != "cpu-files" { // the suite's defects have it
			assert.True(t, shown[r.Name], "no known finding has the key of %s in %v: %s", r.Name, r.Version, r.Key)
		}
	}
}

func TestRecordings(t *testing.T) {
	all, err := Recordings(t.TempDir())
	assert.NoError(t, err)
	assert.Empty(t, all)
	_, err = Recordings("testdata/no-findings")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestRecording(t *testing.T) {
	const steps = "\nmkdir $A\n"
	r := &Recording{}
	require.NoError(t, r.parse("# domains: it\n# also undone: that\n# on trixie, Linux 6.12\n# profile smt"+steps))
	assert.Equal(t, &Recording{Key: "domains: it", Also: []string{"undone: that"}, Kernel: "trixie", Version: Version{6, 12}, Profile: "smt"}, r)
	in := func(key string, major int) Known { return finding(key, "", series(major, 12)) }
	assert.True(t, r.Shows(in("undone: that", 6)))
	assert.False(t, r.Shows(in("undone: th", 6)))
	assert.True(t, r.Shows(in("undone: th*", 6)))
	assert.False(t, r.Shows(in("undone: that", 7)), "it was shown in another kernel")
	for _, bad := range []string{"", "# domains: it", "# on trixie, Linux 6.12", "# a: b\n# on trixie", "# a: b\n# c: d\n# on trixie, Linux 6.12"} {
		assert.Error(t, (&Recording{}).parse(bad+steps), bad)
	}
}
