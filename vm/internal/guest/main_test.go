package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/internal/wire"
)

const kallsyms = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000040 t local
ffffffff81000040 T global
ffffffff81000080 t local
ffffffffc0002000 t local	[module]
ffffffff81000100 B last
`

func TestFind(t *testing.T) {
	found, err := find(strings.NewReader(kallsyms), []string{"local", "global", "nosuch", "module"})
	require.NoError(t, err)
	assert.Equal(t, map[string][]wire.Symbol{
		"local":  {{Address: 0xffffffff81000040, End: 0xffffffff81000080}, {Address: 0xffffffff81000080, End: 0xffffffff81000100}, {Address: 0xffffffffc0002000}},
		"global": {{Address: 0xffffffff81000040, End: 0xffffffff81000080}},
	}, found)
	_, err = find(strings.NewReader("(ptrval) T f\n"), []string{"f"})
	assert.ErrorContains(t, err, `"(ptrval) T f": strconv.ParseUint`)
}

func FuzzFind(f *testing.F) {
	f.Add(kallsyms, "local")
	f.Add("ffffffffffffffff T f\n0 T g", "f")
	f.Add("0", "")
	f.Fuzz(func(t *testing.T, text, symbol string) {
		found, err := find(strings.NewReader(text), []string{symbol})
		if err != nil {
			return
		}
		for name, list := range found {
			require.Equal(t, symbol, name)
			for _, s := range list {
				require.True(t, s.End == 0 || s.End > s.Address, "%+v", s)
			}
		}
	})
}
