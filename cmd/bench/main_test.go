package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/machine"
)

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

// A kernel's path is relative to where the script was called.
func TestParse(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bzImage"), nil, 0o644))
	for name, want := range map[string]string{"bzImage": dir + "/bzImage", "./linux": dir + "/linux", "sid": "sid"} {
		b, err := parse([]string{"-C", dir, "-kernel", name})
		require.NoError(t, err)
		assert.Equal(t, want, b.kernel)
	}
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name         string
		ours, theirs []int64
		result       string
		missed       bool
	}{
		{name: "at the goal", ours: []int64{105, 1, 900}, theirs: []int64{100}, result: "1.05 x"},
		{name: "beyond it", ours: []int64{106}, theirs: []int64{100, 1000, 1}, result: "1.06 x", missed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := compare("it", 1.05, tt.ours, tt.theirs, "in C")
			assert.Equal(t, tt.result, r.result)
			assert.Equal(t, tt.missed, r.missed)
		})
	}
	r := compare("it", 1, []int64{3e6, 1e6, 2e6}, []int64{4e6}, "in C")
	assert.Equal(t, "median 2.00 ms (1.00 ms to 3.00 ms, 3 runs); in C: median 4.00 ms (4.00 ms to 4.00 ms, 1 runs)", r.runs)
}

func TestReadResults(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var r selftestRun
	require.NoError(t, r.read(strings.NewReader(`{"Time":"2026-01-02T03:04:05Z","Action":"start"}
{"Time":"2026-01-02T03:04:09.5Z","Action":"run","Test":"TestOnline"}
{"Time":"2026-01-02T03:04:10Z","Action":"run","Test":"TestOnline/at-uevent"}
{"Time":"2026-01-02T03:04:11Z","Action":"attr","Test":"TestOnline/at-uevent","Key":"probes","Value":"25"}
{"Time":"2026-01-02T03:04:11Z","Action":"attr","Test":"TestOnline/at-uevent","Key":"broken","Value":"24"}
{"Time":"2026-01-02T03:04:11Z","Action":"attr","Test":"TestOnline/at-return","Key":"probes","Value":"25"}
{"Time":"2026-01-02T03:04:11Z","Action":"attr","Test":"TestOnline/at-return","Key":"broken","Value":"25"}
{"Time":"2026-01-02T03:04:11Z","Action":"attr","Test":"TestOnline/at-return","Key":"kernel","Value":"6.1"}
{"Time":"2026-01-02T03:04:12Z","Action":"fail","Test":"TestOnline"}
`), start))
	assert.Equal(t, selftestRun{first: 4500 * time.Millisecond, tests: 2, broken: 49, probes: 50}, r)
	assert.Error(t, r.read(strings.NewReader(`{"Action":"attr","Key":"probes","Value":"many"}`), start))
	assert.Error(t, r.read(strings.NewReader("no JSON\n"), start))
}
