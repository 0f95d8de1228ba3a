package suite

import (
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a program has set stays unless the command line has it.
func TestFlags(t *testing.T) {
	want := Options{
		CPUs: "2-3", AllCPUs: true, Cycles: 7, Cpusets: 100, Soak: time.Second, Require: "x", MustTest: true,
		SoakContinue: true, Settle: time.Second, Destructive: true, Sleep: true,
	}
	o := want
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	o.Flags(flags)
	require.NoError(t, flags.Parse(nil))
	assert.Equal(t, want, o)
	require.NoError(t, flags.Parse([]string{"-cycles=3", "-soak=1m", "-cpus=1"}))
	assert.Equal(t, 3, o.Cycles)
	assert.Equal(t, time.Minute, o.Soak)
	assert.Equal(t, "1", o.CPUs)

	require.NoError(t, o.CheckFlags(flags))
	require.NoError(t, flags.Parse([]string{"-cpus="}))
	require.EqualError(t, o.CheckFlags(flags), "-cpus: no CPU is given: leave the flag out if it may be any")

	var zero Options
	zero.Flags(flag.NewFlagSet("test", flag.ContinueOnError))
	assert.Equal(t, Options{Cycles: 1, Cpusets: 5000}, zero)
}

// What cannot be is said by the flag's name, and nothing is tested.
func TestCheckOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"-cycles -3: ":    {Cycles: -3},
		"-cpusets -1: ":   {Cpusets: -1},
		"-soak -1m0s: ":   {Soak: -time.Minute},
		"-settle -1s: ":   {Settle: -time.Second},
		`-cpus "3-1": `:   {CPUs: "3-1"},
		"-require error ": {Require: "("},
		"-known open ":    {Known: []string{filepath.Join(t.TempDir(), "none")}},
	} {
		_, err := Open(o)
		assert.ErrorContains(t, err, want)
		assert.False(t, IsUnsupported(err), "it is not skipped")
	}
	assert.NoError(t, (&Options{}).Check())
}
