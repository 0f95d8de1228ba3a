package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/vm"
)

func newHunt(dir string) *hunt {
	return &hunt{name: "sid", source: "Debian sid", all: &findings{dir: dir}, options: &options{seed: 5}, again: make(map[string]int)}
}

const finding = `{"Finding":{"Violation":{"Law":"domains","Touches":"it","Seen":"s"},"Steps":["mkdir $A"],"Results":[""],"Shown":1,"Tried":1}}` + "\n"

// What a guest tells comes in any pieces. A finding is on disk as soon as it is
// known.
func TestSession(t *testing.T) {
	h := newHunt(t.TempDir())
	s := &session{hunt: h}
	text := `{"Begin":{"Number":7,"Why":"explore","Lines":["mkdir $A","rmdir $A"]}}` + "\n" + `{"Step":1}` + "\n" +
		finding + "vm: what init says\n" + `{"Again":"domains: it"}` + "\n" + `{"Stats":{"Steps":9}}` + "\n"
	for i := range len(text) {
		n, err := s.Write([]byte{text[i]})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	assert.Equal(t, uint64(8), h.next)
	assert.Equal(t, 1, s.step)
	assert.Equal(t, 9, s.stats.Steps)
	assert.Equal(t, 1, h.again["domains: it"])
	assert.Equal(t, "domains: it", h.all.keys())
	assert.FileExists(t, filepath.Join(h.all.dir, "domains-it", "repro.sh"))
}

// A finding that cannot be written ends the run, and is not lost: it was
// printed.
func TestCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	h := newHunt(file)
	_, err := (&session{hunt: h}).Write([]byte(finding))
	require.ErrorContains(t, err, "not a directory")
	assert.ErrorIs(t, h.all.failed, err)
	assert.Len(t, h.all.list, 1)
}

// What a sequence has left is told of without the results of its steps.
func TestWithoutResults(t *testing.T) {
	h := newHunt(t.TempDir())
	_, err := (&session{hunt: h}).Write([]byte(strings.Replace(finding, `"Results":[""],`, "", 1)))
	require.NoError(t, err)
	assert.Len(t, h.all.list, 1)
}

// A kernel that does not survive is a finding of the steps that had begun, told
// apart by the function that it died in.
func TestCrashFinding(t *testing.T) {
	s := &session{hunt: newHunt(t.TempDir()), step: 1, begin: explore.Begin{Number: 3, Lines: []string{"mkdir $A", "mkdir $B", "rmdir $B"}}}
	f := crashFinding(s, &vm.Failure{What: "the kernel panicked while the program ran (Linux 7.2)", Console: "Oops\nRIP: 0010:partition_sched_domains+0x1/0x2\nCR2: 0"})
	assert.Equal(t, "survives: crash in partition_sched_domains", f.Violation.Key())
	assert.Equal(t, []string{"mkdir $A", "mkdir $B"}, f.Steps)
	f = crashFinding(s, &vm.Failure{What: "it was not done after 5m0s: thread 17 (Linux 7.2)"})
	assert.Equal(t, "survives: it was not done after NmNs: thread N", f.Violation.Key())
	require.NoError(t, s.hunt.all.add(s.hunt, f))
}

// A finding that spoiled its machine is kept until it can be reduced in fresh
// ones, and is what was seen there last.
func TestShown(t *testing.T) {
	h := newHunt(t.TempDir())
	s := &session{hunt: h}
	spoiler := strings.Replace(finding, "Finding", "Spoiler", 1)
	tried := `{"Begin":{"Number":1,"Why":"replay","Lines":["mkdir $B"]}}` + "\n" +
		`{"Tried":{"Number":1,"Steps":["mkdir $B"],"Results":["EEXIST"],"Broken":[{"Law":"domains","Touches":"it","Seen":"later"}]}}` + "\n"
	_, err := s.Write([]byte(spoiler + tried))
	require.NoError(t, err)
	require.Len(t, s.spoilers, 1)
	assert.Empty(t, h.all.list)
	f := s.spoilers[0]
	require.True(t, s.shown(f))
	assert.Equal(t, "later", f.Violation.Seen)
	assert.Equal(t, []string{"EEXIST"}, f.Results)

	f.Violation.Law = "another"
	assert.False(t, s.shown(f))
	f.Violation.Law = "domains"
	s.begin.Number = 2 // which the machine did not come back from
	assert.False(t, s.shown(f))
	assert.False(t, (&session{}).shown(f))
}

// A machine that dies while a finding is reduced in it does not take the finding
// along.
func TestDiedWhileReducing(t *testing.T) {
	h := newHunt(t.TempDir())
	s := &session{hunt: h}
	_, err := s.Write([]byte(`{"Begin":{"Number":7,"Why":"explore","Lines":["mkdir $A","rmdir $A"]}}` + "\n" +
		`{"Broken":{"Law":"domains","Touches":"it","Seen":"s"}}` + "\n" + `{"Begin":{"Why":"shrink","Lines":["rmdir $A"]}}` + "\n"))
	require.NoError(t, err)
	require.Len(t, s.unfinished(), 1)
	f := s.unfinished()[0]
	assert.Equal(t, "domains: it", f.Violation.Key())
	assert.Equal(t, []string{"mkdir $A", "rmdir $A"}, f.Steps)
	assert.Equal(t, uint64(7), f.Number)
	_, err = s.Write([]byte(finding))
	require.NoError(t, err)
	assert.Empty(t, s.unfinished())
}

// What a finding shows besides is not looked for again in the next machine.
func TestKeys(t *testing.T) {
	h := newHunt(t.TempDir())
	_, err := (&session{hunt: h}).Write([]byte(strings.Replace(finding, `"Steps"`, `"Also":["domains: more"],"Steps"`, 1)))
	require.NoError(t, err)
	assert.Equal(t, "domains: it\ndomains: more", h.all.keys())
}

// What an earlier run has found is not taken for a finding of this one. What
// somebody else has put there stays.
func TestForget(t *testing.T) {
	out := t.TempDir()
	h := newHunt(filepath.Join(out, "findings"))
	long := strings.Replace(finding, `"it"`, `"`+strings.Repeat("it", 100)+`"`, 1)
	_, err := (&session{hunt: h}).Write([]byte(finding + long + strings.Replace(finding, "domains", "topology", 1)))
	require.NoError(t, err)
	found, err := os.ReadDir(h.all.dir)
	require.NoError(t, err)
	require.Len(t, found, 3)
	write := func(path, text string) string {
		path = filepath.Join(h.all.dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	stay := []string{
		write("topology-it/notes.txt", "mine"),
		write("renamed/sequence.txt", "# domains: it\nmkdir $A\n"),
		write("given/sequence.txt", "mkdir $A\n"),
		write("sequence.txt", "# domains: it\nmkdir $A\n"),
	}
	_, err = (&options{vm: vm.Options{Out: out}, replay: filepath.Join(h.all.dir, "domains-it/sequence.txt")}).findings()
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(h.all.dir, "domains-it", "repro.sh"), "it may be what is replayed")
	_, err = (&options{vm: vm.Options{Out: out}}).findings()
	require.NoError(t, err)
	for _, path := range stay {
		assert.FileExists(t, path)
	}
	all, err := filepath.Glob(filepath.Join(h.all.dir, "*"))
	require.NoError(t, err)
	assert.Len(t, all, len(stay))
	assert.NoFileExists(t, filepath.Join(h.all.dir, "topology-it", "repro.sh"))
	_, err = (&options{vm: vm.Options{Out: t.TempDir()}}).findings()
	require.NoError(t, err)
}
