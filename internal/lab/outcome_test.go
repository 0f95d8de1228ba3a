package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// events makes a results.json of lines "action test", or "output text".
func events(lines ...string) []byte {
	var b strings.Builder
	for _, line := range lines {
		action, rest, _ := strings.Cut(line, " ")
		if action == "output" {
			b.WriteString(`{"Action":"output","Output":"` + rest + `\n"}` + "\n")
		} else {
			b.WriteString(`{"Action":"` + action + `","Test":"` + rest + `"}` + "\n")
		}
	}
	return []byte(b.String())
}

func TestParseOutcome(t *testing.T) {
	for _, tt := range []struct {
		name    string
		data    []byte
		want    Outcome
		noticed bool
	}{
		{
			name: "all pass",
			data: events("run TestA", "run TestA/x", "pass TestA/x", "skip TestA/y", "pass TestA", "pass "),
			want: Outcome{Tests: 1},
		},
		{
			name: "all below are skipped",
			data: events("run TestA", "run TestA/m/y", "skip TestA/m/y", "pass TestA/m", "pass TestA", "pass "),
		},
		{
			name:    "a failure, which those above it share",
			data:    events("pass TestA/m/x", "fail TestA/m/y", "fail TestA/m", "fail TestA", "pass TestB", "fail "),
			want:    Outcome{Tests: 3, Failed: []string{"TestA/m/y"}},
			noticed: true,
		},
		{
			name:    "a test with tests below it fails by itself",
			data:    events("pass TestA/x", "fail TestA", "fail "),
			want:    Outcome{Tests: 2, Failed: []string{"TestA"}},
			noticed: true,
		},
		{
			name:    "none of the tests, but the suite",
			data:    events("pass TestA", "fail TestMain", "fail "),
			want:    Outcome{Tests: 1, Failed: []string{Whole}},
			noticed: true,
		},
		{
			name: "the VM ends",
			data: events("pass TestA/x", "output vm: the kernel panicked while the program ran (Linux 6.1)",
				"output vm: | Kernel panic", "fail TestA/y", "fail TestA", "fail "),
			want:    Outcome{Tests: 2, Failed: []string{"TestA/y"}, Died: "the kernel panicked while the program ran (Linux 6.1)"},
			noticed: true,
		},
		{
			name:    "the VM ends in a test",
			data:    events("pass TestA/x", "run TestA/y", "output vm: the guest stands still for 1m30s: no sign of life (Linux 7.2)", "fail TestA/y"),
			want:    Outcome{Tests: 2, Failed: []string{"TestA/y"}, Died: "the guest stands still for 1m30s: no sign of life (Linux 7.2)"},
			noticed: true,
		},
		{
			name:    "no test",
			data:    events("output vm: poke: this kernel has no symbol f", "fail TestMain", "fail "),
			want:    Outcome{Died: "poke: this kernel has no symbol f"},
			noticed: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parseOutcome(bytes.NewReader(tt.data))
			require.NoError(t, err)
			assert.Equal(t, &tt.want, o)
			assert.Equal(t, tt.noticed, o.Noticed())
		})
	}
	_, err := parseOutcome(strings.NewReader("{"))
	assert.ErrorContains(t, err, `"{" is no test event: `)
	for _, cut := range [][]byte{nil, events("run TestA"), events("pass TestA", "run TestB"), events("pass TestA", "output vm: gone")} {
		_, err := parseOutcome(bytes.NewReader(cut))
		assert.EqualError(t, err, "the results stop before the end of the run", "%s", cut)
	}
}

func FuzzParseOutcome(f *testing.F) {
	f.Add(events("pass TestA/x", "fail TestA/y", "fail TestA", "fail "))
	f.Add(events("output vm: gone", "fail "))
	f.Add([]byte(`{"Action":"fail","Test":"/"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseOutcome(bytes.NewReader(data))
		if err != nil {
			return
		}
		assert.Equal(t, len(o.Failed) > 0 || o.Died != "", o.Noticed())
		_ = o.String()
	})
}

func TestReadOutcome(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	_, err := ReadOutcome(file)
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, events("fail TestA", "fail "), 0o644))
	o, err := ReadOutcome(file)
	require.NoError(t, err)
	assert.Equal(t, "TestA", o.String())
}

func TestCompact(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want string
	}{
		{"", ""},
		{"TestOnline/at-uevent/affinity/child-cpuset", "TestOnline/{affinity}"},
		{"TestOnline/at-uevent/affinity/child-cpuset TestOnline/at-return/affinity/root-cpuset TestOnline/at-return/runs/child-cpuset", "TestOnline/{affinity,runs}"},
		{"TestOnline/at-uevent/uevent TestSameValue/offline/at-return/uevent", "TestOnline/{uevent} TestSameValue/offline/{uevent}"},
		{"TestSuspend/mem/after-resume/online-mask TestStorm", "TestSuspend/mem/{online-mask} TestStorm"},
		{"TestOnline/at-return", "TestOnline"},
		{"TestRollback/online/143:sched:active/at-return/uevent TestRollback/online/9:x/at-return/node", "TestRollback/online/{uevent,node}"},
	} {
		assert.Equal(t, tt.want, strings.Join(Compact(strings.Fields(tt.in)), " "), tt.in)
	}
}
