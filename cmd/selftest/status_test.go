package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is printed is above the status, and what is under way is not torn apart
// by it. A screen is what it is, whatever was erased on the way.
func TestLastLine(t *testing.T) {
	var out strings.Builder
	width := 20
	l := &lastLine{w: &out, width: func() int { return width }}
	said := func() string { text := out.String(); out.Reset(); return text }
	print := func(text string) { _, err := io.WriteString(l, text); require.NoError(t, err) }

	print("PASS a\n")
	assert.Equal(t, "PASS a\n", said(), "there is no status yet")
	l.set("bookworm: 1 of 9")
	assert.Equal(t, eraseLine+"bookworm: 1 of 9", said())
	l.set("bookworm: 1 of 9")
	assert.Empty(t, said(), "it is shown already")
	print("PASS b\n")
	assert.Equal(t, eraseLine+"PASS b\nbookworm: 1 of 9", said())
	print("half a ")
	l.set("bookworm: 2 of 9")
	print("line\n")
	assert.Equal(t, eraseLine+"half a line\nbookworm: 2 of 9", said())
	l.set("ünd: " + strings.Repeat("x", 40))
	assert.Equal(t, eraseLine+"ünd: "+strings.Repeat("x", 14), said(), "the terminal would wrap it")
	l.set("")
	print("DONE\n")
	assert.Equal(t, eraseLine+"DONE\n", said())

	width = 0
	l.set("bookworm")
	print("PASS c\n")
	assert.Equal(t, "PASS c\n", said(), "no terminal, no status")
}

// A file, or a pipe, is no terminal.
func TestNoLastLine(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	l := newLastLine(f, false)
	assert.False(t, l.shows())
	l.set("status")
	_, err = io.WriteString(l, "PASS\n")
	require.NoError(t, err)
	data, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	assert.Equal(t, "PASS\n", string(data))
}

func TestCopyProgress(t *testing.T) {
	var out strings.Builder
	l := &lastLine{w: &out, width: func() int { return 80 }}
	l.copyProgress(strings.NewReader("soak: 5s\n" + statusMark + "bookworm\nsoak: 10s\n"))
	assert.Equal(t, "soak: 5s\n"+eraseLine+"bookworm"+eraseLine+"soak: 10s\nbookworm", out.String())
}

func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		name string
		vms  []earlier
		do   func(p *progress)
		want string
	}{
		{"the first run", make([]earlier, 1), func(p *progress) { p.ended(0, "TestA") }, "bookworm: 1 tests, 0 failed: TestB"},
		{"half", []earlier{{10 * time.Second, 4}}, func(p *progress) { p.ended(0, "TestA"); p.ended(0, "TestA"); p.fail() }, "bookworm: 2 of 4 tests, 1 failed, about 5s left: TestB"},
		{"more tests than before", []earlier{{10 * time.Second, 1}}, func(p *progress) { p.ended(0, "TestA"); p.ended(0, "TestA") }, "bookworm: 2 tests, 0 failed, about 0s left: TestB"},
		{"several", []earlier{{10 * time.Second, 4}, {20 * time.Second, 4}, {30 * time.Second, 4}}, func(p *progress) { p.ended(1, "TestA"); p.ended(1, ""); p.atOnce = 2 }, "bookworm (1 of 3 done): 0 of 4 tests, 0 failed, about 20s left: TestB"},
		{"one of them is new", []earlier{{10 * time.Second, 4}, {}}, func(p *progress) {}, "bookworm (0 of 2 done): 0 of 4 tests, 0 failed: TestB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			p := newProgress(&out, tt.vms, 1)
			tt.do(p)
			p.running(0, "hotplugtest/bookworm", "TestB")
			assert.Equal(t, statusMark+tt.want+"\n", out.String())
		})
	}
	var none *progress
	none.running(0, "", "")
	none.ended(0, "")
	none.fail()
}

// The status is not told more often than anybody can read it.
func TestProgressOften(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, make([]earlier, 1), 1)
	now := time.Unix(1000, 0)
	p.now = func() time.Time { return now }
	for range 1000 {
		p.running(0, "p", "TestA")
		now = now.Add(time.Millisecond)
	}
	assert.Equal(t, 10, strings.Count(out.String(), "\n"))
}

// Events of a VM count tests and failures: a group that fails with one below it
// is no failure of its own.
func TestProgressCount(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, []earlier{{time.Minute, 10}}, 1)
	p.now = func() time.Time { return time.Unix(int64(out.Len()+1), 0) }
	f := &forReports{w: io.Discard, results: io.Discard, progress: io.Discard, status: p}
	_, err := f.Write([]byte(events(t, "TestA run", "TestA/b run", "TestA/b fail", "TestA/c run", "TestA/c pass", "TestA fail", "TestB run", "TestB fail", "TestC run")))
	require.NoError(t, err)
	all := strings.Split(strings.TrimSpace(out.String()), "\n")
	assert.Equal(t, statusMark+"p: 4 of 10 tests, 2 failed, about 36s left: TestC", all[len(all)-1])
	assert.Equal(t, 4, f.tests)
}
