package busybox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A busybox for another architecture comes from Debian's mirror, wherever the
// package has it, and stays in the cache.
func TestFind(t *testing.T) {
	cache, programs := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("PATH", programs)
	path := filepath.Join(cache, "hotplugtest", "busybox-arm64", "bin", "busybox")
	_, err := Find(t.Context(), "arm64")
	assert.EqualError(t, err, "there is no static busybox for arm64: put one at "+path+
		", or see to it that Debian's can be had: no Debian mirror: no apt-get here")

	for name, text := range map[string]string{
		"apt-get": `case $1 in
indextargets) echo "http://mirror/debian/|Debian|Debian|main" ;;
update) ;;
download) /bin/grep -q 'arch=arm64 ' "${4%apt.conf}sources.list" && echo "$@" >busybox.deb ;;
*) exit 9 ;;
esac`,
		"dpkg-deb": `/bin/mkdir -p "$3/usr/bin" && /bin/cp "$2" "$3/usr/bin/busybox"`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(programs, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	found, err := Find(t.Context(), "arm64")
	require.NoError(t, err)
	assert.Equal(t, path, found)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(text), "busybox-static")
	assert.NoDirExists(t, filepath.Join(cache, "hotplugtest", "busybox-arm64", "apt"), "package lists are large")

	_, err = Find(t.Context(), "s390x")
	assert.ErrorContains(t, err, "can be had: there is busybox for amd64 and arm64, not for ")
}
