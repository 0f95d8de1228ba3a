package profile

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNamed(t *testing.T) {
	most, err := Named("all")
	require.NoError(t, err)
	var names, apart []string
	for _, p := range most {
		names = append(names, p.Name)
	}
	for _, p := range All() {
		if p.Apart {
			apart = append(apart, p.Name)
		}
	}
	assert.ElementsMatch(t, Names(), append(names, apart...))
	assert.Equal(t, []string{"isolcpus-suspend", "modules", "lowres-modules", "msr", "sched-ext"}, apart)
	assert.Equal(t, Default, names[0])
	for _, name := range append(names, apart...) {
		one, err := Named(name)
		require.NoError(t, err)
		require.Len(t, one, 1)
		assert.Equal(t, name, one[0].Name)
	}
	_, err = Named("")
	assert.Error(t, err)
}

// A profile that is named twice is one.
func TestFlag(t *testing.T) {
	var list []Profile
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	Flag(flags, &list)
	require.NoError(t, flags.Parse([]string{"-profile", "smt", "-profile", "numa", "-profile", "smt"}))
	require.Len(t, list, 2)
	assert.Equal(t, "sid/smt", list[0].Of("sid"))
	assert.Equal(t, "sid", all[0].Of("sid"))
}
