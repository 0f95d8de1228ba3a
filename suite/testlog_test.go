package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/kmsg"
)

func TestTestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kmsg")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	say := func(text string) {
		_, err := file.WriteString("4,1,1000000,-;" + text + "\n")
		require.NoError(t, err)
	}
	log, err := kmsg.Open(path, kmsg.FromEnd)
	require.NoError(t, err)
	defer log.Close()
	k := &testLog{log: log}

	say("WARNING: before any test")
	k.begin()
	say("outer")
	k.begin()
	say("WARNING: inner")
	say("Call Trace:")
	inner := k.end()
	say("outer again")
	outer := k.end()
	assert.EqualError(t, inner.judge(), "the kernel's log has a complaint (warning):\n    [    1.000000] WARNING: inner\n    [    1.000000] Call Trace:")
	assert.NoError(t, outer.judge())
	assert.True(t, outer.nested)
	assert.Len(t, outer.tail, 2)
	assert.Empty(t, k.open)

	k.begin()
	say("x\nmalformed")
	assert.ErrorContains(t, k.end().judge(), "malformed")

	k.begin()
	assert.NoError(t, k.end().judge())
}

// However much the kernel says, little of it is kept.
func TestSaidIsBounded(t *testing.T) {
	var s said
	for i := range 10000 {
		s.add(kmsg.Record{Seq: uint64(i), Text: "WARNING: again"}, "warning")
	}
	assert.Len(t, s.lines, problemLines)
	assert.Len(t, s.tail, tailLines)
	assert.EqualValues(t, 9999, s.tail[tailLines-1].Seq)
	text := s.judge().Error()
	assert.True(t, strings.HasSuffix(text, "and 9920 lines more"), text)
}
