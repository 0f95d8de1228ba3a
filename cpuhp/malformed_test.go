package cpuhp_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/cpuhp"
)

func TestParseStatesMalformed(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "no state"},
		{"\n", `line "\n" is not NUMBER: NAME`},
		{"  0 offline\n", `line "  0 offline\n" is not NUMBER: NAME`},
		{"  0: \n", `line "  0: \n" is not NUMBER: NAME`},
		{"  x: offline\n", `line "  x: offline\n": strconv.ParseUint`},
		{" -1: offline\n", `strconv.ParseUint: parsing "-1"`},
		{"  0: offline\n  0: again\n", `line "  0: again\n" comes after state 0`},
	} {
		_, err := cpuhp.ParseStates(tt.text)
		assert.ErrorContains(t, err, tt.want)
	}
}

// What no kernel writes is an error that names the file, and what is in it.
func TestMalformed(t *testing.T) {
	sys := sysfs(t, "broken")
	for _, tt := range []struct {
		path, text string
		err        error
	}{
		{"online", `"0-"`, second(sys.Online())},
		{"offline", `"x"`, second(sys.Offline())},
		{"present", `"3-1"`, second(sys.Present())},
		{"possible", `"70000"`, second(sys.Possible())},
		{"isolated", `"1-"`, second(sys.Isolated())},
		{"present", `"3-1"`, third(sys.Hotpluggable())},
		{"cpu0/online", `"2"`, second(sys.IsOnline(0))},
		{"cpu1/online", `""`, second(sys.IsOnline(1))},
		{"online", `"0-"`, second(sys.IsOnline(2))},
		{"cpu0/topology/thread_siblings_list", `"0 - 3"`, second(sys.ThreadSiblings(0))},
		{"hotplug/states", `"online"`, second(sys.States())},
		{"cpu0/hotplug/state", `""`, third(sys.State(0))},
		{"cpu1/hotplug/target", `"online"`, third(sys.State(1))},
		{"smt/active", `"yes"`, third(sys.SMT())},
	} {
		assert.ErrorContains(t, tt.err, "cpuhp: read "+attr("broken", tt.path)+": ")
		assert.ErrorContains(t, tt.err, tt.text)
	}
}

func second[T any](_ T, err error) error { return err }

func third[T, U any](_ T, _ U, err error) error { return err }

// A file need not fit in one read.
func TestLongFile(t *testing.T) {
	var text string
	for id := range 1000 {
		text += fmt.Sprintf("%3d: state%d\n", id, id)
	}
	sys, _ := tree(t, map[string]string{"hotplug/states": text})
	states, err := sys.States()
	require.NoError(t, err)
	require.Len(t, states, 1000)
	assert.Equal(t, cpuhp.State{ID: 999, Name: "state999"}, states[999])
}

func FuzzParseStates(f *testing.F) {
	for _, name := range []string{"x86", "arm64", "broken"} {
		text, err := os.ReadFile(attr(name, "hotplug/states"))
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		states, err := cpuhp.ParseStates(text)
		if err != nil {
			return
		}
		var printed string // as the kernel does
		for _, s := range states {
			printed += fmt.Sprintf("%3d: %s\n", s.ID, s.Name)
		}
		again, err := cpuhp.ParseStates(printed)
		require.NoError(t, err)
		require.Equal(t, states, again)
	})
}

// What a file of sysfs has that the kernel would not write there is an error
// that names the file, or a value of its type.
func FuzzFS(f *testing.F) {
	readers := []struct {
		file string
		read func(sys cpuhp.FS) error
	}{
		{"online", func(sys cpuhp.FS) error { _, err := sys.Online(); return err }},
		{"cpu1/online", func(sys cpuhp.FS) error { _, err := sys.IsOnline(1); return err }},
		{"cpu1/hotplug/state", func(sys cpuhp.FS) error { _, _, err := sys.State(1); return err }},
		{"cpu1/hotplug/target", func(sys cpuhp.FS) error { _, _, err := sys.State(1); return err }},
		{"cpu1/topology/thread_siblings_list", func(sys cpuhp.FS) error { _, err := sys.ThreadSiblings(1); return err }},
		{"hotplug/states", func(sys cpuhp.FS) error { _, err := sys.States(); return err }},
		{"smt/active", func(sys cpuhp.FS) error { _, _, err := sys.SMT(); return err }},
	}
	dir := f.TempDir()
	require.NoError(f, os.CopyFS(dir, os.DirFS("testdata/x86")))
	sys, err := cpuhp.New(dir)
	require.NoError(f, err)
	cpus := filepath.Join(dir, "sys/devices/system/cpu")
	for i, reader := range readers {
		for _, name := range []string{"x86", "broken"} {
			// What is broken there may be that the file is not there.
			if text, err := os.ReadFile(attr(name, reader.file)); err == nil {
				f.Add(i, string(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		reader := readers[uint(i)%uint(len(readers))]
		path := filepath.Join(cpus, reader.file)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		defer func() { require.NoError(t, os.WriteFile(path, before, 0o644)) }()
		if err := reader.read(sys); err != nil {
			require.ErrorContains(t, err, path)
		}
	})
}
