package explore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadSequences(t *testing.T) {
	all, err := ReadSequences("# one\nmkdir $A\n\n\nmkdir $B\nrmdir $B\n")
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, []string{"mkdir $B", "rmdir $B"}, texts(all[1]))
	again, err := ReadSequences(FormatSequences(all...))
	require.NoError(t, err)
	assert.Equal(t, all, again)
}

// A damaged file is refused with the line that is wrong.
func TestReadSequencesRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "there is no step in it",
		"# nothing\n":            "there is no step in it",
		"mkdir $A\nrm -rf /\n":   "line 2",
		"mkdir $A\n\x00\x01\n":   "line 2",
		"mkdir $A\necho 1 > $A/": "",
	} {
		_, err := ReadSequences(text)
		if why == "" {
			assert.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrLine, "%q", text)
		assert.ErrorContains(t, err, why)
	}
}

func FuzzReadSequences(f *testing.F) {
	f.Add("mkdir $A\n\necho 1 > $A/x & rmdir $A & wait")
	f.Add("echo 0 > /sys/devices/system/cpu/cpu1/online; taskset -p f $T1")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ReadSequences(text)
		if err != nil {
			return
		}
		again, err := ReadSequences(FormatSequences(all...))
		require.NoError(t, err)
		assert.Equal(t, all, again)
	})
}
