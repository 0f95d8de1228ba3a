package known

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	today    = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	profiles = []string{"default", "isolcpus", "isolcpus-one", "isolcpus-suspend", "nohz_full", "numa", "lowres-modules"}
)

func load(t *testing.T, text string) (*Loader, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	l := &Loader{Profiles: profiles, Today: today}
	return l, file, l.Load(file)
}

const good = `"id": "one", "test": "TestOffline/.*", "kernels": [{"from": "6.12"}], "symptom": "EBUSY", "why": "it is busy", "review": "2026-12-01"`

// Each fault is a line with the file and the entry.
func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, faults string }{
		{"good", `{"known": [{` + good + `}]}`, ""},
		{"none", `{"known": []}`, ""},
		{"empty", ``, `FILE: it is empty, and must be {"known": […]}`},
		{"no list", `{}`, `FILE: it has no list "known"`},
		{"cut short", "{\"known\": [\n{", `FILE: line 2: it ends too early`},
		{"no JSON", "{\n\n\"known\": [}", `FILE: line 3: invalid character '}' looking for beginning of value`},
		{"another list", `{"unknown": []}`, `FILE: line 1: unknown field "unknown"`},
		{"no object", `[]`, `FILE: line 1: cannot unmarshal array into Go value of type struct { Known []json.RawMessage "json:\"known\"" }`},
		{"two lists", `{"known": []} {}`, `FILE: line 1: text after the end of the list`},
		{"a wrong name", `{"known": [{"id": "a", "tset": "x"}]}`, `FILE: entry a: unknown field "tset"`},
		{"a wrong type", `{"known": [{"id": "a", "most": "1"}]}`, `FILE: entry a: cannot unmarshal string into Go struct field Entry.most of type int`},
		{
			"nothing given", `{"known": [{}]}`,
			"FILE: entry 1: it has no id\n" +
				"FILE: entry 1: test: it is missing\n" +
				"FILE: entry 1: kernels: give ranges of kernels, or a suite\n" +
				"FILE: entry 1: symptom: it is missing\n" +
				"FILE: entry 1: why: say what the defect is\n" +
				"FILE: entry 1: review: give the last day on which this may be taken as known, as in 2027-06-01",
		},
		{"twice", `{"known": [{` + good + `}, {` + good + `}]}`, "FILE: entry one: id: FILE has an entry of this id already"},
		{"an ID", `{"known": [{` + strings.Replace(good, `"one"`, `"One Two"`, 1) + `}]}`, "FILE: entry One Two: id: it must be lower-case letters, digits and hyphens"},
		{"any test", `{"known": [{` + strings.Replace(good, `TestOffline/.*`, `Test.*`, 1) + `}]}`, `FILE: entry one: test: "Test.*" is too broad: it matches "TestNoSuchTransition/at-return/no-such-row/child-cpuset" too`},
		{"no expression", `{"known": [{` + strings.Replace(good, `TestOffline/.*`, `TestOffline/(`, 1) + `}]}`, "FILE: entry one: test: error parsing regexp: missing closing ): `TestOffline/(`"},
		{"no expression in brackets", `{"known": [{` + strings.Replace(good, `TestOffline/.*`, `\\QTestOffline/b`, 1) + `}]}`, "FILE: entry one: test: error parsing regexp: missing closing ): `^(?:\\QTestOffline/b)$`"},
		{"any text", `{"known": [{` + strings.Replace(good, `EBUSY`, `.*`, 1) + `}]}`, `FILE: entry one: symptom: ".*" is too broad: it matches "cpu9, at the return of the write of Nothing, from the root-cpuset: no-row" too`},
		{"any warning", `{"known": [{` + strings.Replace(good, `EBUSY`, `WARNING: CPU`, 1) + `}]}`, `FILE: entry one: symptom: "WARNING: CPU" is too broad: it matches "the kernel's log has a complaint (warning):\n[    1.000000] ------------[ cut here ]------------\n[    1.000001] WARNING: CPU: 9 PID: 9 at kernel/none.c:9 none+0x9/0x9" too`},
		{"anything beside", `{"known": [{` + good + `, "beside": "the operation failed"}]}`, `FILE: entry one: beside: "the operation failed" is too broad: it matches "Nothing of cpu9: the operation failed" too`},
		{"a release", `{"known": [{` + strings.Replace(good, `6.12`, `v6.12`, 1) + `}]}`, `FILE: entry one: kernels: from: "v6.12" is no release such as 6.12 or 6.12.30`},
		{"a range", `{"known": [{` + strings.Replace(good, `"from": "6.12"`, `"from": "6.12", "until": "6.9"`, 1) + `}]}`, `FILE: entry one: kernels: from 6.12 until 6.9 has no kernel in it`},
		{"any range", `{"known": [{` + strings.Replace(good, `"from": "6.12"`, ``, 1) + `}]}`, `FILE: entry one: kernels: a range has neither from nor until`},
		{"uname's name", `{"known": [{` + good + `, "arch": "x86_64"}]}`, `FILE: entry one: arch: "x86_64" is none of amd64, arm64, loong64, ppc64le, riscv64, s390x`},
		{"a profile", `{"known": [{` + good + `, "profiles": ["isolcpu"]}]}`, `FILE: entry one: profiles: "isolcpu" is none of default, isolcpus, isolcpus-one, isolcpus-suspend, nohz_full, numa, lowres-modules`},
		{"less than one", `{"known": [{` + good + `, "most": -1}]}`, `FILE: entry one: most: -1 is less than one test`},
		{"a date", `{"known": [{` + strings.Replace(good, `2026-12-01`, `1.12.2026`, 1) + `}]}`, `FILE: entry one: review: "1.12.2026" is no date such as 2027-06-01`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, file, err := load(t, tt.text)
			if tt.faults == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, strings.ReplaceAll(tt.faults, "FILE", file))
		})
	}
	l := &Loader{}
	assert.EqualError(t, l.Load("/nonexistent/known.json"), "open /nonexistent/known.json: no such file or directory")
	dir := t.TempDir()
	assert.EqualError(t, l.Load(dir), "read "+dir+": is a directory")
}

func TestReleases(t *testing.T) {
	for _, tt := range []struct {
		from, until, release string
		want                 bool
	}{
		{"6.12", "6.13", "6.12.117+deb13-amd64", true},
		{"6.12", "6.13", "6.12-rc3", true},
		{"6.12", "6.13", "6.13.0", false},
		{"6.12", "6.13", "6.2.0", false},
		{"6.12.30", "", "6.12.4-1", false},
		{"6.12.30", "", "6.12.30", true},
		{"", "6.1.5", "6.1.4-50-amd64", true},
		{"", "6.1.5", "6.1.5", false},
		{"7.0", "", "7.2.13+deb14-amd64", true},
		{"7.0", "", "", false},
		{"7.0", "", "unknown", false},
	} {
		list, err := spans([]Range{{tt.from, tt.until}})
		require.NoError(t, err)
		assert.Equal(t, tt.want, list[0].has(releaseOf(tt.release)), "%s in %s until %s", tt.release, tt.from, tt.until)
	}
}

// An entry counts to the end of its last day. After that it is said that it
// does not.
func TestExpired(t *testing.T) {
	l, file, err := load(t, `{"known": [{`+good+`}]}`)
	require.NoError(t, err)
	assert.Empty(t, l.Expired())

	l = &Loader{Today: today.AddDate(0, 0, 1)}
	require.NoError(t, l.Load(file))
	assert.Equal(t, []string{file + ": one was to be reviewed by 2026-12-01: it is ignored"}, l.Expired())
	m := l.Matcher(Where{})
	m.Kernel("6.12")
	assert.Nil(t, m.Failed("TestOffline/x", "    a.go:1: EBUSY\n"))
	m.Passed("TestOffline/x")
	assert.Empty(t, m.Gone())
}
