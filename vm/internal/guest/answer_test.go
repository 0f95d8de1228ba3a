package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	e := examiner{began: make(map[string]int), ended: make(chan string)}
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
		answered <- answer(pings, &sender{to: wire.NewSender(&line)}, func() []check { looks++; return nil })
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
