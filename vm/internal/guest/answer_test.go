package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

// A check that does not end is named when it has been under way for long, also
// when it is no longer in the list: its CPU went offline. None is begun again
// before it has ended.
func TestExamine(t *testing.T) {
	began := make(map[string]int)
	block := make(chan struct{})
	defer close(block)
	var list []check
	for _, what := range []string{"hangs", "works"} {
		began[what] = 0
		list = append(list, check{what, func() {
			if what == "hangs" {
				<-block
			}
		}})
	}
	e := newExaminer(nil, func() map[string]string { return nil })
	e.list = func() (all []check) {
		for _, c := range list {
			if _, ok := e.began[c.what]; !ok {
				began[c.what]++
			}
			all = append(all, c)
		}
		return all
	}
	for range wire.StuckAfter {
		assert.Empty(t, e.examine())
		e.waitFor("works")
	}
	list = list[1:]
	assert.Equal(t, []string{"hangs"}, e.examine())
	assert.Equal(t, map[string]int{"hangs": 1, "works": wire.StuckAfter + 1}, began)
}

// A system call that does not end is named as soon as it has been seen for long.
// One that is another each time is not: the thread goes on.
// A thread that a check has pinned is gone when the check is, though nobody asks
// any more.
func TestExamineLeavesNoThread(t *testing.T) {
	threads := make(chan int, 1)
	pins := check{"a check", func() {
		runtime.LockOSThread()
		threads <- unix.Gettid()
	}}
	newExaminer(func() []check { return []check{pins} }, func() map[string]string { return nil }).examine()
	thread := fmt.Sprintf("/proc/self/task/%d", <-threads)
	assert.Eventually(t, func() bool {
		_, err := os.Stat(thread)
		return err != nil
	}, 10*time.Second, time.Millisecond)
}

func TestExamineBlocked(t *testing.T) {
	turn := 0
	e := newExaminer(func() []check { return nil }, func() map[string]string {
		turn++
		return map[string]string{"7 1": "a system call of hung", fmt.Sprintf("8 %d", turn): "one of a thread that works"}
	})
	for range wire.StuckAfter {
		assert.Empty(t, e.examine())
	}
	assert.Equal(t, []string{"a system call of hung"}, e.examine())
}

func TestBlocked(t *testing.T) {
	proc := t.TempDir()
	for _, thread := range []struct{ dir, stat, wchan string }{
		{"1/task/1", "1 (init) S 0 1 1 0 -1 4194560", "0"},
		{"1/task/9", "9 (init) D 0 1 1 0 -1 4194560", "synchronize_rcu"}, // a check
		{"2/task/2", "2 (kthreadd) S 0 0 0 0 -1 2129984", "0"},
		{"10/task/10", "10 (kworker/0:1) D 2 0 0 0 -1 69238880", "cpuhp_kick_ap"},
		{"158/task/158", "158 (hotplugtest.tes) Z 1 158 158 0 -1 4228364", "0"}, // its leader has ended
		{"158/task/173", "173 (a ) D S) D 1 158 158 0 -1 4194368", "__flush_work"},
		{"158/task/174", "174 (hotplugtest.tes) D 1 158 158 0 -1 4194368", "0"},
		{"159/task/159", "159 (cut", ""},
	} {
		dir := filepath.Join(proc, thread.dir)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, text := range map[string]string{
			"stat": thread.stat, "wchan": thread.wchan, "status": "Name:\tx\nvoluntary_ctxt_switches:\t42\nnonvoluntary_ctxt_switches:\t7\n",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
	}
	assert.Equal(t, map[string]string{
		"173 42": "a system call of a ) D S, thread 173 (__flush_work)",
		"174 42": "a system call of hotplugtest.tes, thread 174",
	}, blocked(proc, 1))
}

// waitFor waits for the end of a check.
func (e *examiner) waitFor(what string) {
	for ended := ""; ended != what; {
		ended = <-e.ended
		delete(e.began, ended)
	}
}

// Bytes that came together are one ping, as those that waited while the guest
// slept.
func TestAnswer(t *testing.T) {
	pings, host := io.Pipe()
	var line bytes.Buffer
	answered := make(chan error)
	looks := 0
	go func() {
		e := newExaminer(func() []check { looks++; return nil }, func() map[string]string { return nil })
		answered <- answer(pings, &sender{to: wire.NewSender(&line)}, e, func([]byte) {})
	}()
	for _, ping := range []string{".", "?", ".", "..?.."} {
		_, err := io.WriteString(host, ping)
		require.NoError(t, err)
	}
	require.NoError(t, host.Close())
	assert.ErrorIs(t, <-answered, io.EOF)
	assert.Equal(t, 2, looks)
	receiver := wire.NewReceiver(&line, 1<<20)
	for range 4 {
		m, err := receiver.Receive()
		require.NoError(t, err)
		assert.NotNil(t, m.Pong)
	}
	_, err := receiver.Receive()
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// On this machine each check ends.
func TestKernelChecks(t *testing.T) {
	checks := kernelChecks()
	require.Greater(t, len(checks), 1)
	for _, c := range checks {
		done := make(chan struct{}) // its thread ends with it
		go func() { defer close(done); c.do() }()
		<-done
		assert.True(t, strings.HasPrefix(c.what, "a"), c.what)
	}
}

// What is typed is no ping, whatever it is, and however it comes.
func TestKeys(t *testing.T) {
	all := []byte{wire.Ping, wire.Keys, 3, wire.Ping, wire.Keys, wire.Examine, wire.Examine, wire.Keys, 1, 'x', wire.Keys, 0, wire.Ping}
	for size := 1; size <= len(all); size++ {
		var keys keysReader
		var pings, text []byte
		for part := range slices.Chunk(all, size) {
			p, k := keys.split(part)
			pings, text = append(pings, p...), append(text, k...)
		}
		assert.Equal(t, []byte{wire.Ping, wire.Examine, wire.Ping}, pings)
		assert.Equal(t, []byte{wire.Ping, wire.Keys, wire.Examine, 'x'}, text)
	}
}
