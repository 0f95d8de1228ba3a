package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hotplugtest/hotplugtest/vm/kernel"
)

// A kernel that cannot boot here is refused option by option, if its
// configuration is there.
func TestRequire(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	for name, m := range machines {
		t.Run(name, func(t *testing.T) {
			vm := &VM{opts: Options{Kernel: "dir"}, image: &kernel.Image{}}
			require.NoError(t, vm.Require("it", m.needs()...), "nobody knows")
			vm.image.Config = config
			all := "CONFIG_" + strings.Join(m.needs(), "=y\nCONFIG_") + "=y\n"
			require.NoError(t, os.WriteFile(config, []byte(all), 0o644))
			require.NoError(t, vm.Require("it", m.needs()...))
			lacking := strings.NewReplacer("CONFIG_TTY=y\n", "", "_CONSOLE=y", "_CONSOLE=m").Replace(all)
			require.NoError(t, os.WriteFile(config, []byte(lacking), 0o644))
			assert.EqualError(t, vm.Require("it", m.needs()...),
				"kernel dir lacks what it needs built in: CONFIG_TTY is not set, CONFIG_"+m.serial[1]+"=m")
		})
	}
}
