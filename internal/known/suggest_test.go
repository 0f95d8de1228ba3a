package known

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/internal/testjson"
)

// oneCrash are defects by which the kernel ends in the same place: only the test
// tells them apart.
var oneCrash = []string{"isolated-primary", "isolated-partition"}

// An entry that is suggested knows the failure that it is made of, and none of
// the others.
func TestSuggest(t *testing.T) {
	until := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, r := range recorded {
		t.Run(r.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", r.file+".txt"))
			require.NoError(t, err)
			output := string(data)
			f := Failure{Where: Where{Profile: r.profile, Arch: "amd64"}, Release: r.kernel, Test: r.test, Output: output, Tries: "1 of 3", Rare: true}
			if _, report, crashed := strings.Cut(output, "\nvm: "); crashed {
				f.Report = runnerPrefix + report
			}
			e, err := Suggest(f, profiles, until)
			require.NoError(t, err)
			text, err := Format([]Entry{e})
			require.NoError(t, err)
			l, _, err := load(t, string(text))
			require.NoError(t, err, "%s", text)
			again := func() *Matcher {
				m := l.Matcher(Where{Profile: r.profile, Arch: "amd64"})
				m.Kernel(r.kernel)
				return m
			}
			assert.Equal(t, e.ID, verdict(again(), r.test, output), "%s", text)
			renumbered := strings.NewReplacer("cpu1", "cpu2", "0xccccccccccccd3dc", "0xccccccccccccffff", "CPU: 3", "CPU: 1").Replace(output)
			assert.Equal(t, e.ID, verdict(again(), r.test, renumbered), "%s", text)
			assert.Equal(t, "new", verdict(again(), r.test, "    a.go:1: lost\n"+output))
			assert.Equal(t, "2027-03-01", e.Review)
			for _, other := range recorded {
				if other.id != r.id && !(slices.Contains(oneCrash, r.id) && slices.Contains(oneCrash, other.id)) {
					data, err := os.ReadFile(filepath.Join("testdata", other.file+".txt"))
					require.NoError(t, err)
					assert.Equal(t, "new", verdict(again(), r.test, string(data)), other.file)
				}
			}
		})
	}
}

// Of the failures of poked kernels, each is known by its own entry, and by few
// others': the same row can see the same in two runs.
func TestSuggestPoked(t *testing.T) {
	data, err := os.ReadFile("testdata/poked.json")
	require.NoError(t, err)
	made := 0
	for e, err := range testjson.Read(bytes.NewReader(data)) {
		require.NoError(t, err)
		if e.Action != "output" || len(Texts(e.Output)) == 0 || strings.Contains(e.Output, "\nvm: ") || strings.HasPrefix(e.Output, "vm: ") {
			continue
		}
		f := Failure{Where: Where{Profile: "default", Arch: "amd64"}, Release: "6.12.1", Test: e.Test, Output: e.Output, Tries: "3 of 3"}
		entry, err := Suggest(f, profiles, today)
		if err != nil {
			assert.ErrorContains(t, err, "is too broad", "%s", e.Output)
			continue
		}
		made++
		text, err := Format([]Entry{entry})
		require.NoError(t, err)
		l, _, err := load(t, string(text))
		require.NoError(t, err)
		m := l.Matcher(Where{Profile: "default", Arch: "amd64"})
		m.Kernel("6.12.1")
		assert.NotNil(t, m.Failed(e.Test, e.Output), "%s\n%s", text, e.Output)
	}
	assert.Greater(t, made, 50)
}

// The entry for a broken promise knows it also if another CPU breaks it, and in
// more probes.
func TestSuggestBroken(t *testing.T) {
	const text = "    trial.go:1: cpu0, at the return of the write of Online, from the child-cpuset: getaffinity\n            seen:     sched_getaffinity gives %s, but %s is online\n    trial.go:1: broken in %s\n"
	failure := func(cpus, cpu, broken string) string { return fmt.Sprintf(text, cpus, cpu, broken) }
	e, err := Suggest(Failure{
		Where: Where{Profile: "default", Arch: "amd64"}, Release: "6.1.0", Test: "TestA", Tries: "1 of 3",
		Output: failure("1-3", "cpu0", "1 of 2 probes; until it was kept: 1.000 ms"),
	}, profiles, today)
	require.NoError(t, err)
	list, err := Format([]Entry{e})
	require.NoError(t, err)
	l, _, err := load(t, string(list))
	require.NoError(t, err)
	for output, want := range map[string]string{
		failure("0,2-3", "cpu1", "2 of 2 probes; until it was kept: min 1.000 ms, median 1.000 ms, p99 1.000 ms, max 1.000 ms"): e.ID,
		failure("nothing", "cpu1", "2 of 2 probes"): "new",
	} {
		m := l.Matcher(Where{Profile: "default", Arch: "amd64"})
		m.Kernel("6.1.0")
		assert.Equal(t, want, verdict(m, "TestA", output))
	}
}

func TestSuggestError(t *testing.T) {
	_, err := Suggest(Failure{Test: "TestA", Output: "    a.go:1: x\n"}, profiles, today)
	assert.EqualError(t, err, "the kernel's release is not known")
	_, err = Suggest(Failure{Test: "TestA", Release: "6.1.0", Where: Where{Profile: "default"}}, profiles, today)
	assert.EqualError(t, err, "the test reports nothing")
}
