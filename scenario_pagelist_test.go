//go:build !selftest

package hotplugtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePageLists(t *testing.T) {
	zones, err := parsePageLists(`Node 0, zone    DMA32
  pages free     231
        boost    0
        min      11086
        low      13857
        high     16628
        managed  242554
  pagesets
    cpu: 0
              count:    12
              high:     4682
              batch:    63
              high_min: 3464
              high_max: 7579
  vm stats threshold: 24
Node 1, zone   Normal
  pages free     231
        low      300
    cpu: 0
              count:    12
              high:     378
              batch:    63
`)
	require.NoError(t, err)
	assert.Equal(t, map[string]pageLists{"Node 0, zone DMA32": {0, 13857, 3464, 63}, "Node 1, zone Normal": {1, 300, 0, 63}}, zones)

	_, err = parsePageLists("Node 0, zone Normal\n high_min: many\n")
	assert.ErrorContains(t, err, "Node 0, zone Normal")
}
