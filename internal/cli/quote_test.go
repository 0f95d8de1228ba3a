package cli

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuoted(t *testing.T) {
	assert.Equal(t, "-poke f=ret 'g=e8{h}'", Quoted("-poke", "f=ret", "g=e8{h}"))
	words := []string{"a b", "it's", "$HOME", "", `\`, "x=1,2"}
	shell := exec.Command("sh", "-c", "for word in "+Quoted(words...)+`; do printf '<%s>' "$word"; done`)
	out, err := shell.Output()
	require.NoError(t, err)
	assert.Equal(t, `<a b><it's><$HOME><><\><x=1,2>`, string(out))
}
